package limit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// overloaded is an Overload with a target of 20 ms, and the time.
type overloaded struct {
	*Overload
	now time.Duration
}

func newOverloaded() *overloaded {
	return &overloaded{Overload: NewOverload(20*time.Millisecond, func() float64 { return 0.5 })}
}

// interval plays an interval in which work of q has waited for so many milliseconds.
func (o *overloaded) interval(q Queue, waits ...int) Class {
	for _, ms := range waits {
		o.Waited(q, time.Duration(ms)*time.Millisecond)
	}
	o.now += OverloadInterval
	o.Tick(o.now)
	return o.Level()
}

// What is shed follows from how long the luckiest has waited: with each interval above the target another class is,
// with each other interval one less.
func TestOverloadRisesAndFalls(t *testing.T) {
	o := newOverloaded()
	for i, step := range []struct {
		waits []int
		want  Class
	}{
		{[]int{500, 400, 3}, 0}, // one of them got through
		{[]int{500, 20}, 0},
		{[]int{500, 21}, Typing},
		{[]int{70}, Receipts},
		{[]int{70}, History},
		{[]int{70}, NewLogins},
		{[]int{70}, NewSends},
		{[]int{70}, NewSends},
		{[]int{500, 1}, NewLogins},
		{nil, History}, // nothing waits
		{[]int{21}, NewLogins},
		{nil, History},
		{nil, Receipts},
		{nil, Typing},
		{nil, 0},
		{nil, 0},
		{[]int{900}, Typing}, // a disk that hangs for a moment
		{nil, 0},
		{[]int{900}, Typing},
		{[]int{80}, NewSends}, // it is no moment
	} {
		if level := o.interval(Arrivals, step.waits...); level != step.want {
			t.Fatalf("interval %d: %v is shed at last, want %v", i, level, step.want)
		}
	}
}

// Whatever waits for however long in whichever queue, each class is shed only together with all before it.
func TestOverloadKeepsItsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOverloaded()
		for range 50 {
			for range rapid.IntRange(0, 4).Draw(t, "works") {
				o.Waited(Queue(rapid.IntRange(0, int(queues)-1).Draw(t, "queue")), time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms"))*time.Millisecond)
			}
			o.now += OverloadInterval
			before := o.Level()
			o.Tick(o.now)
			for _, c := range Classes() {
				if o.Sheds(c) && c > Typing && !o.Sheds(c-1) {
					t.Fatalf("%v is shed and %v is not", c, c-1)
				}
			}
			if before == 0 && o.Level() > Typing {
				t.Fatal("one interval sheds more than typing")
			}
		}
	})
}

// A store that takes long for each commit is slow, and not overloaded: what it takes at least is no waiting. If it becomes slower for
// good, that is known after some minutes. What is very long is waiting in any case.
func TestOverloadOfAStore(t *testing.T) {
	o := newOverloaded()
	stays := func(ms int, most Class) {
		t.Helper()
		for range 200 {
			if level := o.interval(Commits, ms, 2*ms); level > most {
				t.Fatalf("with commits of %d ms %v is shed", ms, level)
			}
		}
	}
	stays(200, 0)
	stays(215, 0)
	if o.interval(Commits, 230); o.Level() != Typing {
		t.Error("30 ms more are no overload")
	}
	if p := o.Patience(); p != 500*time.Millisecond {
		t.Errorf("the sends that are let in may take %v", p)
	}
	o = newOverloaded()
	stays(5, 0)
	for range 5 {
		o.interval(Commits, 45)
	}
	if o.Level() != NewSends {
		t.Error("40 ms more are no overload")
	}
	for range int(11 * time.Minute / OverloadInterval) {
		o.interval(Commits, 45)
	}
	if o.Level() != 0 {
		t.Error("a store that has become slower is an overload for ever")
	}
	for range int(11 * time.Minute / OverloadInterval) {
		o.interval(Commits, 400)
	}
	if o.Level() != NewSends {
		t.Error("a store that takes 400 ms is not overloaded")
	}
}

// What has not come back in an interval has waited as long as what came before it, at least.
func TestOverloadOfASilentStore(t *testing.T) {
	o := newOverloaded()
	o.interval(Commits, 1)
	o.Began(Commits, 2)
	if o.interval(Commits); o.Level() != 0 {
		t.Error("a store that is asked for the first time is overloaded")
	}
	o.interval(Commits, 60)
	for _, want := range []Class{Receipts, History} {
		if level := o.interval(Commits); level != want {
			t.Errorf("the store says nothing: %v is shed at last, want %v", level, want)
		}
	}
	o.Began(Commits, -2)
	if level := o.interval(Commits); level != Receipts {
		t.Errorf("nothing is asked of it any more: %v is shed at last", level)
	}
}

// Who is refused comes back at a random time, and later if more are refused.
func TestOverloadSpreadsThoseWhoAreRefused(t *testing.T) {
	random := 0.0
	o := &overloaded{Overload: NewOverload(20*time.Millisecond, func() float64 { return random })}
	between := func(least, most time.Duration) {
		t.Helper()
		random = 0
		first := o.After()
		random = 0.999999
		if last := o.After(); first < least || last > most || last < 3*first {
			t.Errorf("from %v to %v, want within %v and %v", first, last, least, most)
		}
	}
	between(250*time.Millisecond, time.Second)
	for range 100 {
		o.Shed(NewSends, 300)
		o.Served(100)
		o.interval(Arrivals)
	}
	between(900*time.Millisecond, 4100*time.Millisecond) // four times what is served is offered
	for range 100 {
		o.Shed(NewSends, 1000)
		o.interval(Arrivals)
	}
	between(2400*time.Millisecond, 10*time.Second)
	for range 100 {
		o.Served(100)
		o.interval(Arrivals)
	}
	between(250*time.Millisecond, 1010*time.Millisecond)
	if n := o.Count(NewSends); n != 130_000 {
		t.Errorf("%d were shed", n)
	}
}

// So many sends may wait as are answered in the time, and some in any case. The rate is known at once when it rises.
func TestBacklog(t *testing.T) {
	var b Backlog
	if n := b.Most(time.Second); n != leastBacklog {
		t.Errorf("%d before the first answer", n)
	}
	now := time.Second
	serve := func(perSecond int, d time.Duration) {
		for end := now + d; now < end; {
			now += 10 * time.Millisecond
			b.Served(perSecond/100, now)
		}
	}
	serve(10_000, time.Second)
	if n := b.Most(100 * time.Millisecond); n < 950 || n > 1100 {
		t.Errorf("%d may wait for 100 ms at 10,000 a second", n)
	}
	serve(50_000, 220*time.Millisecond)
	if n := b.Most(100 * time.Millisecond); n < 4500 || n > 5500 {
		t.Errorf("%d at 50,000 a second", n)
	}
	serve(0, 3*time.Second)
	if n := b.Most(100 * time.Millisecond); n > 2*leastBacklog {
		t.Errorf("%d when nothing is answered", n)
	}
}

// Without a target nothing is shed.
func TestNoOverload(t *testing.T) {
	var o *Overload
	o.Waited(Tasks, time.Hour)
	o.Shed(NewSends, 1)
	o.Served(1)
	if o.Sheds(Typing) || o.Level() != 0 || o.Count(NewSends) != 0 || o.Wait(Tasks) != 0 || o.Patience() != 0 || o.After() != 0 {
		t.Error("something is shed")
	}
}

// What a request costs that waits: nothing is allocated, and no lock is taken.
func BenchmarkOverload(b *testing.B) {
	o := NewOverload(20*time.Millisecond, func() float64 { return 0.5 })
	b.ReportAllocs()
	for i := range b.N {
		o.Waited(Arrivals, time.Duration(i))
		if o.Sheds(NewSends) {
			b.Fatal("it sheds")
		}
	}
}
