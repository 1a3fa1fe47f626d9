package gateway

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// A device that has not taken what was sent before is told of its screen once it has, though nothing
// changes any more.
func TestSlowDevicesAreToldLater(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		const n, size = 16, 60 << 10
		x := newLab(t, func(l *Limits) { l.QueueBytes, l.Write = n*(size+1024), time.Minute })
		p := x.connect(websocket, "alice", "phone")
		x.push("alice", n, size)
		c := x.conn("alice")
		x.eventually("the connection's socket is full", func() bool {
			since := c.writing.Load()
			return since != 0 && x.gw.elapsed()-since > 100
		})
		p.send(&wirepb.PIMLook{Conversations: []string{"d:alice:bob"}, Users: []string{"bob"}})
		l := &x.gw.Sessions.looks
		told := func(id pim.ConversationID) (last uint64, told bool) {
			l.mu.Lock()
			defer l.mu.Unlock()
			s := l.subjects[id]
			return s.lookers[c], !s.told.IsZero() && !s.due
		}
		x.eventually("alice looks", func() bool { return l.some.Load() == 2 })
		x.read.Store(7)
		x.gw.Sessions.Acknowledged("d:alice:bob")
		for _, id := range []pim.ConversationID{"d:alice:bob", "u:bob"} {
			x.eventually("alice is owed what is to be told", func() bool {
				last, told := told(id)
				c.mu.Lock()
				defer c.mu.Unlock()
				return told && last == owed && c.out.owes
			})
		}
		for presence, receipt := false, false; !presence || !receipt; {
			switch m := p.next().(type) {
			case nil:
				t.Fatal("the connection has ended")
			case *wirepb.PIMPresence:
				presence = m.User == "bob" && m.SeenMs == 77
			case *wirepb.PIMReceipt:
				receipt = m.Read == 7
			}
		}
	})
}

// As long as the store fails, each subject is tried ever less often, and the log has one line a
// minute. Once it does not fail any more, all are told.
func TestAFailingStoreIsLeftAlone(t *testing.T) {
	for name, broken := range map[string]func(*lab) *atomic.Bool{
		"reads":    func(x *lab) *atomic.Bool { return &x.broken },
		"barriers": func(x *lab) *atomic.Bool { return &x.undurable },
	} {
		t.Run(name, func(t *testing.T) { failingStore(t, broken) })
	}
}

func failingStore(t *testing.T, broken func(*lab) *atomic.Bool) {
	synctest.Test(t, func(t *testing.T) {
		const subjects = 50
		x := &lab{t: t, begun: time.Now()}
		var log bytes.Buffer
		o := x.options(nil)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		x.gw = New(o)
		defer x.gw.Close()
		near, far := net.Pipe()
		go io.Copy(io.Discard, near)
		c := newConn(x.gw, far, lengths)
		c.user = "alice"
		defer c.abort()
		var ids []pim.ConversationID
		for i := range subjects {
			ids = append(ids, pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))))
		}
		l := &x.gw.Sessions.looks
		l.set(c, ids, 0)
		change := func() { // all of them before the work starts, which else would fail with the first few, and try those at other times
			start := false
			for _, id := range ids {
				start = l.change(id) || start
			}
			if start {
				x.gw.Sessions.startTelling()
			}
		}
		broken(x).Store(true)
		x.read.Store(3)
		for range 600 {
			change()
			time.Sleep(time.Second)
		}
		times := int64(subjects)
		if broken(x) == &x.undurable {
			times = 1 // one barrier is for all of them
		}
		if n := x.failed.Load(); n < 15*times || n > 30*times {
			t.Errorf("%d failures in ten minutes", n)
		}
		if lines := bytes.Count(log.Bytes(), []byte("\n")); lines < 8 || lines > 11 {
			t.Errorf("%d lines of log in ten minutes", lines)
		}
		broken(x).Store(false)
		time.Sleep(lookEvery<<maxFailures + lookEvery)
		synctest.Wait()
		before := x.barriers.Load()
		x.read.Store(4)
		change()
		time.Sleep(3 * lookEvery)
		synctest.Wait()
		if n := x.barriers.Load() - before; n < 1 || n > subjects/5 {
			t.Errorf("%d barriers for %d subjects", n, subjects)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range ids {
			if s := l.subjects[id]; s.lookers[c] == untold || s.failed != 0 {
				t.Errorf("%s is not told: %d, %d", id, s.lookers[c], s.failed)
			}
		}
	})
}
