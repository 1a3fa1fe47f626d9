package clienttest

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Server is the state of the server, without any I/O. Sessions connect to it.
// All methods may be called concurrently.
type Server struct {
	// Now is the server's clock.
	Now func() pim.Millis
	// Set, if not nil, returns pim.Moment.Set: when the clock was set.
	Set func() pim.Millis
	// DropPush, if set, decides which pushes are lost. The session is told with
	// the next pong.
	DropPush func() bool
	// Reject, if set, may refuse a message before it takes effect.
	Reject func(*wirepb.PIMSendReq) *pim.Error
	// Admit, if set, may refuse a Hello. The close code follows from the error's kind.
	Admit func(*wirepb.Hello) *pim.Error
	// Store is the identity of the store, in Welcome.
	Store string
	// EditWindow and RecallWindow say for how long a message can be edited, and recalled by its
	// sender. 0: not at all.
	EditWindow, RecallWindow pim.Millis
	// Limits are those of Welcome.
	Limits wirepb.Limits

	mu       sync.Mutex
	logs     map[pim.ConversationID]*log
	devices  map[deviceKey]*device
	sessions map[deviceKey]*Session
}

type log struct {
	entries []pim.Entry
	periods map[pim.UserID][]period // of a group: which seqs each user may read
	order   map[pim.UserID]*pim.Anchors
	times   pim.Times
	ids     map[pim.ClientMessageID]pim.Seq
	count   uint64
	folds   map[pim.Seq]pim.Fold // of messages that others refer to
	front   pim.Seq              // entries before it were removed by retention
}

// period is a stretch of seqs that a user may read; to is 0 while the user is a member.
type period struct{ from, to pim.Seq }

type deviceKey struct {
	user   pim.UserID
	device pim.DeviceID
}

func (k deviceKey) compare(other deviceKey) int {
	return cmp.Or(cmp.Compare(k.user, other.user), cmp.Compare(k.device, other.device))
}

type device struct {
	serial uint64
	acked  map[pim.ConversationID]pim.Seq
	fronts map[pim.ConversationID]pim.Seq // that the device has not acknowledged
}

// NewServer returns an empty server whose clock is now.
func NewServer(now func() pim.Millis) *Server {
	return &Server{
		Now:        now,
		EditWindow: 24 * 60 * 60_000, RecallWindow: 2 * 60_000,
		Limits:   wirepb.Limits{InFlight: 32, IdleMs: 60_000},
		logs:     make(map[pim.ConversationID]*log),
		devices:  make(map[deviceKey]*device),
		sessions: make(map[deviceKey]*Session),
	}
}

// Log returns the entries of c.
func (s *Server) Log(c pim.ConversationID) []pim.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.logs[c]; l != nil {
		return slices.Clone(l.entries)
	}
	return nil
}

// Trim removes the entries of c up to the seq upTo, as retention does. Log still has them.
func (s *Server) Trim(c pim.ConversationID, upTo pim.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log(c).front = upTo + 1
	for key, d := range s.devices {
		if slices.Contains(s.conversations(key.user), c) {
			d.fronts[c] = upTo + 1
		}
	}
}

// Untold returns the front of c if the device of user has not acknowledged it, else 0.
func (s *Server) Untold(user pim.UserID, dev pim.DeviceID, c pim.ConversationID) pim.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.device(deviceKey{user, dev}).fronts[c]
}

// Front returns the seq of the first entry of c that was not trimmed.
func (s *Server) Front(c pim.ConversationID) pim.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.logs[c]; l != nil {
		return max(l.front, 1)
	}
	return 1
}

// Readable returns the entries of c that user may read.
func (s *Server) Readable(c pim.ConversationID, user pim.UserID) []pim.Entry {
	front := s.Front(c)
	return slices.DeleteFunc(s.Written(c, user), func(e pim.Entry) bool { return e.Seq < front })
}

// Written returns what Readable does, and what user might read before it was trimmed.
func (s *Server) Written(c pim.ConversationID, user pim.UserID) []pim.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[c]
	if l == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(l.entries), func(e pim.Entry) bool { return !l.reads(c, user, e.Seq) })
}

// Conversations returns the IDs of all logs of which user may read something.
func (s *Server) Conversations(user pim.UserID) []pim.ConversationID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conversations(user)
}

// All returns the IDs of all logs.
func (s *Server) All() []pim.ConversationID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.logs))
}

// Acked returns the seq up to which a device has acknowledged c.
func (s *Server) Acked(user pim.UserID, dev pim.DeviceID, c pim.ConversationID) pim.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.device(deviceKey{user, dev}).acked[c]
}

// Fold returns what the entries of c have made of the message at seq.
func (s *Server) Fold(c pim.ConversationID, seq pim.Seq) pim.Fold {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.logs[c]; l != nil {
		return l.folds[seq]
	}
	return pim.Fold{}
}

// Append appends a message of user to c, from the device "elsewhere".
func (s *Server) Append(c pim.ConversationID, user pim.UserID, id pim.ClientMessageID, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.append(deviceKey{user, "elsewhere"}, &wirepb.PIMSendReq{
		Conversation: string(c), ClientMessageId: id[:], LocalMs: int64(s.Now()), Payload: payload,
	})
	return err
}

func (s *Server) conversations(user pim.UserID) []pim.ConversationID {
	var ids []pim.ConversationID
	for c, l := range s.logs {
		if l.newest(c, user) > 0 {
			ids = append(ids, c)
		}
	}
	slices.Sort(ids)
	return ids
}

func (s *Server) device(k deviceKey) *device {
	d := s.devices[k]
	if d == nil {
		d = &device{acked: make(map[pim.ConversationID]pim.Seq), fronts: make(map[pim.ConversationID]pim.Seq)}
		s.devices[k] = d
	}
	return d
}

func (s *Server) log(c pim.ConversationID) *log {
	l := s.logs[c]
	if l == nil {
		l = &log{
			periods: make(map[pim.UserID][]period),
			order:   make(map[pim.UserID]*pim.Anchors),
			ids:     make(map[pim.ClientMessageID]pim.Seq),
			folds:   make(map[pim.Seq]pim.Fold),
		}
		s.logs[c] = l
	}
	return l
}

func (l *log) reads(c pim.ConversationID, user pim.UserID, seq pim.Seq) bool {
	if a, b, ok := c.DirectUsers(); ok {
		return user == a || user == b
	}
	if owner, own := c.OwnUser(); own {
		return user == owner
	}
	return slices.ContainsFunc(l.periods[user], func(p period) bool {
		return seq >= p.from && (p.to == 0 || seq <= p.to)
	})
}

// owner returns the member who has been in the group for longest. If one entry made
// several users members, it is the user that the entry names first.
func (l *log) owner() (owner pim.UserID) {
	for i := range l.entries {
		for _, u := range l.entries[i].Members {
			if p := l.periods[u]; len(p) > 0 && p[len(p)-1].to == 0 && p[len(p)-1].from == l.entries[i].Seq {
				return u
			}
		}
	}
	return ""
}

func (l *log) member(c pim.ConversationID, user pim.UserID) bool {
	if !c.IsGroup() {
		return l.reads(c, user, 1)
	}
	p := l.periods[user]
	return len(p) > 0 && p[len(p)-1].to == 0
}

// newest returns the newest seq that user may read, 0 if there is none.
func (l *log) newest(c pim.ConversationID, user pim.UserID) pim.Seq {
	last := pim.Seq(len(l.entries))
	if c.IsGroup() {
		p := l.periods[user]
		if len(p) == 0 {
			return 0
		}
		if to := p[len(p)-1].to; to != 0 {
			return to
		}
		return last
	}
	if l.reads(c, user, 1) {
		return last
	}
	return 0
}

// mark returns the seq of user's newest message, or of the entry that made user a member if
// that is newer, and the counting messages up to it.
func (l *log) mark(c pim.ConversationID, user pim.UserID) (own, count uint64) {
	for _, e := range l.entries {
		wrote := e.Kind == pim.EntryMessage && e.Sender == user
		joined := (e.Kind == pim.EntryCreate || e.Kind == pim.EntryJoin) && slices.Contains(e.Members, user)
		if (wrote || joined) && l.reads(c, user, e.Seq) {
			own, count = uint64(e.Seq), e.Count
		}
	}
	return own, count
}

// append appends the entry that req asks for.
func (s *Server) append(from deviceKey, req *wirepb.PIMSendReq) (pim.Entry, error) {
	id, ok := wire.ClientID(req.ClientMessageId)
	if !ok {
		return pim.Entry{}, pim.Errorf(pim.KindInvalid, "client message ID of %d bytes", len(req.ClientMessageId))
	}
	c := pim.ConversationID(req.Conversation)
	e := pim.Entry{
		Kind: pim.EntryKind(max(req.Kind, 1)), Sender: from.user, Device: from.device,
		ClientID: id, Local: pim.Millis(req.LocalMs), Payload: req.Payload,
		Refers: pim.Seq(req.Refers), Reaction: req.Reaction, Removed: req.Removed, MentionAll: req.MentionAll,
		Retain: pim.Millis(req.RetainMs),
	}
	if e.Kind == pim.EntryCreate {
		c = pim.NewGroup(from.user, id)
	}
	if err := c.Validate(); err != nil {
		return pim.Entry{}, err
	}
	if err := s.allows(&e, c); err != nil {
		return pim.Entry{}, err
	}
	l := s.log(c)
	if e.Kind != pim.EntryCreate && !l.member(c, from.user) {
		return pim.Entry{}, pim.Errorf(pim.KindNotMember, "user %s is not a member of %s", from.user, c)
	}
	others := func(u string) bool { return u != string(from.user) }
	if e.Kind == pim.EntryLeave && l.owner() != from.user && slices.ContainsFunc(req.Members, others) {
		return pim.Entry{}, pim.Errorf(pim.KindForbidden, "only the owner of %s removes others", c)
	}
	if e.Kind == pim.EntryRetain && c.IsGroup() && l.owner() != from.user {
		return pim.Entry{}, pim.Errorf(pim.KindForbidden, "only the owner of %s says for how long its messages are kept", c)
	}
	e.Conversation, e.Seq = c, pim.Seq(len(l.entries)+1)
	if err := s.refer(l, &e); err != nil {
		return pim.Entry{}, err
	}
	if err := s.position(&e); err != nil {
		return pim.Entry{}, err
	}
	var err error
	if e.Members, err = l.changed(&e, req.Members); err != nil {
		return pim.Entry{}, err
	}
	l.mention(&e, req.Mentions)
	said := pim.Sending{Local: e.Local, Attempt: req.Attempt, Age: pim.Millis(req.AgeMs)}
	l.append(&e, said, s.moment())
	s.push(l, e)
	s.tellLookers(&e)
	return e, nil
}

func (s *Server) moment() pim.Moment {
	at := pim.Moment{Now: s.Now()}
	if s.Set != nil {
		at.Set = s.Set()
	}
	return at
}

// changed returns those of the named users whose membership e changes, each once. It adds
// the sender to the names of a creation, and to those of a leaving that names nobody.
func (l *log) changed(e *pim.Entry, named []string) ([]pim.UserID, error) {
	if e.Kind == pim.EntryCreate || e.Kind == pim.EntryLeave && len(named) == 0 {
		named = append([]string{string(e.Sender)}, named...)
	}
	var users []pim.UserID
	for _, name := range named {
		u := pim.UserID(name)
		p := l.periods[u]
		present := len(p) > 0 && p[len(p)-1].to == 0
		if present == (e.Kind == pim.EntryLeave) && !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	if len(named) > 0 && len(users) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "%s changes nothing", e.Kind)
	}
	return users, nil
}

// allows checks that a user's own log takes commands and nothing else does, and that the
// other user of a direct conversation does not block the sender.
func (s *Server) allows(e *pim.Entry, c pim.ConversationID) error {
	if _, own := c.OwnUser(); own != (e.Kind == pim.EntryCommand) {
		return pim.Errorf(pim.KindInvalid, "a user's own log takes commands, and nothing else does")
	}
	if e.Kind == pim.EntryCommand {
		_, err := wire.ParseCommand(e.Payload)
		return err
	}
	a, b, ok := c.DirectUsers()
	if !ok || a == b || e.Sender != a && e.Sender != b {
		return nil
	}
	other := a
	if e.Sender == a {
		other = b
	}
	block := pim.Command{Kind: pim.CommandBlock, Subject: string(e.Sender)}
	if set := s.settings(other)[block.Entity()]; set.InForce(s.Now()) && e.Kind != pim.EntryErase {
		return pim.Errorf(pim.KindForbidden, "user %s is blocked", e.Sender)
	}
	return nil
}

// Settings returns what the commands of user have come to.
func (s *Server) Settings(user pim.UserID) map[string]pim.Setting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings(user)
}

func (s *Server) settings(user pim.UserID) map[string]pim.Setting {
	settings := make(map[string]pim.Setting)
	l := s.logs[pim.Own(user)]
	if l == nil {
		return settings
	}
	for _, e := range l.entries {
		if c, err := wire.ParseCommand(e.Payload); err == nil {
			set := settings[c.Entity()]
			set.Apply(&c, e.Seq, e.Device)
			settings[c.Entity()] = set
		}
	}
	return settings
}

// position checks that the sender of a read command may read the entry that it names, and
// writes into it the count there and what mentions the sender; of a seq that was trimmed, those at the
// last one that was, or that the sender could read. A position in force that is beyond the conversation gives way.
func (s *Server) position(e *pim.Entry) error {
	if e.Kind != pim.EntryCommand {
		return nil
	}
	cmd, err := wire.ParseCommand(e.Payload)
	if err != nil || cmd.Kind != pim.CommandRead {
		return err
	}
	c := pim.ConversationID(cmd.Subject)
	l := s.logs[c]
	if l == nil || cmd.Seq > l.newest(c, e.Sender) || !l.reads(c, e.Sender, cmd.Seq) {
		return pim.Errorf(pim.KindInvalid, "user %s cannot read seq %d of %s", e.Sender, cmd.Seq, c)
	}
	at := min(max(cmd.Seq+1, l.front)-1, l.newest(c, e.Sender))
	cmd.Count, cmd.Named, cmd.All = l.entries[at-1].Count, l.named(e.Sender, at), l.mentionsAll(at)
	cmd.Replaces = s.settings(e.Sender)[cmd.Entity()].Seq > l.newest(c, e.Sender)
	e.Payload = wire.AppendCommand(nil, &cmd)
	return nil
}

// superseded returns the seqs that pulls of user's own log leave out: commands that a
// later one has replaced, except the last that removed its entity.
func (s *Server) superseded(user pim.UserID, c pim.ConversationID) map[pim.Seq]bool {
	l := s.logs[c]
	if l == nil || c != pim.Own(user) {
		return nil
	}
	settings, out := s.settings(user), make(map[pim.Seq]bool)
	for _, e := range l.entries {
		if cmd, err := wire.ParseCommand(e.Payload); err == nil {
			set := settings[cmd.Entity()]
			out[e.Seq] = e.Seq < set.At && e.Seq != set.Deleted
		}
	}
	return out
}

func (l *log) append(e *pim.Entry, said pim.Sending, at pim.Moment) {
	for _, u := range e.Members {
		p := l.periods[u]
		present := len(p) > 0 && p[len(p)-1].to == 0
		switch {
		case e.Kind == pim.EntryLeave && present:
			p[len(p)-1].to = e.Seq
		case e.Kind != pim.EntryLeave && !present:
			l.periods[u] = append(p, period{from: e.Seq})
		}
	}
	if e.Kind == pim.EntryMessage {
		l.count++
	}
	if l.order[e.Sender] == nil {
		l.order[e.Sender] = new(pim.Anchors)
	}
	e.Count = l.count
	e.Server, e.Ahead = l.times.Stamp(at)
	order := l.times.Order(said, l.order[e.Sender].Latest())
	if order != e.OrderTime() {
		e.Order = order
	}
	e.Anchor = l.order[e.Sender].Next(e.Seq, order, e.Server)
	l.entries = append(l.entries, *e)
	l.ids[e.ClientID] = e.Seq
	l.fold(e)
}

// push hands e to every session that may read it, except that of the device that sent e.
// It asks DropPush in the order of the devices, so that a schedule can be repeated.
func (s *Server) push(l *log, e pim.Entry) {
	frame := wire.AppendPush(nil, e.Conversation, [][]byte{wire.AppendEntry(nil, &e)})
	for _, key := range slices.SortedFunc(maps.Keys(s.sessions), deviceKey.compare) {
		x := s.sessions[key]
		if key == (deviceKey{e.Sender, e.Device}) || !l.reads(e.Conversation, key.user, e.Seq) {
			continue
		}
		if s.DropPush != nil && s.DropPush() {
			x.behind = true
			continue
		}
		_, m, err := wire.Decode(frame)
		if err != nil {
			panic(err) // it was just encoded
		}
		x.push(m)
	}
}
