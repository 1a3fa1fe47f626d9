package conv_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// recorder is an Outlet that keeps every answer.
type recorder struct {
	mu    sync.Mutex
	acked []acknowledged
}

type acknowledged struct {
	request *conv.Request
	answer  conv.Answer
}

func newRecorder() *recorder { return &recorder{} }

// track returns a copy of r whose answer can be waited for.
func (rec *recorder) track(r *conv.Request) *conv.Request {
	tracked := *r
	tracked.Origin = make(chan conv.Answer, 1)
	return &tracked
}

// wait returns the answer to a tracked request. It can be called again.
func (rec *recorder) wait(r *conv.Request) conv.Answer {
	ch := r.Origin.(chan conv.Answer)
	a := <-ch
	ch <- a
	return a
}

// Deliver implements conv.Outlet.
func (rec *recorder) Deliver(answers []conv.Answer, _ []conv.Published) {
	rec.mu.Lock()
	for _, a := range answers {
		if a.Err == nil {
			rec.acked = append(rec.acked, acknowledged{a.Request, a})
		}
	}
	rec.mu.Unlock()
	for _, a := range answers {
		a.Request.Origin.(chan conv.Answer) <- a
	}
}

// snapshot returns what has been acknowledged so far.
func (rec *recorder) snapshot() []acknowledged {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return append([]acknowledged(nil), rec.acked...)
}

// of returns what has been acknowledged so far in some conversations.
func (rec *recorder) of(chats []pim.ConversationID) (some []acknowledged) {
	for _, a := range rec.snapshot() {
		if slices.Contains(chats, a.request.Conversation) {
			some = append(some, a)
		}
	}
	return some
}
