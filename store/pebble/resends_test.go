package pebble_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
)

// handed is an Outlet that hands each answer to who waits for it.
type handed struct{}

func (handed) Deliver(list []conv.Answer, _ []conv.Published) {
	for _, a := range list {
		a.Request.Origin.(chan conv.Answer) <- a
	}
}

// A message that is sent again has no second effect for a week, less an hour here: the store is opened again, and loses its power,
// and the conversation is loaded for every batch. That holds for IDs that are found by the time that they carry, of which the
// oldest part of the index is in cells, and for those whose time was wrong, which have cells of their own.
func TestResendsOfAWeek(t *testing.T) {
	a := newAging(t)
	mem := vfs.NewCrashableMem()
	a.o.FS = mem
	closes(t, a.Store)
	a.open()
	wall := time.Now()
	send := func(list []*conv.Request) (got []conv.Answer) {
		w := conv.New(a.Store, conv.Options{Outlet: handed{}, Shards: 1, Memory: 1, Logger: quiet(), Now: func() time.Time { return wall }})
		defer w.Close()
		for len(list) > 0 {
			n := min(len(list), 500)
			for _, r := range list[:n] {
				r.Origin = make(chan conv.Answer, 1)
			}
			w.Submit(list[:n])
			for _, r := range list[:n] {
				answer := <-r.Origin.(chan conv.Answer)
				if answer.Err != nil {
					t.Fatal(answer.Err)
				}
				got = append(got, answer)
			}
			list = list[n:]
		}
		return got
	}
	message := func(i int, at time.Time) *conv.Request {
		return &conv.Request{
			Conversation: pim.Direct("alice", "bob"), Kind: pim.EntryMessage, Sender: "alice", Device: "d",
			ClientID: pim.NewClientMessageID(at), Local: pim.MillisOf(at), Payload: fmt.Append(nil, i),
		}
	}
	var some, all []*conv.Request
	for i := range 8000 {
		r := message(i, wall.Add(time.Duration(i)*time.Millisecond))
		if i%400 == 0 {
			if i%800 == 0 {
				r = message(i, wall.Add(-time.Duration(i+1)*time.Hour))
			}
			some = append(some, r)
		}
		all = append(all, r)
	}
	first := map[pim.ClientMessageID]pim.Seq{}
	for _, answer := range send(all) {
		first[answer.Request.ClientID] = answer.Seq
	}
	age := time.Duration(0)
	for i, until := range []time.Duration{time.Hour, 24 * time.Hour, 3 * 24 * time.Hour, 6 * 24 * time.Hour, week - time.Hour} {
		wall = wall.Add(until - age)
		a.runs(until - age)
		age = until
		if i%2 == 0 {
			a.reopen()
		} else {
			lost := a.Store
			a.o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
			mem = a.o.FS.(*vfs.MemFS)
			a.open()
			closes(t, lost)
		}
		for _, answer := range send(some) {
			if want := first[answer.Request.ClientID]; !answer.Duplicate || answer.Seq != want {
				t.Fatalf("%v later a message is at seq %d, a duplicate: %t; it was at %d", age, answer.Seq, answer.Duplicate, want)
			}
		}
	}
}
