package conv_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// BenchmarkRead measures a read command, from Submit to its answer, on a disk in memory: 64 of
// different users are under way at a time.
func BenchmarkRead(b *testing.B) {
	s, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	rec := newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	const users, messages = 64, 2000
	var chats []pim.ConversationID
	for i := range users {
		chat := pim.Direct("ann", pim.UserID(fmt.Sprint("u", i)))
		chats = append(chats, chat)
		some := make([]*conv.Request, messages)
		for j := range some {
			some[j] = rec.track(message(chat, "ann", "hi"))
		}
		w.Submit(some)
		for _, r := range some {
			if a := rec.wait(r); a.Err != nil {
				b.Fatal(a.Err)
			}
		}
	}
	seq := pim.Seq(0)
	b.ReportAllocs()
	bytes := 0
	some := make([]*conv.Request, users)
	for n := 0; b.Loop(); n++ {
		if n%users == 0 {
			seq = seq%messages + 1
		}
		i := n % users
		r := command(pim.UserID(fmt.Sprint("u", i)), "d", pim.Command{Kind: pim.CommandRead, Subject: string(chats[i]), Seq: seq})
		r.ClientID = pim.NewClientMessageID(time.Now())
		some[i] = rec.track(r)
		if i == users-1 {
			w.Submit(some)
			for _, r := range some {
				a := rec.wait(r)
				if a.Err != nil {
					b.Fatal(a.Err)
				}
				bytes = onTheWire(r, a)
			}
		}
	}
	b.ReportMetric(float64(bytes), "wire-B")
}

// onTheWire returns how many bytes the frames of r and its answer have.
func onTheWire(r *conv.Request, a conv.Answer) int {
	send := &wirepb.PIMSendReq{
		Conversation: string(r.Conversation), ClientMessageId: r.ClientID[:], LocalMs: int64(r.Local), Attempt: 1,
		Payload: r.Payload, Kind: wirepb.EntryKind(r.Kind),
	}
	ack := &wirepb.PIMSendAck{
		ClientMessageId: r.ClientID[:], Conversation: string(r.Conversation), Seq: uint64(a.Seq), ServerMs: int64(a.Server), Payload: a.Payload,
	}
	return len(wire.Append(nil, send)) + len(wire.Append(nil, ack))
}

// BenchmarkReaders measures what the readers of a busy group cost at the worst: each of 10,000
// members reads each message by itself. A group has at most 2,000 members, so they are in five. An
// iteration is one read of each; the messages are written before. On a disk in memory and with
// -cpu 1 ns/read is CPU. cell-B/reader is all that receipts are computed from; disk-B/read is all
// that a read has left behind, most of it the command in the reader's own log.
func BenchmarkReaders(b *testing.B) {
	const groups, members, messages = 5, pim.MaxGroupMembers, 100
	fs := vfs.NewMem()
	var s store.Store
	open := func() {
		var err error
		if s, err = pebble.Open("data", pebble.Options{FS: fs, Logger: quiet()}); err != nil {
			b.Fatal(err)
		}
	}
	open()
	rec := newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	all := func(some []*conv.Request) (last conv.Answer) {
		for i, r := range some {
			some[i] = rec.track(r)
		}
		w.Submit(some)
		for _, r := range some {
			if last = rec.wait(r); last.Err != nil {
				b.Fatal(last.Err)
			}
		}
		return last
	}
	user := func(group, i int) pim.UserID { return pim.UserID(fmt.Sprintf("user-%d-%04d", group, i)) }
	var ids []pim.ConversationID
	for g := range groups {
		create := &conv.Request{Kind: pim.EntryCreate, Sender: user(g, 0), Device: "phone", ClientID: pim.NewClientMessageID(time.Now())}
		for i := 1; i < members; i++ {
			create.Members = append(create.Members, user(g, i))
		}
		id := all([]*conv.Request{create}).Request.Conversation
		var some []*conv.Request
		for range messages {
			some = append(some, message(id, user(g, 0), "hi"))
		}
		all(some)
		ids = append(ids, id)
	}
	reopen := func() (size int64) {
		w.Close()
		s.Close()
		open() // which writes what was in memory into tables
		w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		return tables(b, fs)
	}
	before := reopen()
	for seq := pim.Seq(2); b.Loop(); seq++ {
		if seq > messages {
			b.Fatal("there are no more messages: use -benchtime 50x")
		}
		var some []*conv.Request
		for i := range groups * members {
			u, id := user(i%groups, i/groups), ids[i%groups]
			r := command(u, "phone", pim.Command{Kind: pim.CommandRead, Subject: string(id), Seq: seq})
			r.ClientID = pim.NewClientMessageID(time.Now())
			some = append(some, r)
		}
		all(some)
	}
	reads := float64(b.N * groups * members)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/reads, "ns/read")
	b.ReportMetric(float64(reopen()-before)/reads, "disk-B/read")
	size := 0
	for _, id := range ids {
		for after, more := "", true; more; {
			cells, err := s.List(context.Background(), inbox.Reads(id), after, 1000)
			if err != nil {
				b.Fatal(err)
			}
			for _, c := range cells {
				size += len(inbox.Reads(id)) + len(c.Key) + 8 + len(c.Value)
				after = c.Key
			}
			more = len(cells) == 1000
		}
	}
	b.ReportMetric(float64(size)/(groups*members), "cell-B/reader")
	w.Close()
	s.Close()
}

// tables returns the size of all tables of the store on fs.
func tables(b *testing.B, fs vfs.FS) (size int64) {
	names, err := fs.List("data")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := fs.Stat(fs.PathJoin("data", name))
		if err != nil {
			b.Fatal(err)
		}
		size += f.Size()
	}
	return size
}
