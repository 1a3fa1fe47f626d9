package leaks

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// tests are a package's tests.
type tests func() int

func (t tests) Run() int { return t() }

// A goroutine that ends after goleak has lost its patience is waited for; one that does not end
// is left for goleak to report, and so it is at once when the tests have failed.
func TestWhatEndsLateIsWaitedFor(t *testing.T) {
	var end chan struct{}
	begins := func(code int) tests {
		return func() int {
			held := make(chan struct{})
			end = held
			go func() { <-held }()
			return code
		}
	}
	if code := (patient{begins(1), time.Hour, nil}).Run(); code != 1 {
		t.Errorf("tests that have failed end with %d", code)
	}
	close(end)
	if code := (patient{begins(0), time.Nanosecond, nil}).Run(); code != 0 || goleak.Find() == nil {
		t.Errorf("tests that leave a goroutine behind end with %d, and goleak finds nothing", code)
	}
	close(end)
	late := begins(0)
	if code := (patient{tests(func() int {
		code := late()
		time.AfterFunc(time.Second, func() { close(end) })
		return code
	}), time.Hour, nil}).Run(); code != 0 {
		t.Errorf("tests end with %d", code)
	}
	if err := goleak.Find(); err != nil {
		t.Errorf("what ends after a second was not waited for: %v", err)
	}
}
