package conv_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store/pebble"
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
				if a := rec.wait(r); a.Err != nil {
					b.Fatal(a.Err)
				}
			}
		}
	}
}
