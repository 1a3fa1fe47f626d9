package conv_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// heldSearches holds the searches for what an erase erases, each of which reads many records at once: what
// they have read is given to them when open is closed.
type heldSearches struct {
	store.Store
	mu    sync.Mutex
	open  chan struct{} // nil: nothing is held
	came  chan struct{} // a search has come
	now   int           // searches that are held
	atMax int           // the most at a time
}

func (s *heldSearches) hold(open chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.came = open, make(chan struct{}, 16)
}

func (s *heldSearches) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	s.mu.Lock()
	open, came := s.open, s.came
	if open == nil || reads[0].Limit.Records != store.MaxBatch {
		s.mu.Unlock()
		return err
	}
	s.now++
	s.atMax = max(s.atMax, s.now)
	s.mu.Unlock()
	select {
	case came <- struct{}{}:
	default: // nobody counts so many
	}
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	select {
	case <-open:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// long makes a conversation in which bob says much before ann says anything, at the seq that it returns.
func long(t *testing.T, w *conv.Writers, rec *recorder, chat pim.ConversationID) (anns pim.Seq) {
	t.Helper()
	var many []*conv.Request
	for range 300 {
		many = append(many, rec.track(message(chat, "bob", "what bob says")))
	}
	many = append(many, rec.track(message(chat, "ann", "secret")))
	w.Submit(many)
	for _, r := range many {
		a := rec.wait(r)
		if a.Err != nil {
			t.Fatal(a.Err)
		}
		anns = a.Seq
	}
	return anns
}

// While the first entry that an erase erases is searched, the conversation goes on. An entry that was
// recalled meanwhile is not erased again: if nothing else is to be erased, the erase is refused.
func TestASearchHoldsNothingUp(t *testing.T) {
	for name, test := range map[string]struct{ recalls, more, refused bool }{
		"found":                       {},
		"recalled":                    {recalls: true, refused: true},
		"recalled, and there is more": {recalls: true, more: true},
	} {
		t.Run(name, func(t *testing.T) {
			chat := pim.Direct("ann", "bob")
			s, rec := &heldSearches{Store: storetest.NewMemory()}, newRecorder()
			w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
			defer w.Close()
			upTo := long(t, w, rec, chat)
			if test.more {
				for range 100 { // so that the second look-up finds nothing in what it reads
					if _, err := persist(w, rec, message(chat, "bob", "more")); err != nil {
						t.Fatal(err)
					}
				}
				a, err := persist(w, rec, message(chat, "ann", "another secret"))
				if err != nil {
					t.Fatal(err)
				}
				upTo = a.Seq
			}
			open := make(chan struct{})
			s.hold(open)
			x := rec.track(erase(chat, "ann", upTo))
			w.Submit([]*conv.Request{x})
			<-s.came
			if _, err := persist(w, rec, message(chat, "bob", "I go on")); err != nil {
				t.Fatal(err)
			}
			if test.recalls {
				r := message(chat, "ann", "")
				r.Kind, r.Refers, r.Payload = pim.EntryRecall, 301, nil
				if _, err := persist(w, rec, r); err != nil {
					t.Fatal(err)
				}
			}
			close(open)
			a := rec.wait(x)
			if refused := pim.KindOf(a.Err) == pim.KindNotFound; refused != test.refused || a.Err != nil && !refused {
				t.Fatalf("the erase: %+v", a)
			}
			entries, err := readLog(s.Store, chat)
			if err != nil {
				t.Fatal(err)
			}
			for i := range entries {
				e := &entries[i]
				if want := e.Sender == "ann" && e.Kind == pim.EntryMessage; e.Erased != want {
					t.Errorf("seq %d by %s is erased: %t", e.Seq, e.Sender, e.Erased)
				}
			}
			if erases := slices.ContainsFunc(entries, func(e pim.Entry) bool { return e.Kind == pim.EntryErase }); erases == test.refused {
				t.Errorf("there is an erase: %t", erases)
			}
		})
	}
}

// Few searches are under way at a time, and one of a user. So many of a user wait, and the others are
// refused. When the writers are closed, a search ends at once, and all are answered.
func TestSearchesAreBounded(t *testing.T) {
	const most = 1 + 256
	chats := []pim.ConversationID{pim.Direct("ann", "bob"), pim.Direct("ann", "carl"), pim.Direct("ann", "dan"), pim.Direct("ann", "eve")}
	s, rec := &heldSearches{Store: storetest.NewMemory()}, newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	var anns pim.Seq
	for i, c := range chats {
		var many []*conv.Request
		for range 300 {
			many = append(many, rec.track(message(c, "ann", fmt.Sprint(i))))
		}
		w.Submit(many)
		for _, r := range many {
			a := rec.wait(r)
			if a.Err != nil {
				t.Fatal(a.Err)
			}
			anns = a.Seq
		}
	}
	s.hold(make(chan struct{}))
	var sent []*conv.Request
	for i := range most + 50 {
		r := rec.track(erase(chats[0], "bob", anns))
		if i >= most+47 { // the last ones are by others
			c := chats[i-most-46]
			_, other, _ := c.DirectUsers()
			r = rec.track(erase(c, other, anns))
		}
		sent = append(sent, r)
	}
	w.Submit(sent)
	for range 2 {
		<-s.came
	}
	for _, r := range sent[most : most+47] {
		if a := rec.wait(r); pim.KindOf(a.Err) != pim.KindOverloaded {
			t.Fatalf("one more erase: %+v", a)
		}
	}
	if _, err := persist(w, rec, message(chats[0], "ann", "I go on")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for _, r := range sent[:most] {
		if a := rec.wait(r); pim.KindOf(a.Err) != pim.KindUnavailable {
			t.Fatalf("an erase when the writers are closed: %+v", a)
		}
	}
	if s.atMax != 2 {
		t.Errorf("%d searches were under way at a time", s.atMax)
	}
}
