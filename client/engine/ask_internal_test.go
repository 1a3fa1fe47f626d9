package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// An asker is the app's pulls alone, and what they come to.
type asker struct {
	t  *testing.T
	fx effects
	asks
}

func newAsker(t *testing.T) *asker {
	a := &asker{t: t}
	a.fx.now.Mono = time.Hour
	a.asks = newAsks(&a.fx, 10*time.Second, func() float64 { return 1 })
	return a
}

// wants queues an Ask for the seqs from 1 on.
func (a *asker) wants(ids ...uint64) {
	a.t.Helper()
	for _, id := range ids {
		if err := a.add(Ask{ID: id, Conversation: "d:alice:bob", From: 1, Limit: int(id)}, nil); err != nil {
			a.t.Fatal(err)
		}
	}
}

// does checks which requests are transmitted (as "request:ID"), and which Asks are
// answered.
func (a *asker) does(want ...string) {
	a.t.Helper()
	a.start()
	var got []string
	out := a.fx.take()
	for _, m := range out.Frames {
		req := m.(*wirepb.PIMPullReq)
		got = append(got, fmt.Sprintf("%d:%d", req.RequestId, req.Limit))
	}
	for _, p := range out.Pulled {
		text := fmt.Sprintf("%d is answered", p.ID)
		if p.Err != nil {
			text = fmt.Sprintf("%d fails", p.ID)
		} else {
			text += fmt.Sprintf(": %d..%d of %d", p.Page.From, p.Page.To, p.Page.Newest)
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		a.t.Fatalf("%q, want %q", got, want)
	}
}

func TestAsksAreAnswered(t *testing.T) {
	a := newAsker(t)
	a.wants(1, 2, 3, 4, 5, 6, 7, 8, 9)
	a.does("1:1", "2:2", "3:3", "4:4", "5:5", "6:6", "7:7", "8:8")
	a.answered(&wirepb.PIMPullResp{RequestId: 3, From: 5, To: 9, Newest: 9}) // the newest first
	a.does()
	a.answered(&wirepb.PIMPullResp{RequestId: 3, From: 1, To: 4, Newest: 9, Done: true})
	a.does("9:9", "3 is answered: 1..9 of 9")
	a.answered(&wirepb.PIMPullResp{RequestId: 3, Done: true})
	a.does()
	a.answered(&wirepb.PIMPullResp{RequestId: 1, From: 1, To: 4, Entries: []*wirepb.Entry{{Seq: 5}}})
	a.does("1 fails")
	a.answered(&wirepb.PIMPullResp{RequestId: 2, From: 1, Newest: 7, Done: true}) // nothing that is for this user
	a.does("2 is answered: 1..0 of 7")
}

// A refusal for now is repeated, at the earliest when the server said; one for good is the
// answer.
func TestRefusedAsks(t *testing.T) {
	a := newAsker(t)
	a.wants(1, 2)
	a.does("1:1", "2:2")
	a.failed(1, &pim.Error{Kind: pim.KindForbidden}, false)
	a.failed(2, &pim.Error{Kind: pim.KindUnavailable, RetryAfter: 3 * time.Second}, true)
	a.failed(7, &pim.Error{Kind: pim.KindForbidden}, false)
	a.wants(3)
	a.does("3:3", "1 fails")
	if at := a.deadline(true); at != time.Hour+3*time.Second {
		t.Errorf("goes on at %v", at)
	}
	a.fx.now.Mono = time.Hour + 3*time.Second - 1
	a.does()
	a.fx.now.Mono++
	a.does("4:2")
	a.failed(4, &pim.Error{Kind: pim.KindUnavailable}, true)
	a.resume() // on a new connection nothing waits
	a.does("5:2")
}

// Without an answer an Ask goes to the end of the queue; without a connection those under
// way go there, in their order.
func TestUnansweredAsks(t *testing.T) {
	a := newAsker(t)
	a.wants(1, 2)
	a.does("1:1", "2:2")
	a.fx.now.Mono += time.Second
	a.wants(3)
	a.does("3:3")
	if at := a.deadline(false); at != time.Hour+10*time.Second || a.deadline(true) != never {
		t.Errorf("something is due at %v, and %v while nothing is read", at, a.deadline(true))
	}
	a.active.extend(time.Hour + 10*time.Second + 1)
	if at := a.deadline(false); at != time.Hour+10*time.Second+1 {
		t.Errorf("extended to %v", at)
	}
	a.fx.now.Mono = time.Hour + 10*time.Second + 1
	if got := a.tick(); !slices.Equal(got, []time.Duration{time.Hour + 1, time.Hour + 1}) {
		t.Errorf("without an answer: transmitted at %v", got)
	}
	a.does("4:1", "5:2")
	a.suspend()
	a.drop(1)
	a.drop(99)
	if a.active.waits() {
		t.Error("answers are awaited without a connection")
	}
	a.does("6:3", "7:2")
	a.suspend()
	a.fail(&pim.Error{Kind: pim.KindReplaced})
	a.does("3 fails", "2 fails")
}

func TestAsksAreBounded(t *testing.T) {
	a := newAsker(t)
	for id := range uint64(maxWaiting) {
		a.wants(id)
	}
	if err := a.add(Ask{ID: maxWaiting, Conversation: "d:alice:bob"}, nil); pim.KindOf(err) != pim.KindOverloaded {
		t.Errorf("one more: %v", err)
	}
	a.drop(0)
	a.wants(maxWaiting)
	if err := a.add(Ask{ID: 1}, nil); pim.KindOf(err) != pim.KindOverloaded {
		t.Errorf("one more: %v", err)
	}
}

// Each request takes an answer of its own kind only, and a question goes on over a reconnect.
func TestAnswersOfAnotherKind(t *testing.T) {
	a := newAsker(t)
	a.wants(1)
	members, receipts := AskMembers{ID: 2, Conversation: "g:1", After: "bob"}, AskReceipts{ID: 3, Conversation: "g:1", From: 1}
	for id, q := range map[uint64]question{2: &members, 3: &receipts} {
		if err := a.add(Ask{ID: id, Conversation: "g:1"}, q); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time over another connection
		a.suspend()
		a.resume()
		a.start()
		a.fx.take()
	}
	numbers := map[uint64]uint64{}
	for n, asked := range a.active {
		numbers[asked.ID] = n
	}
	answer := func(id uint64) {
		a.answered(&wirepb.PIMPullResp{RequestId: numbers[id], Conversation: "g:1", From: 1, Newest: 1, Done: true})
	}
	named := func(id uint64) {
		a.named(&wirepb.PIMMembersResp{RequestId: numbers[id], Owner: "ann", NextAfter: "cat", Members: []*wirepb.Member{{User: "cat", Since: 7, SinceMs: 9}}})
	}
	told := func(id uint64) { a.told(&wirepb.PIMReceiptResp{RequestId: numbers[id], Read: 1}) }
	named(1)
	told(1)
	answer(2)
	told(2)
	answer(3)
	named(3)
	named(99)
	if got := a.fx.take().Pulled; len(got) != 0 {
		t.Fatalf("answers of another kind are taken: %+v", got)
	}
	answer(1)
	named(2)
	told(3)
	got := a.fx.take().Pulled
	want := Members{Members: []Member{{User: "cat", Since: 7, At: 9}}, Owner: "ann", Next: "cat"}
	if len(got) != 3 || got[1].ID != 2 || fmt.Sprint(got[1].Members) != fmt.Sprint(want) {
		t.Fatalf("%+v", got)
	}
}
