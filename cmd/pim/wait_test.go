package main

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever reads the output may take longer than --timeout: that is not the server's time.
func TestPrintingTakesNoTimeOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Bool
		s := &session{timeout: time.Second, timer: time.AfterFunc(time.Second, func() { late.Store(true) })}
		for range 3 {
			time.Sleep(900 * time.Millisecond)
			if err := s.printing(func() error { time.Sleep(time.Minute); return nil }); err != nil || late.Load() {
				t.Fatalf("late %v, %v", late.Load(), err)
			}
		}
		if err := s.waitsNoMore(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if late.Load() {
			t.Error("a timeout that was ended is over")
		}
		s.printing(func() error { return nil })
		time.Sleep(1001 * time.Millisecond)
		if err := s.waitsNoMore(); err != errLate || !late.Load() {
			t.Errorf("after the timeout: %v, %v", late.Load(), err)
		}
	})
}
