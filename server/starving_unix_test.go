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

// The process runs out of file descriptors while much is sent: the store cannot begin
// another write-ahead log. The node says so, and goes on without a restart when there
// are some again; everything is stored, once.
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
	limit(3)
	defer limit(was.Cur)
	const messages = 450 // more than fits the memtable
	sendings := make([]*client.Sending, messages)
	for i := range sendings {
		var err error
		if sendings[i], err = alice.Send(t.Context(), chat, bytes.Repeat([]byte{'x'}, 60_000)); err != nil {
			t.Fatal(err)
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
	wait("the node says that it has no file", func(err error) bool { return pim.KindOf(err) == pim.KindUnavailable })
	limit(was.Cur)
	wait("the node is ready again", func(err error) bool { return err == nil })
	seen := make(map[pim.Seq]bool)
	for _, s := range sendings {
		sent := alice.done(s)
		if sent.Seq < 2 || sent.Seq > messages+1 || seen[sent.Seq] {
			t.Errorf("stored at %d", sent.Seq)
		}
		seen[sent.Seq] = true
	}
}
