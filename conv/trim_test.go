package conv_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// snapless is a store whose snapshots are lost.
type snapless struct{ store.Store }

func (s snapless) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	cells, err := s.Store.List(ctx, p, after, limit)
	return slices.DeleteFunc(cells, func(c store.Cell) bool { return c.Key == "snapshot" }), err
}

// A conversation whose log is trimmed is loaded and goes on: with the front behind its snapshot,
// before it, without a snapshot, and with no entry left. The seqs and the count go on. A message whose entry is left is
// a repeat, pulls settle what is gone, and a read position there has a count.
func TestTrimmedLogs(t *testing.T) {
	ctx := context.Background()
	for _, chat := range []pim.ConversationID{pim.Direct("alice", "bob"), "g:team"} {
		for n := range 10 {
			upTo, lost := []pim.Seq{1, 50, 250, 299, 300}[n/2], n%2 == 1
			t.Run(fmt.Sprint(chat, " ", upTo, " ", lost), func(t *testing.T) {
				rec := newRecorder()
				var st store.Store = storetest.NewMemory()
				if lost {
					st = snapless{st}
				}
				w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
				var sent []*conv.Request
				send := func(r *conv.Request) conv.Answer {
					t.Helper()
					a, err := persist(w, rec, r)
					if err != nil {
						t.Fatal(err)
					}
					return a
				}
				again := func() {
					w.Close()
					w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
				}
				counted := uint64(300)
				if chat.IsGroup() {
					r := inGroup("", pim.EntryCreate, "alice", "bob")
					sent = append(sent, r)
					chat = send(r).Request.Conversation
					counted--
				}
				for len(sent) < 300 {
					sent = append(sent, message(chat, "alice", fmt.Sprint(len(sent))))
					send(sent[len(sent)-1])
				}
				again()
				if err := store.Commit(ctx, st, []*store.Write{{Log: inbox.Entries(chat), Trim: upTo}}, store.Durable); err != nil {
					t.Fatal(err)
				}
				for seq := upTo + 1; seq <= 300; seq += 13 {
					if a := send(sent[seq-1]); !a.Duplicate || a.Seq != seq {
						t.Errorf("message %d sent again: %+v", seq, a)
					}
				}
				again()
				a := send(message(chat, "bob", "and on"))
				if a.Duplicate || a.Seq != 301 {
					t.Errorf("the next message: %+v", a)
				}
				for u, mark := range map[pim.UserID]inbox.Mark{
					"alice": {Own: 300, OwnCount: counted}, "bob": {Own: 301, OwnCount: counted + 1},
				} {
					want := inbox.Line{Newest: 301, Count: counted + 1, Time: a.Server - a.Ahead, Mark: mark}
					if line, _, err := inbox.New(st).Line(ctx, u, chat); err != nil || line != want {
						t.Errorf("the line of %s is %+v, %v; want %+v", u, line, err, want)
					}
				}
				again()
				if a := send(message(chat, "alice", "and on")); a.Duplicate || a.Seq != 302 {
					t.Errorf("the message after it: %+v", a)
				}
				x := inbox.New(st)
				for seq, want := range map[pim.Seq]uint64{1: counted - uint64(300-upTo), 301: counted + 1, 302: counted + 2} {
					if p, err := x.Position(ctx, "bob", chat, seq); err != nil || p.Newest != 302 || p.Count != want {
						t.Errorf("position %d: %+v, %v; want count %d", seq, p, err, want)
					}
				}
				p, err := x.Pull(ctx, "bob", inbox.PullRequest{Conversation: chat, From: 1, Limit: 20})
				if err != nil || p.From != 1 || p.To != min(upTo+20, 302) || len(p.Entries) != int(p.To-upTo) || p.Entries[0].Seq != upTo+1 {
					t.Errorf("the first page settles %d to %d with %d entries, %v", p.From, p.To, len(p.Entries), err)
				}
				w.Close()
			})
		}
	}
}
