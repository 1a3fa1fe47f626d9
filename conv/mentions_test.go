package conv_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// mentioning returns a message that names users, and one that is for all if there are none.
func mentioning(c pim.ConversationID, from pim.UserID, users ...pim.UserID) *conv.Request {
	r := message(c, from, "x")
	r.Mentions, r.MentionAll = users, len(users) == 0
	return r
}

// position returns what a read command of user up to seq says about mentions.
func position(t *testing.T, s store.Store, user pim.UserID, c pim.ConversationID, seq pim.Seq) pim.Mentioned {
	t.Helper()
	p, err := inbox.New(s).Position(t.Context(), user, c, seq)
	if err != nil {
		t.Fatal(err)
	}
	return p.Mentioned
}

func TestMentions(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	g := group(t, w, rec, "ann", "bob", "carl")
	for i, r := range []*conv.Request{
		message(g, "ann", "hi"),                            // 2
		mentioning(g, "ann", "bob", "carl"),                // 3
		mentioning(g, "ann"),                               // 4: all
		mentioning(g, "carl", "bob", "bob", "eve", "carl"), // 5: eve is no member
		message(g, "ann", "bye"),                           // 6
	} {
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(i, err)
		}
	}
	w.Close()
	log, err := readLog(s, g)
	if got := fmt.Sprint(log[2].Mentions, log[3].AllCount, log[4].Mentions, log[5].AllCount); err != nil || got != "[{bob 1} {carl 1}] 1 [{bob 2} {eve 0} {carl 0}] 1" {
		t.Fatal(got, err)
	}
	var all []pim.Mentioned
	for seq := range pim.Seq(6) {
		all = append(all, position(t, s, "bob", g, seq+1))
	}
	if got, want := fmt.Sprint(all), "[{0 0} {0 0} {1 0} {1 1} {2 1} {2 1}]"; got != want {
		t.Errorf("bob reads %s, want %s", got, want)
	}
	if got := position(t, s, "carl", g, 4); got.All != 1 {
		t.Errorf("carl reads %v", got)
	}

	// A writer appends a message that names bob, and dies before its cells are written.
	appended(t, s, pim.Entry{
		Conversation: g, Seq: 7, Kind: pim.EntryMessage, Sender: "ann", Device: "d", Count: 6, AllCount: 1,
		Mentions: []pim.Mention{{User: "bob", Count: 3}},
	})
	if got, want := position(t, s, "bob", g, 7), (pim.Mentioned{Named: 3, All: 1}); got != want {
		t.Errorf("before a writer takes over, bob reads %v, want %v", got, want)
	}
	w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	for _, r := range []*conv.Request{message(g, "ann", "hi"), mentioning(g, "ann", "bob")} {
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := position(t, s, "bob", g, 8), (pim.Mentioned{Named: 3, All: 1}); got != want {
		t.Errorf("bob reads %v, want %v", got, want)
	}

	a, err := persist(w, rec, command("bob", "d", pim.Command{Kind: pim.CommandRead, Subject: string(g), Seq: 5, Named: 99, All: 99}))
	if err != nil || a.Seq != 1 {
		t.Fatal(a, err)
	}
	page, err := inbox.New(s).Sync(t.Context(), inbox.SyncRequest{User: "bob", Device: "d", Full: true})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(page.Summaries, func(s inbox.Summary) bool { return s.Conversation == g })
	sum := page.Summaries[i]
	if got := fmt.Sprint(sum.Newest, sum.Named, sum.All, sum.OwnCount, sum.OwnAll, sum.Read, sum.ReadNamed, sum.ReadAll); got != "9 4 1 0 0 5 2 1" {
		t.Errorf("bob's list has %s", got)
	}
}

func TestMentionsAreRefused(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	g := group(t, w, rec, "ann", "bob")
	var many []pim.UserID
	for i := range pim.MaxMentions + 1 {
		many = append(many, pim.UserID(fmt.Sprint("user-", i)))
	}
	leave := mentioning(g, "ann", "bob")
	leave.Kind, leave.Members = pim.EntryLeave, []pim.UserID{"ann"}
	for want, r := range map[pim.Kind]*conv.Request{
		pim.KindTooLarge: mentioning(g, "ann", many...),
		pim.KindInvalid:  leave,
	} {
		if _, err := persist(w, rec, r); pim.KindOf(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if _, err := persist(w, rec, mentioning(g, "ann", "no/id")); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("%v", err)
	}
	if _, err := persist(w, rec, mentioning(g, "ann", many[1:]...)); err != nil {
		t.Error(err)
	}
}

// A position that was trimmed is that of the last entry that was: nothing is left of what bob would
// read up to there, neither messages nor mentions.
func TestMentionsOfATrimmedPosition(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	chat := pim.Direct("alice", "bob")
	for range 4 {
		if _, err := persist(w, rec, mentioning(chat, "alice", "bob")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Trim(t.Context(), chat, 3); err != nil {
		t.Fatal(err)
	}
	for seq, want := range []uint64{3, 3, 3, 4} {
		p, err := inbox.New(s).Position(t.Context(), "bob", chat, pim.Seq(seq+1))
		if err != nil || p.Count != want || p.Named != want {
			t.Errorf("at seq %d: %+v, %v; want %d", seq+1, p, err, want)
		}
	}
}
