package conv_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// asking are Writers that ask users before strangers make them members, and what they push.
type asking struct {
	*society
	s      store.Store
	inbox  *inbox.Inbox
	pushed *pushes
}

// pushes is a recorder that keeps to whom entries were pushed.
type pushes struct {
	*recorder
	mu sync.Mutex
	to []conv.Reader
}

func (p *pushes) Deliver(answers []conv.Answer, published []conv.Published) {
	p.mu.Lock()
	for _, pub := range published {
		first, last := pub.Entries[0].Seq, pub.Entries[len(pub.Entries)-1].Seq
		for _, u := range pub.Members {
			p.to = append(p.to, conv.Reader{User: u, From: first, To: last})
		}
		p.to = append(p.to, pub.Partly...)
	}
	p.mu.Unlock()
	p.recorder.Deliver(answers, published)
}

// of waits for what is under way, and returns what was pushed to u since it was asked last.
func (x *asking) of(u pim.UserID) (got []conv.Reader) {
	if err := x.w.Drain(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
	x.pushed.mu.Lock()
	defer x.pushed.mu.Unlock()
	x.pushed.to = slices.DeleteFunc(x.pushed.to, func(r conv.Reader) bool {
		if r.User == u {
			got = append(got, r)
		}
		return r.User == u
	})
	return got
}

func newAsking(t *testing.T, s store.Store) *asking {
	p := &pushes{recorder: newRecorder()}
	x := &asking{society: &society{t: t, rec: p.recorder}, s: s, inbox: inbox.New(s), pushed: p}
	x.w = conv.New(s, conv.Options{Outlet: p, Shards: 2, Logger: quiet(), Consent: true, Deeds: limit.Deed{Members: 5000}})
	t.Cleanup(x.w.Close)
	return x
}

// commands has u give a command.
func (x *asking) commands(u pim.UserID, c pim.Command) {
	x.t.Helper()
	r := message(pim.Own(u), u, "")
	r.Kind, r.Payload = pim.EntryCommand, wire.AppendCommand(nil, &c)
	x.does(c.Entity(), r)
}

// group has by create a group with others, and returns its ID and the entry.
func (x *asking) group(by pim.UserID, others ...pim.UserID) (pim.ConversationID, pim.Entry) {
	x.t.Helper()
	g := x.does("a group", inGroup("", pim.EntryCreate, by, others...)).Request.Conversation
	return g, x.entry(g, 1)
}

func (x *asking) entry(c pim.ConversationID, seq pim.Seq) pim.Entry {
	x.t.Helper()
	reads := []store.Read{{Log: inbox.Entries(c), From: seq, To: seq, Limit: store.Limit{Records: 1, Bytes: pim.MaxFrame}}}
	if err := x.s.Read(x.t.Context(), reads); err != nil || len(reads[0].Records) != 1 {
		x.t.Fatalf("%s has no entry %d: %v", c, seq, err)
	}
	e, err := wire.ParseEntry(c, reads[0].Records[0])
	if err != nil {
		x.t.Fatal(err)
	}
	return e
}

// refused sends r and fails the test unless it is refused with kind.
func (x *asking) refused(what string, r *conv.Request, kind pim.Kind) {
	x.t.Helper()
	if a := x.do(r)[0]; pim.KindOf(a.Err) != kind {
		x.t.Errorf("%s: answered with %v, want %v", what, a.Err, kind)
	}
}

// listed returns what the offline list of u says of c; with Newest 0: nothing.
func (x *asking) listed(u pim.UserID, c pim.ConversationID) inbox.Summary {
	x.t.Helper()
	page, err := x.inbox.Sync(x.t.Context(), inbox.SyncRequest{User: u, Device: "d", Full: true, Limit: 1000})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, s := range page.Summaries {
		if s.Conversation == c {
			return s
		}
	}
	return inbox.Summary{}
}

// waiting returns how many invitations are counted for u.
func (x *asking) waiting(u pim.UserID) int {
	x.t.Helper()
	cells, err := x.s.List(x.t.Context(), inbox.Invited(u), "", 1000)
	if err != nil {
		x.t.Fatal(err)
	}
	return len(cells)
}

// reads returns the seqs that u may read of c.
func (x *asking) reads(u pim.UserID, c pim.ConversationID) (seqs []pim.Seq) {
	x.t.Helper()
	page, err := x.inbox.Pull(x.t.Context(), u, inbox.PullRequest{Conversation: c})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, e := range page.Entries {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

// Those whom a user knows add the user, a stranger invites. Who is invited reads that entry, and nothing else until they come.
func TestStrangersInvite(t *testing.T) {
	x := newAsking(t, storetest.NewMemory())
	x.commands("bob", pim.Command{Kind: pim.CommandContact, Subject: "eve"})
	x.does("carol has written to eve", message(pim.Direct("carol", "eve"), "carol", "hi"))
	x.does("eve has written to alice", message(pim.Direct("alice", "eve"), "eve", "hi"))
	g, e := x.group("eve", "alice", "bob", "carol", "eve")
	if !slices.Equal(e.Members, []pim.UserID{"eve", "bob", "carol"}) || !slices.Equal(e.Invited, []pim.UserID{"alice"}) {
		t.Fatalf("members %q, invited %q", e.Members, e.Invited)
	}
	x.of("alice")
	if s := x.listed("alice", g); s.Newest != 1 || !s.Left || !s.Invited || s.Own != 1 || x.waiting("alice") != 1 {
		t.Errorf("alice's list: %+v, %d are counted", s, x.waiting("alice"))
	}
	x.does("a message", message(g, "bob", "hi"))
	x.refused("a message of the invited", message(g, "alice", "hi"), pim.KindNotMember)
	x.refused("the invited adds others", inGroup(g, pim.EntryJoin, "alice", "alice", "dora"), pim.KindNotMember)
	x.refused("nobody has invited dora", inGroup(g, pim.EntryJoin, "dora", "dora"), pim.KindNotMember)
	x.refused("alice is invited again", inGroup(g, pim.EntryJoin, "eve", "alice"), pim.KindInvalid)
	if s := x.listed("alice", g); s.Newest != 1 || len(x.of("alice")) != 0 || !slices.Equal(x.reads("alice", g), []pim.Seq{1}) {
		t.Errorf("alice reads %v, and her list says %+v", x.reads("alice", g), s)
	}
	if _, err := x.inbox.Members(t.Context(), "alice", inbox.MembersRequest{Conversation: g}); pim.KindOf(err) != pim.KindNotMember {
		t.Errorf("the invited asks who is in the group: %v", err)
	}
	x.does("alice comes", inGroup(g, pim.EntryJoin, "alice", "alice"))
	x.does("a message of hers", message(g, "alice", "here I am"))
	if s := x.listed("alice", g); s.Newest != 4 || s.Left || s.Invited || x.waiting("alice") != 0 || !slices.Equal(x.reads("alice", g), []pim.Seq{1, 3, 4}) {
		t.Errorf("alice reads %v, her list says %+v, and %d invitations are counted", x.reads("alice", g), s, x.waiting("alice"))
	}
	if e := x.entry(g, 3); !slices.Equal(e.Members, []pim.UserID{"alice"}) || e.Invited != nil {
		t.Errorf("her join has members %q, invited %q", e.Members, e.Invited)
	}
	x.refused("alice comes twice", inGroup(g, pim.EntryJoin, "alice", "alice"), pim.KindInvalid)
	x.does("she leaves", inGroup(g, pim.EntryLeave, "alice", "alice"))
	if e := x.entry(g, 5); !slices.Equal(e.Members, []pim.UserID{"alice"}) || e.Invited != nil {
		t.Errorf("her leave has members %q, invited %q", e.Members, e.Invited)
	}
	x.does("bob, whom she does not know, asks her back", inGroup(g, pim.EntryJoin, "bob", "alice"))
	if s := x.listed("alice", g); s.Newest != 6 || !s.Invited {
		t.Errorf("her list says %+v", s)
	}
}

// An invitation ends when the user declines it, or the owner takes it back. The user's devices are told of that alone.
func TestInvitationsEnd(t *testing.T) {
	for _, by := range []pim.UserID{"alice", "eve"} {
		x := newAsking(t, storetest.NewMemory())
		x.commands("bob", pim.Command{Kind: pim.CommandContact, Subject: "eve"})
		g, _ := x.group("eve", "alice", "bob")
		x.does("a message", message(g, "eve", "hi"))
		x.refused("bob does not own the group", inGroup(g, pim.EntryLeave, "bob", "alice"), pim.KindForbidden)
		x.of("alice")
		x.does("the end", inGroup(g, pim.EntryLeave, by, "alice"))
		if e := x.entry(g, 3); e.Members != nil || !slices.Equal(e.Invited, []pim.UserID{"alice"}) {
			t.Errorf("the entry has members %q, invited %q", e.Members, e.Invited)
		}
		if got := x.of("alice"); !slices.Equal(got, []conv.Reader{{User: "alice", From: 3, To: 3}}) {
			t.Errorf("pushed to alice: %v", got)
		}
		if s := x.listed("alice", g); s.Newest != 3 || !s.Left || s.Invited || s.Count != s.OwnCount || x.waiting("alice") != 0 {
			t.Errorf("alice's list: %+v, %d are counted", s, x.waiting("alice"))
		}
		if got := x.reads("alice", g); !slices.Equal(got, []pim.Seq{1, 3}) {
			t.Errorf("alice reads %v", got)
		}
		x.refused("there is nothing to take", inGroup(g, pim.EntryJoin, "alice", "alice"), pim.KindNotMember)
		x.refused("nor to end", inGroup(g, pim.EntryLeave, "eve", "alice"), pim.KindInvalid)
		x.does("another one", inGroup(g, pim.EntryJoin, "eve", "alice"))
		if s := x.listed("alice", g); s.Newest != 4 || !s.Invited || x.waiting("alice") != 1 {
			t.Errorf("alice's list: %+v, %d are counted", s, x.waiting("alice"))
		}
		x.does("all go", inGroup(g, pim.EntryLeave, "eve", "bob"))
		x.does("all go", inGroup(g, pim.EntryLeave, "eve", "eve"))
		x.refused("into a closed group", inGroup(g, pim.EntryJoin, "alice", "alice"), pim.KindNotMember)
		x.does("no", inGroup(g, pim.EntryLeave, "alice", "alice"))
		if n := x.waiting("alice"); n != 0 {
			t.Errorf("%d invitations are counted", n)
		}
	}
}

// Whoever asks somebody who blocks them, or too often, or somebody whom too many ask, gets the answers that others get. The
// user hears nothing, of the end neither.
func TestUntoldInvitations(t *testing.T) {
	x := newAsking(t, storetest.NewMemory())
	untold := func(what string, by, u pim.UserID) {
		t.Helper()
		x.of(u)
		g, e := x.group(by, u)
		if !slices.Equal(e.Invited, []pim.UserID{u}) || !slices.Equal(e.Members, []pim.UserID{by}) {
			t.Errorf("%s: members %q, invited %q", what, e.Members, e.Invited)
		}
		n := x.waiting(u)
		x.does("a message", message(g, by, "hi"))
		x.refused(what, inGroup(g, pim.EntryJoin, by, u), pim.KindInvalid)
		x.does("it ends", inGroup(g, pim.EntryLeave, by, u))
		if s, got := x.listed(u, g), x.of(u); s.Newest != 0 || len(got) != 0 || x.waiting(u) != n {
			t.Errorf("%s: told %+v, pushed %v, and %d are counted, before %d", what, s, got, x.waiting(u), n)
		}
	}
	told := func(what string, by, u pim.UserID) {
		t.Helper()
		x.of(u)
		g, _ := x.group(by, u)
		if s, got := x.listed(u, g), x.of(u); !s.Invited || len(got) != 1 {
			t.Errorf("%s: told %+v, pushed %v", what, s, got)
		}
	}
	x.commands("alice", pim.Command{Kind: pim.CommandBlock, Subject: "eve"})
	x.commands("alice", pim.Command{Kind: pim.CommandContact, Subject: "eve"})
	untold("blocked", "eve", "alice")
	x.commands("alice", pim.Command{Kind: pim.CommandAdders, Subject: "alice", Adders: pim.AddersAll})
	untold("blocked, and all may", "eve", "alice")
	x.commands("alice", pim.Command{Kind: pim.CommandAdders, Subject: "alice", Removed: true})
	told("another", "mallory", "alice")
	for range inbox.MaxInvitationsBy - 1 {
		told("of one inviter", "mallory", "alice")
	}
	untold("too many of one inviter", "mallory", "alice")
	for i := range inbox.MaxInvitations - inbox.MaxInvitationsBy {
		told("of another", pim.UserID(fmt.Sprint("m", i)), "alice")
	}
	untold("too many", "victor", "alice")
	x.commands("alice", pim.Command{Kind: pim.CommandContact, Subject: "bob"})
	if _, e := x.group("bob", "alice"); !slices.Contains(e.Members, "alice") {
		t.Error("whom she knows does not add her any more")
	}
}

// Who adds a user is the user's own setting, which holds from its ack on.
func TestAdders(t *testing.T) {
	x := newAsking(t, storetest.NewMemory())
	x.commands("alice", pim.Command{Kind: pim.CommandContact, Subject: "bob"})
	for _, c := range []struct {
		say         pim.Command
		bob, others bool
	}{
		{pim.Command{Adders: pim.AddersAll}, true, true},
		{pim.Command{Adders: pim.AddersNone}, false, false},
		{pim.Command{Adders: pim.AddersKnown}, true, false},
		{pim.Command{Adders: pim.AddersAll}, true, true},
		{pim.Command{Removed: true}, true, false},
	} {
		c.say.Kind, c.say.Subject = pim.CommandAdders, "alice"
		x.commands("alice", c.say)
		for by, adds := range map[pim.UserID]bool{"bob": c.bob, "eve": c.others} {
			if _, e := x.group(by, "alice"); slices.Contains(e.Members, "alice") != adds || slices.Contains(e.Invited, "alice") == adds {
				t.Errorf("%s adds her with %v: members %q, invited %q", by, c.say, e.Members, e.Invited)
			}
		}
	}
	r := message(pim.Own("eve"), "eve", "")
	r.Kind, r.Payload = pim.EntryCommand, wire.AppendCommand(nil, &pim.Command{Kind: pim.CommandAdders, Subject: "alice", Adders: pim.AddersAll})
	x.refused("eve sets it for alice", r, pim.KindInvalid)
}

// Users who are invited count as members added.
func TestInvitationsAreBounded(t *testing.T) {
	x := &society{t: t, rec: newRecorder(), registry: prometheus.NewRegistry()}
	x.w = conv.New(storetest.NewMemory(), conv.Options{Outlet: x.rec, Logger: quiet(), Metrics: conv.NewMetrics(x.registry), Deeds: limit.Deed{Members: 3}, Consent: true})
	t.Cleanup(x.w.Close)
	g := x.does("three", inGroup("", pim.EntryCreate, "eve", "a", "b", "c")).Request.Conversation
	x.refuses("a fourth", inGroup(g, pim.EntryJoin, "eve", "d"), limit.MembersAdded)
	for _, u := range []pim.UserID{"a", "b", "c"} {
		x.does("who takes it adds nobody", inGroup(g, pim.EntryJoin, u, u))
	}
}

// A writer that takes a log over knows who is invited from the log, and writes the cells that its predecessor did not get to
// write. Of whom an invitation did not reach it says nothing.
func TestInvitationsAreTakenOver(t *testing.T) {
	for _, lost := range []bool{false, true} {
		x := newAsking(t, storetest.NewMemory())
		x.commands("ann", pim.Command{Kind: pim.CommandBlock, Subject: "eve"})
		g, _ := x.group("eve", "alice", "bob", "ann", "dora")
		x.does("alice comes", inGroup(g, pim.EntryJoin, "alice", "alice"))
		x.does("bob declines", inGroup(g, pim.EntryLeave, "bob", "bob"))
		x.w.Close()
		s := x.s
		if lost { // the log and the own logs alone
			s = storetest.NewMemory()
			for _, c := range []pim.ConversationID{g, pim.Own("ann")} {
				reads := []store.Read{{Log: inbox.Entries(c), From: 1, To: 100, Limit: store.Limit{Records: 100, Bytes: pim.MaxFrame}}}
				if err := x.s.Read(t.Context(), reads); err != nil {
					t.Fatal(err)
				}
				if err := store.Commit(t.Context(), s, []*store.Write{{Log: inbox.Entries(c), Records: reads[0].Records}}, store.Durable); err != nil {
					t.Fatal(err)
				}
			}
		}
		y := newAsking(t, s)
		if lost {
			y.commands("ann", pim.Command{Kind: pim.CommandMute, Subject: "g:x"}) // writes the block's cell again
		} else {
			y.commands("ann", pim.Command{Kind: pim.CommandBlock, Subject: "eve", Removed: true}) // which does not change what was
		}
		y.does("a message", message(g, "alice", "hi"))
		for _, c := range []struct {
			user    pim.UserID
			newest  pim.Seq
			invited bool
			counted int
		}{{"alice", 4, false, 0}, {"bob", 3, false, 0}, {"ann", 0, false, 0}, {"dora", 1, true, 1}} {
			if l := y.listed(c.user, g); l.Newest != c.newest || l.Invited != c.invited || y.waiting(c.user) != c.counted {
				t.Errorf("lost %v: %s's list: %+v, %d are counted", lost, c.user, l, y.waiting(c.user))
			}
		}
		y.does("dora comes", inGroup(g, pim.EntryJoin, "dora", "dora"))
		y.refused("bob does not", inGroup(g, pim.EntryJoin, "bob", "bob"), pim.KindNotMember)
	}
}

// Without consent everybody adds everybody, blocked or not, as ever; what was asked before can be answered.
func TestWithoutConsent(t *testing.T) {
	x := newAsking(t, storetest.NewMemory())
	g, _ := x.group("eve", "alice", "dora")
	x.w.Close()
	x.w = conv.New(x.s, conv.Options{Outlet: x.pushed, Shards: 2, Logger: quiet()})
	t.Cleanup(x.w.Close)
	x.does("alice comes", inGroup(g, pim.EntryJoin, "alice", "alice"))
	x.does("dora is added", inGroup(g, pim.EntryJoin, "eve", "dora", "bob"))
	if e := x.entry(g, 3); !slices.Equal(e.Members, []pim.UserID{"dora", "bob"}) || e.Invited != nil {
		t.Errorf("members %q, invited %q", e.Members, e.Invited)
	}
	if s := x.listed("dora", g); s.Left || x.waiting("dora") != 0 {
		t.Errorf("dora's list: %+v, %d are counted", s, x.waiting("dora"))
	}
}
