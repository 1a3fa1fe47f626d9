package clock

import (
	"strings"
	"testing"
	"time"
)

// machine is a machine's clocks in virtual time.
type machine struct {
	t     *testing.T
	judge judge
	at    Reading
}

func boot(t *testing.T) *machine {
	m := &machine{t: t, at: Reading{Wall: 1_795_000_000 * time.Second, Mono: time.Hour, Kernel: Kernel{Synchronised: true}}}
	m.is("")
	return m
}

// is takes a reading and checks that the judge's answer contains want; want "" means
// that the answer is empty.
func (m *machine) is(want string) {
	m.t.Helper()
	unsteady, wrong := m.judge.take(m.at)
	if got := m.judge.trouble(m.at.Kernel, unsteady, wrong); want == "" && got != "" || !strings.Contains(got, want) {
		m.t.Fatalf("said %q, want %q", got, want)
	}
}

// runs lets n seconds pass; in each the wall clock advances by a second and extra.
func (m *machine) runs(n int, extra time.Duration, want string) {
	m.t.Helper()
	for range n {
		m.at.Mono += time.Second
		m.at.Wall += time.Second + extra
		m.is(want)
	}
}

func TestJump(t *testing.T) {
	for _, by := range []time.Duration{401 * time.Millisecond, -401 * time.Millisecond, time.Hour, -time.Hour} {
		m := boot(t)
		m.runs(5, 0, "")
		m.at.Wall += by
		m.is(by.String())
		m.runs(9, 0, "jumped")
		m.runs(100, 0, "")
		if m.judge.jumps != 1 || m.judge.drift(m.at) != by {
			t.Errorf("%d jumps, drift %v after one of %v", m.judge.jumps, m.judge.drift(m.at), by)
		}
	}
}

func TestJumpAndBack(t *testing.T) {
	m := boot(t)
	m.at.Wall += 2 * time.Second
	m.is("2s")
	m.runs(8, 0, "2s")
	m.at.Wall -= 2 * time.Second
	m.is("-2s")
	m.runs(9, 0, "jumped")
	m.runs(1, 0, "")
	if m.judge.jumps != 2 {
		t.Errorf("%d jumps", m.judge.jumps)
	}
}

// After a jump the clock moves by more than a slew for a minute. It cannot be relied on
// until it has been steady for Steady.
func TestUnsteadyAfterAJump(t *testing.T) {
	m := boot(t)
	m.at.Wall += time.Second
	m.is("jumped")
	m.runs(60, 30*time.Millisecond, "jumped")
	m.runs(9, 0, "jumped")
	m.runs(1, 0, "")
}

// A time service slews the clock for hours, and then steps it by less than Bound. Neither
// is a jump.
func TestSlew(t *testing.T) {
	for _, ppm := range []time.Duration{500, -500} {
		m := boot(t)
		m.runs(10_000, ppm*time.Microsecond, "")
		m.at.Wall += 390 * time.Millisecond
		m.runs(10, 0, "")
	}
}

// Small steps that follow each other add up to a jump.
func TestSteps(t *testing.T) {
	m := boot(t)
	m.runs(3, 120*time.Millisecond, "")
	m.runs(1, 120*time.Millisecond, "jumped")
}

func TestKernelSaysThatItIsOff(t *testing.T) {
	for _, k := range []Kernel{
		{Synchronised: true, Error: 401 * time.Millisecond},
		{Synchronised: true, Offset: 401 * time.Millisecond},
		{Synchronised: true, Offset: -401 * time.Millisecond},
	} {
		m := boot(t)
		m.at.Kernel = k
		m.runs(100, 0, "off")
		m.at.Kernel = Kernel{Synchronised: true, Offset: 400 * time.Millisecond, Error: 400 * time.Millisecond, MaxError: time.Second}
		m.runs(1, 0, "")
	}
}

// Without a time service the kernel's figures say nothing, so the judge ignores them.
func TestUnsynchronised(t *testing.T) {
	m := boot(t)
	m.at.Kernel = Kernel{Error: 16 * time.Second, Offset: time.Second, MaxError: 16 * time.Second}
	m.runs(100, 0, "")
	m.at.Wall += time.Second
	m.is("jumped")
}
