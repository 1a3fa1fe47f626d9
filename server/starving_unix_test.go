//go:build unix

package server_test

import (
	"bytes"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
)

// The process runs out of file descriptors while much is sent, so the store cannot begin
// another write-ahead log. The node says so. When there are file descriptors again it goes on
// without a restart, and everything is stored once.
func TestOutOfFilesForAMoment(t *testing.T) {
	n := start(t, config(t), server.Options{})
	alice := n.connect("alice", "1", "tcp")
	chat := pim.Direct("alice", "bob")
	alice.says(chat, "before")

	var reading sync.WaitGroup
	reading.Go(func() {
		for range alice.Events() {
		}
	})
	t.Cleanup(reading.Wait)
	t.Cleanup(func() { alice.Close() })

	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(cur uint64) {
		l := was
		l.Cur = cur
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			t.Fatal(err)
		}
	}
	defer limit(was.Cur)
	starves := func() bool { return pim.KindOf(n.Ready()) == pim.KindUnavailable }
	var sendings []*client.Sending
	for round := 0; !starves(); round++ {
		if round == 100 {
			t.Fatal("in vain: the node says that it has no file")
		}
		limit(was.Cur) // so that a client whose connection broke comes back
		alice.says(chat, "whole again")
		limit(3)
		for range 100 {
			sending, err := alice.Send(t.Context(), chat, bytes.Repeat([]byte{'x'}, 60_000))
			if err != nil {
				t.Fatal(err)
			}
			sendings = append(sendings, sending)
		}
		last := sendings[len(sendings)-1].Done()
		for patience := time.After(10 * time.Second); last != nil && !starves(); {
			select {
			case <-last:
				last = nil
			case <-patience:
				last = nil
			case <-time.After(time.Millisecond):
			}
		}
	}
	wait := func(what string, ok func(error) bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Minute); !ok(n.Ready()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("in vain: %s; ready: %v", what, n.Ready())
			}
		}
	}
	limit(was.Cur)
	wait("the node is ready again", func(err error) bool { return err == nil })
	seen := make(map[pim.Seq]bool)
	for _, s := range sendings {
		sent := alice.done(s)
		if seen[sent.Seq] {
			t.Errorf("stored at %d", sent.Seq)
		}
		seen[sent.Seq] = true
	}
}
