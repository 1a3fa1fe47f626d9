package limit

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

// A user stores a day's worth at once, goes beyond it by one message, waits, and then goes on at the rate. Nobody
// else is concerned.
func TestADayOfAUser(t *testing.T) {
	const day = 24 * time.Hour
	d := NewDisk(1 << 20)
	now := time.Hour
	stored := 0
	for !d.Ask(now, "eve").Refused() {
		d.Add(now, "eve", 3000)
		stored += 3000
	}
	if stored < 1<<20 || stored >= 1<<20+3000 {
		t.Errorf("%d bytes at once", stored)
	}
	v := d.Ask(now, "eve")
	if v.Reason != UserBytes || v.After <= 0 || v.After > 3000*(day/(1<<20)+time.Nanosecond) {
		t.Errorf("told %v, %v", v.Reason, v.After)
	}
	if d.Ask(now, "alice").Refused() {
		t.Error("another user is refused")
	}
	if now += v.After; d.Ask(now, "eve").Refused() {
		t.Error("still refused when the time is over")
	}
	end := now + 10*day
	for stored = 0; now < end; {
		if v := d.Ask(now, "eve"); v.Refused() {
			now += v.After
			continue
		}
		d.Add(now, "eve", 3000)
		stored += 3000
	}
	if stored < 10<<20-3000 || stored > 10<<20+10<<20/1000+6000 { // the rate is cut to full nanoseconds for a byte
		t.Errorf("%d bytes in ten days", stored)
	}
}

// No bound is none, and the greatest ones overflow nothing.
func TestBoundsOfDisks(t *testing.T) {
	for _, perDay := range []int{0, -1} {
		d := NewDisk(perDay)
		if d.Add(0, "alice", 1<<40); d != nil || d.Ask(0, "alice").Refused() {
			t.Errorf("%d a day bound something", perDay)
		}
	}
	for _, perDay := range []int{1, 1 << 40, 1 << 62} {
		d := NewDisk(perDay)
		if d.Ask(0, "alice").Refused() {
			t.Errorf("%d a day: the first byte is refused", perDay)
		}
		d.Add(0, "alice", 1)
		if got := d.Ask(0, "alice").Refused(); got != (perDay == 1) {
			t.Errorf("%d a day: after one byte refused is %v", perDay, got)
		}
	}
}

// What is added at once counts, all of it.
func TestDiskAtOnce(t *testing.T) {
	d := NewDisk(1000 * 64)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 125 {
				d.Add(0, "eve", 64)
				d.Ask(0, "eve")
			}
		})
	}
	running.Wait()
	if !d.Ask(0, "eve").Refused() {
		t.Error("a part of what was added is lost")
	}
}

func BenchmarkDisk(b *testing.B) {
	d := NewDisk(1 << 30)
	users := make([]pim.UserID, 1000)
	for i := range users {
		users[i] = pim.UserID(fmt.Sprint("user", i))
	}
	b.Run("ask", func(b *testing.B) {
		for i := range b.N {
			d.Ask(time.Duration(i), users[i%len(users)])
		}
	})
	b.Run("add", func(b *testing.B) {
		for i := range b.N {
			d.Add(time.Duration(i), users[i%len(users)], 200)
		}
	})
}
