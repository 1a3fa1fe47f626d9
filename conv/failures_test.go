package conv_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// unread is a store of which nothing can be read.
type unread struct {
	store.Store
	broken atomic.Bool
}

var errUnread = &pim.Error{Kind: pim.KindUnavailable, Text: "the store cannot be read"}

func (s *unread) Get(ctx context.Context, gets []store.Get) error {
	if s.broken.Load() {
		return errUnread
	}
	return s.Store.Get(ctx, gets)
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) with(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// The log says that loads fail and why, each ten seconds at most, and how many.
func TestFailedLoadsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec, log := &unread{Store: storetest.NewMemory()}, newRecorder(), new(lines)
		s.broken.Store(true)
		w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
		defer w.Close()
		chat := pim.Direct("ann", "bob")
		fail := func(n int) {
			t.Helper()
			for range n {
				r := rec.track(message(chat, "ann", "x"))
				w.Submit([]*conv.Request{r})
				if a := rec.wait(r); pim.KindOf(a.Err) != pim.KindUnavailable {
					t.Fatal(a.Err)
				}
			}
		}
		fail(5)
		if n := log.with("look-ups in the store failed"); n != 1 || log.with("what=load") != 1 || log.with("the store cannot be read") != 1 || log.with(string(chat)) != 1 {
			t.Errorf("%d lines after five failures: %s", n, log.buf.String())
		}
		time.Sleep(11 * time.Second)
		fail(1)
		if log.with("look-ups in the store failed") != 2 {
			t.Errorf("after eleven seconds: %s", log.buf.String())
		}
		s.broken.Store(false)
		time.Sleep(11 * time.Second)
		if _, err := persist(w, rec, message(chat, "ann", "x")); err != nil {
			t.Fatal(err)
		}
		if _, err := persist(w, rec, message("g:none", "ann", "x")); err == nil { // what is wrong with a request is no failure
			t.Fatal("a group that does not exist")
		}
		if log.with("look-ups in the store failed") != 2 {
			t.Errorf("without failures: %s", log.buf.String())
		}
	})
}
