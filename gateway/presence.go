package gateway

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// errNoPresence is the refusal of what Options.Presence switches off.
var errNoPresence = pim.Errorf(pim.KindForbidden, "this server tells nobody who is connected or writes")

// handleLook notes what is on the device's screen. It refuses what by its ID cannot be the user's to
// look at. The rest is judged when there is something to be told. If a PIMLook comes less
// than lookPause after another, nothing is read from the connection for so long, so that a client
// which sends many of them keeps nobody else from the looks.
func (c *conn) handleLook(m *wirepb.PIMLook) {
	var ids []pim.ConversationID
	var refused error
	more := true // may be added
	add := func(id pim.ConversationID, may bool) {
		switch {
		case !may:
			refused = pim.Errorf(pim.KindForbidden, "some of it is not for user %s to look at", c.user)
		case slices.Contains(ids, id):
		case len(ids) == maxLooks:
			refused = pim.Errorf(pim.KindTooLarge, "%d conversations and users are looked at, at most %d can be",
				len(m.Conversations)+len(m.Users), maxLooks)
			more = false
		default:
			ids = append(ids, id)
		}
	}
	for _, name := range m.Conversations {
		id := pim.ConversationID(name)
		_, own := id.OwnUser()
		if add(id, len(name) <= maxNamed && !own && id.Validate() == nil && !id.Excludes(c.user)); !more {
			break
		}
	}
	for _, name := range m.Users {
		if !more {
			break
		}
		if !c.gw.Presence {
			refused = errNoPresence
			break
		}
		user := pim.UserID(name)
		add(pim.Own(user), user.Validate() == nil && user != c.user)
	}
	r := c.gw.Sessions.looks.set(c, ids, m.RequestId)
	if r.start {
		c.gw.Sessions.startTelling()
	}
	c.gw.tellGaveWay(r.gaveWay)
	if r.full {
		c.gw.Metrics.dropLooks.Inc()
		if refused == nil {
			refused = errLooks
		}
	}
	c.refuseHint(m.RequestId, "", refused)
	if time.Since(r.before) < lookPause {
		select {
		case <-time.After(lookPause):
		case <-c.gw.ctx.Done():
		}
	}
}

// refuseHint tells the client why something was not done, if err is not nil and the client has
// asked for that by an ID.
func (c *conn) refuseHint(id uint64, conversation string, err error) {
	if err == nil || id == 0 {
		return
	}
	m := c.gw.refusal(err)
	m.RequestId, m.Conversation = id, conversation
	c.reply(m)
}

// handleTyping has it told that the user writes in a conversation. What cannot be told at once is
// dropped.
func (c *conn) handleTyping(m *wirepb.PIMTyping) {
	err := c.types(pim.ConversationID(m.Conversation), time.Now())
	if err != nil {
		c.gw.Metrics.dropTyping.Inc()
	}
	c.refuseHint(m.RequestId, named(m.Conversation), err)
}

func (c *conn) types(id pim.ConversationID, now time.Time) error {
	_, own := id.OwnUser()
	switch {
	case !c.gw.Presence:
		return errNoPresence
	case len(id) > maxNamed:
		return errLongName(len(id))
	case id.Validate() != nil || own || id.Excludes(c.user):
		return pim.Errorf(pim.KindInvalid, "nobody is told that the user writes in %s", id)
	}
	if err := c.gw.shed(limit.Typing); err != nil {
		return err
	}
	if !c.typesSeldom(id, now) {
		return pim.Errorf(pim.KindOverloaded, "a device says once in %v that its user writes in a conversation, of %d at most", typingEvery, maxTyped)
	}
	if c.gw.Homes != nil {
		c.gw.Homes.Types(c.user, id)
		return nil
	}
	c.gw.Sessions.types(c.user, id, now)
	return nil
}

// recentlyTyped are the PIMTypings of a connection in the last typingEvery. Few connections have any, so
// they lie beside the conn, whose size is part of what an idle connection costs.
type recentlyTyped struct{ list []typed }

// typed is when a PIMTyping for a conversation came.
type typed struct {
	id pim.ConversationID
	at time.Time
}

// typesSeldom notes that the user writes in a conversation, and reports whether c may say so now.
// It must not depend on who looks there, or the answer would tell.
func (c *conn) typesSeldom(id pim.ConversationID, now time.Time) bool {
	if c.typed == nil {
		c.typed = new(recentlyTyped)
	}
	recent := c.typed
	recent.list = slices.DeleteFunc(recent.list, func(t typed) bool { return now.Sub(t.at) >= typingEvery })
	if len(recent.list) == maxTyped || slices.ContainsFunc(recent.list, func(t typed) bool { return t.id == id }) {
		return false
	}
	recent.list = append(recent.list, typed{id, now})
	return true
}

// tellTyping tells the lookers of a conversation who else writes there.
func (g *Gateway) tellTyping(t telling) {
	now := time.Now()
	writers := make([]pim.UserID, 0, len(t.typing))
	for _, w := range t.typing {
		if now.Sub(w.at) < typingLasts {
			writers = append(writers, w.user)
		}
	}
	lookers := usersOf(t.lookers)
	users := append(slices.Clone(lookers), writers...)
	slices.Sort(users)
	users = slices.Compact(users)
	may, err := g.Reader.Typing(g.ctx, t.id, users)
	if err != nil || len(writers) == 0 {
		g.Metrics.dropTyping.Inc()
		return
	}
	mayNot := func(u pim.UserID) bool {
		i, _ := slices.BinarySearch(users, u)
		return !may[i]
	}
	if t.id.IsGroup() {
		if silent := slices.DeleteFunc(slices.Clone(writers), func(u pim.UserID) bool { return !mayNot(u) }); len(silent) > 0 {
			g.Sessions.looks.silence(t.subject, silent, now)
		}
	}
	writers = slices.DeleteFunc(writers, mayNot)
	frame := func(others []pim.UserID) []byte {
		if len(others) == 0 {
			return nil
		}
		m := &wirepb.PIMTyping{Conversation: string(t.id)}
		for _, u := range others {
			m.Users = append(m.Users, string(u))
		}
		return wire.Append(nil, m)
	}
	shared := frame(writers)
	frames := make(map[pim.UserID][]byte) // of those who write themselves
	for _, u := range writers {
		frames[u] = frame(slices.DeleteFunc(slices.Clone(writers), func(w pim.UserID) bool { return w == u }))
	}
	of := func(c *conn) []byte {
		if own, writes := frames[c.user]; writes {
			return own
		}
		return shared
	}
	told := slices.DeleteFunc(slices.Clone(t.lookers), func(c *conn) bool { return of(c) == nil || mayNot(c.user) })
	g.sendAll(told, of, func(*conn) {})
}

// tellPresence tells the lookers of user whether user is connected. Among several nodes that waits
// until the user's home has said what it knows.
func (g *Gateway) tellPresence(t telling, user pim.UserID) {
	if g.Homes != nil && !t.said.known {
		return
	}
	users := usersOf(t.news)
	lately := g.Acks.LastSeen(user) // first, see there
	seen, sees, err := g.Reader.Presence(g.ctx, user, users)
	if err != nil {
		g.tellAgain(t, err)
		return
	}
	m := &wirepb.PIMPresence{User: string(user), Online: t.said.online || len(g.Sessions.of(user)) > 0}
	if !m.Online {
		m.SeenMs = int64(max(seen, lately, t.said.seen))
	}
	known := lookFrame{data: wire.Append(nil, m)}
	unknown := lookFrame{data: wire.Append(nil, &wirepb.PIMPresence{User: string(user)}), ends: true}
	frames := make([]lookFrame, len(users))
	for i := range users {
		if frames[i] = unknown; sees[i] {
			frames[i] = known
		}
	}
	g.sendNew(t, users, frames)
}

// presence notes that user has connected to this node with the first device, or that the last one is
// gone. Among several nodes the user's home says so to those who look.
func (g *Gateway) presence(user pim.UserID) {
	if !g.Presence {
		return
	}
	g.Acks.Seen(user, pim.MillisOf(g.Now()))
	if g.Homes == nil {
		g.Sessions.changed(pim.Own(user))
	}
}
