package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// TestRandomSchedules plays random schedules of sends, losses, crashes between
// any two effects, restores from a backup and dropped pushes, lets the world heal
// and checks that every device has everything, once, in order (I2, I4, I5).
func TestRandomSchedules(t *testing.T) {
	for range 10 { // of 100 schedules each, unless -rapid.checks says otherwise
		rapid.Check(t, func(t *rapid.T) {
			s := newSchedule(t)
			for range rapid.IntRange(1, 120).Draw(t, "steps") {
				s.act()
			}
			s.heal()
			s.verify()
		})
	}
}

type schedule struct {
	t       *rapid.T
	w       *world
	group   pim.ConversationID
	queued  map[pim.ClientMessageID]*phone
	backups map[*phone]backup
	healing bool
	before  *clienttest.Backup           // of the server; nil: empty
	stores  int                          // identities of the server's store
	kept    map[pim.ClientMessageID]bool // once the server has gone back: what must be in a log at the end
}

type backup struct {
	disk   *disk
	handed map[pim.ConversationID]pim.Seq
}

func newSchedule(t *rapid.T) *schedule {
	s := &schedule{t: t, queued: make(map[pim.ClientMessageID]*phone), backups: make(map[*phone]backup)}
	s.w = newWorld(t, func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "random") })
	s.w.server.Store = "store 0"
	s.w.server.Limits = wirepb.Limits{InFlight: uint32(rapid.IntRange(1, 4).Draw(t, "in flight")), IdleMs: 60_000}
	s.w.server.DropPush = func() bool { return !s.healing && rapid.IntRange(0, 4).Draw(t, "drop") == 0 }
	s.w.server.Reject = func(*wirepb.PIMSendReq) *pim.Error {
		if !s.healing && rapid.IntRange(0, 9).Draw(t, "reject") == 0 {
			return &pim.Error{Kind: pim.KindOverloaded, Text: "busy", RetryAfter: time.Second}
		}
		return nil
	}
	s.w.device("alice", "phone")
	s.w.device("alice", "laptop")
	s.w.device("bob", "phone")
	for _, p := range s.w.devices {
		p.page, p.lazy = rapid.IntRange(1, 5).Draw(t, "page"), rapid.IntRange(5, 30).Draw(t, "lazy gap")
		p.skew = pim.Millis(rapid.IntRange(-3_600_000, 3_600_000).Draw(t, "skew"))
		p.starts()
	}
	return s
}

func (s *schedule) act() {
	p := rapid.SampledFrom(s.w.devices).Draw(s.t, "device")
	if p.engine == nil {
		p.starts()
		return
	}
	switch rapid.SampledFrom([]string{
		"send", "send", "send", "connect", "connect", "up", "up", "up", "down", "down", "down",
		"both", "both", "time", "lose", "crash", "pause", "group", "backup", "restore", "pull",
		"burst", "open", "read", "fill", "command", "refer", "refer", "server backup", "server restore",
	}).Draw(s.t, "action") {
	case "send":
		s.send(p)
	case "connect":
		p.connects()
	case "up":
		p.toServer()
	case "down":
		p.fromServer()
	case "both":
		for range 8 {
			p.connects()
			p.toServer()
			p.fromServer()
		}
	case "time":
		s.w.passes(time.Duration(rapid.IntRange(1, 40_000).Draw(s.t, "ms")) * time.Millisecond)
	case "lose":
		p.loses()
	case "crash":
		p.fuse = rapid.IntRange(1, 8).Draw(s.t, "fuse")
	case "pause":
		p.paused = !p.paused
		p.step(engine.Pause{On: p.paused})
	case "group":
		s.changeGroup(p)
	case "backup":
		s.backups[p] = backup{p.store.clone(), maps.Clone(p.handed)}
	case "restore":
		s.restore(p)
	case "burst":
		for range rapid.IntRange(1, 40).Draw(s.t, "burst") {
			if err := s.w.server.Append(pim.Direct("alice", "bob"), "bob", s.w.id(), []byte("burst")); err != nil {
				s.t.Fatal(err)
			}
		}
	case "open":
		p.step(engine.Open{Conversation: pim.Direct("alice", "bob")})
	case "read":
		p.step(engine.Foreground{On: rapid.IntRange(0, 3).Draw(s.t, "front") > 0})
		if p.engine == nil {
			return
		}
		p.step(engine.Reading{Conversation: pim.Direct("alice", "bob"), On: rapid.IntRange(0, 2).Draw(s.t, "on") > 0})
	case "fill":
		p.step(engine.Fill{
			ID: s.w.ids, Conversation: pim.Direct("alice", "bob"), Before: pim.Seq(rapid.IntRange(0, 50).Draw(s.t, "before")),
			Limit: rapid.IntRange(0, 9).Draw(s.t, "limit"),
		})
	case "command":
		s.command(p)
	case "refer":
		s.refer(p)
	case "server backup":
		s.before = s.w.server.Backup()
	case "server restore":
		s.goBack()
	case "pull":
		p.step(engine.Ask{ID: s.w.ids, Conversation: pim.Direct("alice", "bob"), Limit: 2, NewestFirst: true})
	}
}

func (s *schedule) send(p *phone) {
	c := rapid.SampledFrom([]pim.ConversationID{pim.Direct("alice", "bob"), pim.Direct(p.user, p.user), s.group}).Draw(s.t, "conversation")
	if c != "" {
		s.queue(p, engine.Outgoing{Conversation: c, Kind: pim.EntryMessage, Payload: fmt.Appendf(nil, "%s %d", p.name, s.w.ids)})
	}
}

// command changes a contact, a pin or a read position, as a device can that has
// been connected once.
func (s *schedule) command(p *phone) {
	c := rapid.SampledFrom([]pim.Command{
		rename("carol", "Carol"), rename("carol", "C."), remove("carol"), remove("carol"),
		{Kind: pim.CommandPin, Subject: string(chat)},
		{Kind: pim.CommandPin, Subject: string(chat), Removed: true},
		reads(pim.Seq(rapid.IntRange(1, 20).Draw(s.t, "read"))),
	}).Draw(s.t, "command")
	beyond := c.Kind == pim.CommandRead && c.Seq > p.store.conversations[chat].Newest
	if err := p.step(engine.Do{ID: s.w.id(), Command: c}); err != nil && pim.KindOf(err) != pim.KindUnavailable &&
		!(beyond && pim.KindOf(err) == pim.KindInvalid) {
		s.t.Fatal(err)
	}
}

// refer edits or recalls a message, pins it, or reacts to it, or erases up to it. The server may refuse that.
func (s *schedule) refer(p *phone) {
	c := rapid.SampledFrom([]pim.ConversationID{chat, s.group}).Draw(s.t, "conversation")
	newest := p.store.conversations[c].Newest
	if newest == 0 {
		return
	}
	out := engine.Outgoing{Conversation: c, ID: s.w.id(), Refers: pim.Seq(rapid.IntRange(1, int(min(newest, 12))).Draw(s.t, "seq"))}
	out.Kind = rapid.SampledFrom([]pim.EntryKind{pim.EntryEdit, pim.EntryReaction, pim.EntryReaction, pim.EntryPin, pim.EntryRecall, pim.EntryErase}).Draw(s.t, "kind")
	switch out.Kind {
	case pim.EntryEdit:
		out.Payload = fmt.Appendf(nil, "edit %d", s.w.ids)
	case pim.EntryReaction:
		out.Reaction = rapid.SampledFrom([]string{"x", "y"}).Draw(s.t, "reaction")
		fallthrough
	case pim.EntryPin:
		out.Removed = rapid.Bool().Draw(s.t, "removed")
	}
	if err := p.step(engine.Send{Message: out}); err != nil {
		s.t.Fatal(err)
	}
}

// queue queues out; it counts as queued only if the process outlives it.
func (s *schedule) queue(p *phone, out engine.Outgoing) {
	out.ID = s.w.id()
	if err := p.step(engine.Send{Message: out}); err != nil {
		s.t.Fatal(err)
	}
	if p.engine != nil {
		s.queued[out.ID] = p
	}
}

func (s *schedule) changeGroup(p *phone) {
	switch {
	case s.group == "":
		out := engine.Outgoing{Kind: pim.EntryCreate, Members: []pim.UserID{"bob"}}
		s.group = pim.NewGroup(p.user, s.next())
		s.queue(p, out)
	case rapid.Bool().Draw(s.t, "leave"):
		s.queue(p, engine.Outgoing{Conversation: s.group, Kind: pim.EntryLeave, Members: []pim.UserID{"bob"}})
	default:
		s.queue(p, engine.Outgoing{Conversation: s.group, Kind: pim.EntryJoin, Members: []pim.UserID{"bob"}})
	}
}

// next is the ID that the next message will have.
func (s *schedule) next() pim.ClientMessageID {
	id := s.w.id()
	s.w.ids--
	return id
}

// restore goes back to a backup. What was queued after it is lost with the disk.
func (s *schedule) restore(p *phone) {
	b, ok := s.backups[p]
	if !ok {
		return
	}
	p.dies()
	for id, owner := range s.queued {
		if _, kept := b.disk.outbox[id]; owner == p && !kept {
			delete(s.queued, id)
		}
	}
	p.store, p.handed = b.disk.clone(), maps.Clone(b.handed)
	clear(p.sent)
	s.keep()
	p.starts()
}

// goBack restores the server, or empties it.
func (s *schedule) goBack() {
	s.w.passes(time.Second) // it takes a moment
	s.stores++
	s.w.server.Restore(s.before, fmt.Sprint("store ", s.stores))
	for _, p := range s.w.devices {
		p.loses()
	}
	s.kept = make(map[pim.ClientMessageID]bool)
	s.keep()
}

// keep notes, if the server has gone back, what it or a device has now: only that can
// be there at the end.
func (s *schedule) keep() {
	if s.kept == nil {
		return
	}
	clear(s.kept)
	for _, p := range s.w.devices {
		for _, id := range p.store.ids(p.user) {
			s.kept[id] = true
		}
	}
	for _, c := range s.w.server.All() {
		for _, e := range s.w.server.Log(c) {
			s.kept[e.ClientID] = true
		}
	}
	maps.DeleteFunc(s.queued, func(id pim.ClientMessageID, _ *phone) bool { return !s.kept[id] })
}

func (s *schedule) heal() {
	s.healing = true
	for _, p := range s.w.devices {
		if p.engine == nil {
			p.starts()
		}
		p.fuse = 0
		if p.paused {
			p.paused = false
			p.step(engine.Pause{On: false})
		}
	}
	s.w.settles()
}

// fills asks for what lies in lazy holes, until there are none.
func (s *schedule) fills() {
	for _, p := range s.w.devices {
		for range 1000 {
			var holed pim.ConversationID
			for _, id := range slices.Sorted(maps.Keys(p.store.conversations)) { // a seed repeats its run
				if len(p.store.conversations[id].Holes) > 0 {
					holed = id
				}
			}
			if holed == "" {
				break
			}
			p.step(engine.Fill{ID: s.w.ids + 1<<40, Conversation: holed})
			s.w.settles()
		}
	}
}

func (s *schedule) verify() {
	s.fills()
	times := make(map[pim.ClientMessageID]int)
	for _, user := range []pim.UserID{"alice", "bob"} {
		for _, c := range s.w.server.Conversations(user) {
			seen := make(map[pim.ClientMessageID]bool)
			for _, e := range s.w.server.Log(c) {
				if seen[e.ClientID] {
					s.t.Fatalf("message %s is twice in %s", e.ClientID, c)
				}
				seen[e.ClientID] = true
				times[e.ClientID]++
			}
		}
	}
	for id, p := range s.queued {
		if times[id] == 0 && !s.w.refused[id] {
			s.t.Fatalf("message %s of %s/%s was queued, and is neither in a log nor refused", id, p.user, p.name)
		}
	}
	for id := range s.kept {
		if times[id] == 0 && !s.w.refused[id] {
			s.t.Fatalf("message %s was on a device when the server had gone back, and is in no log", id)
		}
	}
	for _, p := range s.w.devices {
		p.verify()
	}
}
