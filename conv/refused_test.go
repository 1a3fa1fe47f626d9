package conv_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// broken is a store whose commits fail while err is set.
type broken struct {
	store.Store
	err atomic.Pointer[pim.Error]
}

func (b *broken) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, b.commit, writes, d, done)
}

func (b *broken) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	err := b.err.Load()
	if err == nil {
		return store.Commit(ctx, b.Store, writes, d)
	}
	for _, w := range writes {
		w.Err = err
	}
	return err
}

// A request is not refused because of an entry of its batch that did not become durable.
func TestNobodyIsRefusedByWhatIsNotDurable(t *testing.T) {
	for _, broke := range []*pim.Error{
		{Kind: pim.KindDiskFull, Text: "full"},
		{Kind: pim.KindUnavailable, Text: "no answer", Err: store.ErrUnknown},
	} {
		st, rec := &broken{Store: storetest.NewMemory()}, newRecorder()
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		create := &conv.Request{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"u1"}}
		if _, err := persist(w, rec, create); err != nil {
			t.Fatal(err)
		}
		removes := message(theGroup, "u0", "")
		removes.Kind, removes.Members = pim.EntryLeave, []pim.UserID{"u1"}
		batch := func() (answers [2]conv.Answer) {
			sent := []*conv.Request{rec.track(removes), rec.track(message(theGroup, "u1", "I am a member"))}
			w.Submit(sent)
			for i, r := range sent {
				answers[i] = rec.wait(r)
			}
			return answers
		}
		st.err.Store(broke)
		for i, a := range batch() {
			if !errors.Is(a.Err, broke) {
				t.Errorf("%v: request %d is answered with %v", broke, i, a.Err)
			}
		}
		st.err.Store(nil)
		if a := batch(); a[0].Err != nil || pim.KindOf(a[1].Err) != pim.KindNotMember {
			t.Errorf("then: %v and %v", a[0].Err, a[1].Err)
		}
		w.Close()
	}
}

// unreadable is a store whose logs cannot be read.
type unreadable struct {
	store.Store
	err error
}

func (u unreadable) Read(_ context.Context, reads []store.Read) error {
	for i := range reads {
		reads[i].Err = u.err
	}
	return u.err
}

// If a writer cannot read a conversation, only the node's operator can repair that, whatever
// the cause. Clients are told to keep their messages and send them again.
func TestWhatCannotBeReadIsSentAgain(t *testing.T) {
	for _, err := range []error{pim.Errorf(pim.KindCorrupt, "block 7"), context.Canceled} {
		rec := newRecorder()
		w := conv.New(unreadable{storetest.NewMemory(), err}, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		r := rec.track(message(pim.Direct("alice", "bob"), "alice", "hi"))
		w.Submit([]*conv.Request{r})
		if a := rec.wait(r); pim.KindOf(a.Err) != pim.KindUnavailable || !errors.Is(a.Err, err) {
			t.Errorf("answered with %v", a.Err)
		}
		w.Close()
	}
}
