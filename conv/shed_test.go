package conv_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/store/storetest"
)

// overloaded returns an Overload that sheds everything up to c.
func overloaded(c limit.Class) *limit.Overload {
	o := limit.NewOverload(20*time.Millisecond, func() float64 { return 0.5 })
	for i := range int(c) {
		o.Waited(limit.Tasks, 21*time.Millisecond)
		o.Tick(time.Duration(i) * limit.OverloadInterval)
	}
	return o
}

// While sends are shed, as many are taken as can be answered soon, of each user some. The others are refused
// at once, with a time. A message that is in the log already gets its first answer, however much waits, and one that is not
// is refused although it is sent again.
func TestSendsAreShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := overloaded(limit.NewSends)
		if o.Level() != limit.NewSends {
			t.Fatal("sends are not shed")
		}
		st, rec := &watched{Store: storetest.NewMemory(), open: make(chan struct{})}, newRecorder()
		w := conv.New(st, conv.Options{Outlet: rec, Overload: o, Logger: quiet()})
		defer w.Close()
		chat := func(u string) pim.ConversationID { return pim.Direct(pim.UserID(u), "zoe") }
		send := func(r *conv.Request) *conv.Request {
			r = rec.track(r)
			w.Submit([]*conv.Request{r})
			synctest.Wait()
			return r
		}
		answer := func(r *conv.Request) (a conv.Answer, ok bool) {
			select {
			case a = <-r.Origin.(chan conv.Answer):
				return a, true
			default:
				return a, false
			}
		}
		first := message(chat("alice"), "alice", "first")
		asked := send(first)
		st.open <- struct{}{} // lets one write through
		if a := rec.wait(asked); a.Err != nil || a.Seq != 1 {
			t.Fatalf("with nothing else to do: %+v", a)
		}

		// Nothing is written any more. One user gets a quarter of the places, and others the rest.
		taken := 0
		for u := range 10 {
			for i := range 20 {
				user := fmt.Sprint("u", u)
				r := send(message(chat(user), pim.UserID(user), fmt.Sprint(i)))
				a, refused := answer(r)
				if !refused {
					taken++
					if u == 0 && taken > 16 {
						t.Fatal("one user takes more than a share")
					}
					continue
				}
				var e *pim.Error
				if !errors.As(a.Err, &e) || e.Kind != pim.KindOverloaded || e.RetryAfter < 250*time.Millisecond || e.RetryAfter > 10*time.Second {
					t.Fatalf("refused with %v", a.Err)
				}
			}
		}
		if taken != 64 {
			t.Errorf("%d requests are taken", taken)
		}
		if n := o.Count(limit.NewSends); n != 200-64 {
			t.Errorf("%d that were shed are counted", n)
		}

		again := *first
		again.Attempt = 2
		if a, ok := answer(send(&again)); !ok || a.Err != nil || !a.Duplicate || a.Seq != 1 {
			t.Errorf("a message that is in the log, sent again: %+v, answered %t", a, ok)
		}
		unknown := message(chat("alice"), "alice", "not in the log")
		unknown.Attempt = 2
		if a, ok := answer(send(unknown)); !ok || pim.KindOf(a.Err) != pim.KindOverloaded {
			t.Errorf("one that is not: %+v, answered %t", a, ok)
		}
		elsewhere := message(chat("nobody"), "nobody", "of a conversation that is not in memory")
		elsewhere.Attempt = 2
		if a, ok := answer(send(elsewhere)); !ok || pim.KindOf(a.Err) != pim.KindOverloaded {
			t.Errorf("one of a conversation that is not in memory: %+v, answered %t", a, ok)
		}

		close(st.open)
		synctest.Wait()
		if n := len(rec.snapshot()); n != 1+64+1 {
			t.Errorf("%d messages are acknowledged", n)
		}
		if a := rec.wait(send(unknown)); a.Err != nil {
			t.Errorf("when there is room again: %v", a.Err)
		}
	})
}

// While only other classes are shed no send is refused.
func TestSendsGoLast(t *testing.T) {
	rec := newRecorder()
	w := conv.New(storetest.NewMemory(), conv.Options{Outlet: rec, Overload: overloaded(limit.NewLogins), Logger: quiet()})
	defer w.Close()
	var all []*conv.Request
	for i := range 500 {
		all = append(all, rec.track(message(pim.Direct("alice", "bob"), "alice", fmt.Sprint(i))))
	}
	w.Submit(all)
	for _, r := range all {
		if a := rec.wait(r); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
}
