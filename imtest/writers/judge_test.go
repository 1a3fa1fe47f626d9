package writers

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// judge says what was wrong in a run.
type judge struct {
	book     *book
	store    store.Store // as it is at the end
	logs     map[pim.ConversationID]*log
	requests map[pim.ClientMessageID]*request
	history  *imtest.History // for the checker of package imtest; nil: a new one
	trimmed  trimmed
	inOrder  bool // trips of one writer reached it in the order in which they were sent
	found    []string
}

func (j *judge) fail(format string, args ...any) {
	j.found = append(j.found, fmt.Sprintf(format, args...))
}

// check returns what was wrong, nil if nothing was. The run is over, and nothing is under way.
func (j *judge) check(conversations []pim.ConversationID) []string {
	j.logs, j.requests = make(map[pim.ConversationID]*log), make(map[pim.ClientMessageID]*request)
	for _, r := range j.book.requests {
		j.requests[r.ClientID] = r
	}
	for _, c := range conversations {
		l, err := readLog(j.store, c, j.trimmed.entries[c])
		if err != nil {
			return []string{err.Error()}
		}
		if l.front > 1 && !slices.Contains(j.trimmed.fronts[c], l.front) {
			j.fail("%s is trimmed up to seq %d, and nobody meant that", c, l.front-1)
		}
		g := group{}
		l.groups = []group{g}
		for i := range l.entries {
			g = g.after(&l.entries[i])
			l.groups = append(l.groups, g)
		}
		j.logs[c] = l
	}
	j.placeErases()
	told := j.firstTold()
	for _, c := range conversations {
		j.logs[c].date(j.firstSent, func(e *pim.Entry) int {
			if at, ok := told[place{c, e.Seq}]; ok {
				return at
			}
			return never
		})
	}
	for _, c := range conversations {
		j.checkOrder(j.logs[c])
	}
	for _, r := range j.book.requests {
		j.checkRequest(r)
	}
	j.checkPushes()
	j.checkWriters()
	j.checkCells()
	for _, v := range imtest.Check(j.tell()) {
		j.fail("%s", v)
	}
	return j.found
}

// firstTold returns when an answer, a push or a look at the store told of each entry first. A
// push of a command says nothing: a block counts from its answer on.
func (j *judge) firstTold() map[place]int {
	first := maps.Clone(j.book.stood)
	tell := func(at place, moment int) {
		if was, ok := first[at]; !ok || moment < was {
			first[at] = moment
		}
	}
	for _, r := range j.book.requests {
		for _, t := range r.trips {
			if t.accepted() {
				tell(place{r.conversation, t.told.Seq}, t.ended)
			}
		}
	}
	for _, p := range j.book.pushes {
		if p.entry.Kind == pim.EntryCommand {
			continue
		}
		tell(place{p.entry.Conversation, p.entry.Seq}, p.at)
	}
	return first
}

// firstSent returns when e was sent first.
func (j *judge) firstSent(e *pim.Entry) int {
	if r := j.requests[e.ClientID]; r != nil {
		return r.trips[0].sent
	}
	return 0
}

// checkOrder checks that the order of a log is one in which its entries may have been written.
func (j *judge) checkOrder(l *log) {
	for k := range l.entries {
		if l.from[k] > l.to[k] {
			j.fail("order %s: an entry up to seq %d was sent when a later one was there already", l.id, k)
		}
	}
}

// checkRequest checks every answer to r.
func (j *judge) checkRequest(r *request) {
	l := j.logs[r.conversation]
	seq := l.seq(r.ClientID)
	first := 0 // answers that say that they are the first
	for _, t := range r.trips {
		switch {
		case t.ended == 0:
			j.fail("%s got no answer", t)
		case t.accepted():
			if !t.told.Duplicate {
				first++
			}
			if seq == 0 {
				j.fail("I1 %s was answered with seq %d, and is not in the log", t, t.told.Seq)
			} else {
				j.checkAnswer(t, &l.entries[seq-1], seq < l.front)
			}
		case t.refused():
			j.checkRefusal(t, l, seq)
		}
	}
	if first > 1 {
		j.fail("I2 %s: %d answers say that they are the first", r, first)
	}
	if seq != 0 && !j.mayAccept(r, l, seq) {
		j.fail("%s has seq %d, and ought to have been refused", r, seq)
	}
}

// checkAnswer compares the answer to t with the entry. The writer of an entry that is trimmed remembers its seq, and
// perhaps nothing else.
func (j *judge) checkAnswer(t *trip, e *pim.Entry, trimmed bool) {
	a := &t.told
	if trimmed && a.Duplicate && a.Server == 0 && a.Seq == e.Seq {
		return
	}
	if a.Seq != e.Seq || a.Anchor != e.Anchor || a.Count != e.Count || a.Server != e.Server || a.Ahead != e.Ahead || a.Order != e.Order {
		j.fail("I2 %s was answered with %+v, the entry is %+v", t, *a, *e)
	}
	if payload := a.Payload; len(payload) > 0 && !bytes.Equal(payload, e.Payload) || len(payload) == 0 && !bytes.Equal(t.Payload, e.Payload) && !e.Erased {
		j.fail("I2 %s was answered with the payload %q, the entry has %q", t, payload, e.Payload)
	}
}

// checkRefusal checks that t, which was refused for good, was refused rightly. seq is the seq
// of its request in l, 0 if it is not there.
func (j *judge) checkRefusal(t *trip, l *log, seq pim.Seq) {
	switch {
	case seq != 0 && l.to[seq-1] < t.sent:
		j.fail("I2 %s was refused, and had seq %d before it was sent", t, seq)
	case seq != 0 && t.command == nil && t.last():
		j.fail("I2 %s was refused, and got seq %d later", t, seq)
	case !j.mayRefuse(t, l):
		j.fail("%s was refused: %s; that follows from no state that was possible then", t, t.told.Text)
	}
}

// mayRefuse reports whether the answer to t, a refusal, follows from a state that was possible
// at some moment between t and the answer.
func (j *judge) mayRefuse(t *trip, l *log) bool {
	from, to := l.possible(t.sent, t.ended)
	switch {
	case t.command != nil && t.command.Kind == pim.CommandRead:
		return j.positions(t.request, t.sent, t.ended, func(newest pim.Seq, ok bool) bool {
			return !ok && t.told.Kind == pim.KindNotMember || ok && newest < t.command.Seq && t.told.Kind == pim.KindInvalid
		})
	case t.command != nil:
		return false
	case !l.id.IsGroup() && t.told.Kind == pim.KindForbidden && t.Kind != pim.EntryErase && j.blocked(l.id, t.Sender, t.sent, t.ended, true):
		return true
	}
	if l.front > 1 && (t.Kind == pim.EntryErase || t.Refers != 0 && t.Refers < l.front) && t.told.Kind == pim.KindNotFound {
		return true // perhaps what it is about was trimmed then
	}
	for k := from; k <= to; k++ {
		if l.refuses(t.request, k) == t.told.Kind {
			return true
		}
	}
	return false
}

// mayAccept reports whether r may stand at seq of l.
func (j *judge) mayAccept(r *request, l *log, seq pim.Seq) bool {
	before := int(seq) - 1
	if kind := l.refuses(r, before); kind != 0 &&
		!(kind == pim.KindNotFound && r.Kind == pim.EntryErase && int(r.Refers) <= before && l.left(r, before, true)) {
		return false
	}
	if l.id.IsGroup() || r.Kind == pim.EntryErase {
		return true
	}
	e := &l.entries[seq-1]
	for _, t := range r.trips {
		end := l.to[seq-1]
		if t.accepted() {
			end = min(end, t.ended)
		}
		if t.refused() || end < t.sent {
			continue
		}
		switch {
		case r.command == nil:
			if j.blocked(l.id, r.Sender, t.sent, end, false) {
				return true
			}
		case r.command.Kind == pim.CommandRead:
			if j.rightCount(r, e) && j.positions(r, t.sent, end, func(newest pim.Seq, ok bool) bool { return ok && newest >= r.command.Seq }) {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// blocked reports whether it was possible at some moment from sent to ended that u was blocked
// in the direct conversation c, or was not, as is says.
func (j *judge) blocked(c pim.ConversationID, u pim.UserID, sent, ended int, is bool) bool {
	a, b, _ := c.DirectUsers()
	if a == b {
		return !is
	}
	by := a
	if a == u {
		by = b
	}
	l := j.logs[pim.Own(by)]
	from, to := l.possible(sent, ended)
	on := false
	for k := 0; k <= to; k++ {
		if k > 0 {
			r := j.requests[l.entries[k-1].ClientID]
			if r != nil && r.command.Kind == pim.CommandBlock && r.command.Subject == string(u) {
				on = !r.command.Removed
			}
		}
		if k >= from && on == is {
			return true
		}
	}
	return false
}

// positions reports whether f is true of the newest seq that the sender of r, a read command,
// could read at some moment from sent to ended. The log's last seq and the membership are read
// at two moments. ok is false if the sender had never been a member.
func (j *judge) positions(r *request, sent, ended int, f func(newest pim.Seq, ok bool) bool) bool {
	l := j.logs[pim.ConversationID(r.command.Subject)]
	from, to := l.possible(sent, ended)
	for last := from; last <= to; last++ {
		for k := from; k <= to; k++ {
			newest, ok := pim.Seq(last), true
			if l.id.IsGroup() {
				newest, ok = l.groups[k].newest(r.Sender, last)
			}
			if f(newest, ok) {
				return true
			}
		}
	}
	return false
}

// rightCount reports whether e is the read command r, with the count of the entry that it names.
func (j *judge) rightCount(r *request, e *pim.Entry) bool {
	cmd, err := wire.DecodeCommand(e.Payload)
	l := j.logs[pim.ConversationID(r.command.Subject)]
	return err == nil && cmd.Kind == pim.CommandRead && cmd.Subject == r.command.Subject && cmd.Seq == r.command.Seq &&
		int(cmd.Seq) <= len(l.entries) && (cmd.Count == l.entries[cmd.Seq-1].Count || cmd.Seq < l.front) // then the checker of package imtest judges
}

// checkPushes checks that nobody was pushed an entry that they do not read, and that a writer
// that accepted an entry pushed it to those who were members before and still are. It may push
// less to a user who leaves and comes back in one batch.
func (j *judge) checkPushes() {
	if !j.inOrder {
		return // the other process pushes nothing to this one
	}
	type pushed struct {
		place
		user pim.UserID
	}
	got := make(map[pushed]bool)
	for _, p := range j.book.pushes {
		at := place{p.entry.Conversation, p.entry.Seq}
		got[pushed{at, p.user}] = true
		l := j.logs[at.conversation]
		if l == nil || int(at.seq) > len(l.entries) {
			j.fail("I1 %s was pushed seq %d of %s, which is not there", p.user, at.seq, at.conversation)
		} else if !slices.Contains(l.readers(at.seq), p.user) {
			j.fail("I4 %s was pushed seq %d of %s, and does not read it", p.user, at.seq, at.conversation)
		}
	}
	for _, r := range j.book.requests {
		for _, t := range r.trips {
			l := j.logs[r.conversation]
			if !t.accepted() || t.told.Duplicate || int(t.told.Seq) > len(l.entries) {
				continue
			}
			for _, u := range l.readers(t.told.Seq) {
				stays := !l.id.IsGroup() || l.groups[t.told.Seq-1].has(u) && l.groups[t.told.Seq-1][u] == l.groups[len(l.entries)][u]
				if stays && !got[pushed{place{l.id, t.told.Seq}, u}] {
					j.fail("I5 %s has seq %d, and %s was not pushed it", r, t.told.Seq, u)
				}
			}
		}
	}
}

// checkWriters checks that a writer takes the requests of a conversation in the order in which
// they come.
func (j *judge) checkWriters() {
	if !j.inOrder {
		return
	}
	type line struct {
		to, life     int
		conversation pim.ConversationID
	}
	last := make(map[line]*trip)
	for _, r := range j.book.requests {
		t := r.trips[0]
		if len(r.trips) > 1 || !t.accepted() || t.told.Duplicate || t.reads() {
			continue
		}
		l := line{t.to, t.life, r.conversation}
		if before := last[l]; before != nil && before.told.Seq > t.told.Seq {
			j.fail("order %s has seq %d, %s, which the same writer got before, has %d", t, t.told.Seq, before, before.told.Seq)
		}
		last[l] = t
	}
}

// checkCells compares what follows from the logs with the cells: how far each user reads, and
// the settings.
func (j *judge) checkCells() {
	ctx := context.Background()
	for c, l := range j.logs {
		for _, u := range users {
			want := pim.Seq(0)
			for seq := pim.Seq(1); seq <= pim.Seq(len(l.entries)); seq++ {
				if slices.Contains(l.readers(seq), u) {
					want = seq
				}
			}
			if line, _, err := inbox.New(j.store).Line(ctx, u, c); err != nil || line.Newest != want && l.told() {
				j.fail("I1 the offline list of %s reaches seq %d of %s, %v; the user reads to %d", u, line.Newest, c, err, want)
			}
		}
		j.checkFolds(l)
		owner, own := c.OwnUser()
		if !own || !l.told() {
			continue
		}
		settings := make(map[string]pim.Command)
		for i := range l.entries {
			cmd, err := wire.DecodeCommand(l.entries[i].Payload)
			if err != nil {
				j.fail("seq %d of %s: %v", i+1, c, err)
			} else if cmd.Replaces || cmd.Seq >= settings[cmd.Entity()].Seq {
				settings[cmd.Entity()] = cmd
			}
		}
		for entity, want := range settings {
			cell, _, err := store.Lookup(ctx, j.store, inbox.Settings(owner), entity)
			if err != nil {
				j.fail("setting %s of %s: %v", entity, owner, err)
				continue
			}
			if got, err := inbox.ParseSetting(cell); err != nil || got.Removed != want.Removed || got.Seq != want.Seq {
				j.fail("the setting %s of %s is %+v, %v; by the log it is %+v", entity, owner, got, err, want)
			}
		}
	}
}

// checkFolds compares the folds of the messages of l with what the entries make of them, and
// checks that what was recalled or erased is erased, and nothing else. An erase is carried out in
// any case: if not by its writer, by one that finds the intent.
func (j *judge) checkFolds(l *log) {
	folds, recalled := make(map[pim.Seq]*pim.Fold), make(map[pim.Seq]bool)
	edits := make(map[pim.Seq][]pim.Seq)
	for i := range l.entries {
		e := &l.entries[i]
		f, ok := pim.FoldOf(e)
		if !ok {
			continue
		}
		if folds[e.Refers] == nil {
			folds[e.Refers] = &pim.Fold{Target: e.Refers}
		}
		folds[e.Refers].Merge(&f)
		switch e.Kind {
		case pim.EntryEdit:
			edits[e.Refers] = append(edits[e.Refers], e.Seq)
		case pim.EntryRecall:
			for _, seq := range append(edits[e.Refers], e.Refers) {
				recalled[seq] = true
			}
		}
	}
	erased := make(map[pim.Seq]bool)
	upTo := make(map[pim.UserID]pim.Seq)
	for i := range l.entries {
		e := &l.entries[i]
		if e.Kind != pim.EntryErase {
			continue
		}
		upTo[e.Sender] = max(upTo[e.Sender], e.Refers)
		for i := range l.entries {
			other := &l.entries[i]
			if !erases(e, other) {
				continue
			}
			erased[other.Seq] = true
			if f := folds[other.Refers]; other.Kind == pim.EntryEdit {
				f.Edit = pim.Edit{}
			}
		}
	}
	for i := range l.entries {
		e := &l.entries[i]
		if e.Seq < l.front {
			continue
		}
		// An erase does not look for the edits of a message that was trimmed first.
		passed := e.Kind == pim.EntryEdit && e.Refers < l.front
		must := erased[e.Seq] && !passed || recalled[e.Seq] && l.told()
		if e.Erased && !recalled[e.Seq] && !erased[e.Seq] || !e.Erased && must || e.Erased && len(e.Payload) > 0 {
			j.fail("seq %d of %s: erased %v, with %d bytes; by the log recalled %v, erased %v", e.Seq, l.id, e.Erased, len(e.Payload), recalled[e.Seq], erased[e.Seq])
		}
	}
	if !l.told() {
		return
	}
	pinned := make(map[pim.Seq]bool)
	for seq, f := range folds {
		if f.Pinned() && seq >= l.front {
			pinned[seq] = true
		}
	}
	got := j.pins(l.id)
	maps.DeleteFunc(got, func(seq pim.Seq, _ bool) bool { return seq < l.front }) // the next load drops them
	if !maps.Equal(got, pinned) {
		j.fail("the pinned messages of %s are %v; by the log they are %v", l.id, got, pinned)
	}
	for u, want := range upTo {
		cell, _, err := store.Lookup(context.Background(), j.store, inbox.Erasures(l.id), string(u))
		if err != nil || pim.Seq(cell.Version) < want {
			j.fail("%s has erased up to seq %d of %s, the cell says %d, %v", u, want, l.id, cell.Version, err)
		}
		for i := range l.entries { // an erase that found nothing says so
			if e := &l.entries[i]; l.front <= e.Seq && e.Seq <= pim.Seq(cell.Version) && e.Sender == u && len(e.Payload) > 0 {
				j.fail("%s has erased up to seq %d of %s, and seq %d is there", u, cell.Version, l.id, e.Seq)
			}
		}
	}
	for seq, want := range folds {
		if seq < l.front {
			continue
		}
		cell, _, err := store.Lookup(context.Background(), j.store, inbox.Folds(l.id), inbox.FoldKey(seq))
		if err != nil || cell.Version == 0 {
			j.fail("seq %d of %s has no fold, %v", seq, l.id, err)
			continue
		}
		got, err := inbox.ParseFold(cell)
		if !want.Pinned() {
			want.Pin = pim.Mark{}
		}
		want.Reactions, want.Upto = want.InForce(), got.Upto
		if err != nil || !bytes.Equal(wire.AppendFold(nil, &got.Fold), wire.AppendFold(nil, want)) {
			j.fail("the fold of seq %d of %s is %+v, %v; by the log it is %+v", seq, l.id, got, err, want)
		}
	}
}

// pins returns the messages that the state of c says are pinned.
func (j *judge) pins(c pim.ConversationID) map[pim.Seq]bool {
	pins := make(map[pim.Seq]bool)
	cell, _, err := store.Lookup(context.Background(), j.store, store.Partition("state/"+c), "pins")
	if err != nil {
		j.fail("pins of %s: %v", c, err)
	}
	for b := cell.Value; len(b) > 0; {
		seq, n := binary.Uvarint(b)
		pins[pim.Seq(seq)], b = true, b[n:]
	}
	return pins
}

// tell tells the run to the checker of package imtest.
func (j *judge) tell() *imtest.History {
	h := j.history
	if h == nil {
		h = imtest.NewHistory()
	}
	for _, r := range j.book.requests {
		h.Sent(imtest.Send{
			Conversation: r.conversation, Sender: r.Sender, Device: r.Device, ClientID: r.ClientID, Kind: r.Kind,
			Members: r.Members, Payload: imtest.SentSum(r.Kind, r.Payload), Refers: r.Refers, Reaction: r.Reaction, Removed: r.Removed,
			Mentions: r.Mentions, MentionAll: r.MentionAll,
		})
		for _, t := range r.trips {
			if t.accepted() {
				h.Acked(imtest.Ack{
					User: r.Sender, Device: r.Device, ClientID: r.ClientID, Conversation: r.conversation, Seq: t.told.Seq,
					Anchor: t.told.Anchor, Server: t.told.Server, Count: t.told.Count, Duplicate: t.told.Duplicate,
				})
			}
		}
	}
	for _, p := range j.book.pushes {
		h.Pulled(p.user, p.entry)
	}
	for _, c := range slices.Sorted(maps.Keys(j.logs)) {
		for _, front := range j.trimmed.frontsOf(c, j.logs[c].front) {
			h.Trimmed(c, front, j.logs[c].entries[:front-1])
		}
		h.Log(c, j.logs[c].entries[max(j.logs[c].front, 1)-1:])
		if _, own := c.OwnUser(); own {
			continue // a pull leaves superseded commands out
		}
		for _, u := range users {
			if c.Excludes(u) {
				continue
			}
			line, _, err := inbox.New(j.store).Line(context.Background(), u, c)
			if err == nil {
				h.Line(u, c, line.Newest)
			}
			if !j.logs[c].told() {
				continue
			}
			entries, err := pullAll(j.store, u, c)
			if err != nil {
				j.fail("pull of %s by %s: %v", c, u, err)
			}
			h.Final(u, c, entries)
		}
	}
	return h
}

// pullAll returns everything that u can pull of c.
func pullAll(s store.Store, u pim.UserID, c pim.ConversationID) (entries []pim.Entry, err error) {
	for from := pim.Seq(1); ; {
		page, err := inbox.New(s).Pull(context.Background(), u, inbox.PullRequest{Conversation: c, From: from})
		if pim.KindOf(err) == pim.KindNotMember {
			return entries, nil
		}
		if err != nil || page.From > page.To {
			return entries, err
		}
		for _, data := range page.Entries {
			e, err := wire.ParseEntry(c, data.Data)
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
		}
		from = page.To + 1
	}
}
