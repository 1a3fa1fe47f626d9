package overload

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

const (
	target   = 20 * time.Millisecond
	capacity = 500 // entries a second that the store takes
	senders  = 100
	warmUp   = 2 * time.Second
	measured = 3 * time.Second
)

// outcome is what became of what was offered in the measured time.
type outcome struct {
	times            float64 // what the store takes
	offered, refused int
	goodput          float64       // entries a second that were acknowledged, and pushed, in the measured time
	p99              time.Duration // of what was accepted, until it was acknowledged. What was not at the end has waited until then
}

func (o outcome) String() string {
	return fmt.Sprintf("%g times the capacity: offered %d, refused %d, %.0f/s, p99 %v", o.times, o.offered, o.refused, o.goodput, o.p99)
}

// play offers so many times the capacity of a store to writers over it, whatever they answer. It plays in virtual time.
func play(t *testing.T, times float64, shed bool) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		p := &players{begun: time.Now()}
		options := conv.Options{Outlet: p, Shards: 2, Logger: slog.New(slog.DiscardHandler)}
		var ticking sync.WaitGroup
		stop := make(chan struct{})
		if shed {
			options.Overload = limit.NewOverload(target, func() float64 { return 0.5 })
			ticking.Go(func() { ticks(options.Overload, stop) })
		}
		slow := NewSlow(storetest.NewMemory(), capacity)
		w := conv.New(slow, options)
		due := 0.0
		n := 0
		for time.Since(p.begun) < warmUp+measured {
			time.Sleep(time.Millisecond)
			for due += times * capacity / 1000; due >= 1; due-- {
				w.Submit([]*conv.Request{p.message(n % senders)})
				n++
			}
		}
		o = p.outcome()
		o.times = times
		w.Close()
		close(stop)
		ticking.Wait()
		slow.Stop()
	})
	return o
}

func ticks(o *limit.Overload, stop <-chan struct{}) {
	begun := time.Now()
	t := time.NewTicker(limit.OverloadInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			o.Tick(time.Since(begun))
		case <-stop:
			return
		}
	}
}

// players send messages, and are the writers' Outlet.
type players struct {
	begun time.Time

	mu   sync.Mutex
	sent []*sending
}

// sending is one message.
type sending struct {
	at       time.Duration
	answered time.Duration // 0: not yet
	refused  bool
	pushed   bool
}

// message returns a new message of a sender to a partner of its own.
func (p *players) message(sender int) *conv.Request {
	now := time.Now()
	s := &sending{at: now.Sub(p.begun)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, s)
	from := pim.UserID(fmt.Sprint("a", sender))
	return &conv.Request{
		Conversation: pim.Direct(from, pim.UserID(fmt.Sprint("b", sender))), Kind: pim.EntryMessage, Sender: from, Device: "phone", Attempt: 1,
		ClientID: pim.NewClientMessageID(now), Local: pim.MillisOf(now), Payload: []byte("hi"), Origin: s,
	}
}

// Deliver implements conv.Outlet.
func (p *players) Deliver(answers []conv.Answer, pushes []conv.Published) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pushed := 0
	for i := range pushes {
		pushed += len(pushes[i].Entries)
	}
	for _, a := range answers {
		s := a.Request.Origin.(*sending)
		s.answered, s.refused = time.Since(p.begun), a.Err != nil
		if a.Err == nil && pushed > 0 { // each entry is pushed with its answer
			s.pushed = true
			pushed--
		}
	}
}

func (p *players) outcome() (o outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := time.Since(p.begun)
	var waits []time.Duration
	done := 0
	for _, s := range p.sent {
		if !s.refused && s.pushed && s.answered > warmUp {
			done++
		}
		if s.at < warmUp {
			continue
		}
		o.offered++
		switch {
		case s.refused:
			o.refused++
		case s.answered == 0:
			waits = append(waits, end-s.at)
		default:
			waits = append(waits, s.answered-s.at)
		}
	}
	slices.Sort(waits)
	if len(waits) > 0 {
		o.p99 = waits[len(waits)*99/100]
	}
	o.goodput = float64(done) / measured.Seconds()
	return o
}

// judge returns what is wrong with the outcomes of several loads.
func judge(curve []outcome) (wrong []string) {
	peak := 0.0
	for _, o := range curve {
		peak = max(peak, o.goodput)
	}
	for _, o := range curve {
		if o.times > 1 && (o.goodput < 0.95*peak || o.p99 >= time.Second) || o.times < 1 && o.refused > 0 {
			wrong = append(wrong, fmt.Sprintf("%v; the peak is %.0f/s", o, peak))
		}
	}
	return wrong
}

// At ten times the load that the store can take, as much is done as at its peak, and what is accepted is
// acknowledged within a second. Without shedding it waits for longer and longer.
func TestGoodputUnderOverload(t *testing.T) {
	for _, shed := range []bool{true, false} {
		var curve []outcome
		for _, times := range []float64{0.5, 1, 2, 5, 10} {
			o := play(t, times, shed)
			t.Logf("shedding %t, %v", shed, o)
			curve = append(curve, o)
		}
		wrong := judge(curve)
		switch {
		case shed && len(wrong) > 0:
			t.Errorf("%q", wrong)
		case !shed && len(wrong) == 0:
			t.Error("without shedding nothing is wrong")
		}
	}
}
