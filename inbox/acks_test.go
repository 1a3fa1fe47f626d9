package inbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/store/storetest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// slowFor holds up who reads the lines of one user.
type slowFor struct {
	store.Store
	user       pim.UserID
	held, hold chan struct{}
}

func (s *slowFor) Get(ctx context.Context, p store.Partition, key string) (store.Cell, bool, error) {
	if p == inbox.Lines(s.user) {
		s.held <- struct{}{}
		<-s.hold
	}
	return s.Store.Get(ctx, p, key)
}

// Whatever others have acknowledged, and however long it takes to write that: a
// device's own is there when it syncs, and it does not wait for theirs.
func TestSettleWaitsForNobody(t *testing.T) {
	s := &slowFor{Store: storetest.NewMemory(), user: "eve", held: make(chan struct{}, 1), hold: make(chan struct{})}
	addLine(t, s, "g:x", 5)
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler))
	a.Note(ctx, "eve", "d", 1, []inbox.Ack{{Conversation: "g:x", Seq: 1}})
	a.Note(ctx, "alice", "phone", 3, []inbox.Ack{{Conversation: "g:x", Seq: 4}})
	<-s.held // the flush of every second
	a.Note(ctx, "alice", "phone", 4, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
	a.Settle(ctx, "alice", "phone")
	cells, err := s.List(ctx, inbox.Acked("alice", "phone"), "", 10)
	if err != nil || len(cells) != 1 || cells[0].Version != 5 {
		t.Errorf("stored %+v, %v", cells, err)
	}
	if serial, err := inbox.New(s).Serial(ctx, "alice", "phone"); serial != 4 || err != nil {
		t.Errorf("serial %d, %v", serial, err)
	}
	close(s.hold)
	a.Close()
}

// The connection whose acknowledgement fills the buffer writes those of everybody,
// also when it ends.
func TestAcksOutliveTheConnection(t *testing.T) {
	s := storetest.NewMemory()
	addLine(t, s, "g:x", 5)
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler))
	a.Note(ctx, "alice", "phone", 1, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
	many := make([]inbox.Ack, 1<<16+1)
	for i := range many {
		many[i] = inbox.Ack{Conversation: pim.ConversationID(fmt.Sprint("g:", i)), Seq: 1}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	a.Note(ended, "eve", "d", 1, many)
	a.Close()
	if cells, _ := s.List(ctx, inbox.Acked("alice", "phone"), "", 10); len(cells) != 1 {
		t.Error("alice's acknowledgement went with eve's connection")
	}
}

// Whatever the engine does with the parts of a write, the serial is not behind the
// acknowledgements: a device restored from a backup is noticed by it.
func TestSerialIsStoredFirst(t *testing.T) {
	for seed := range uint64(300) {
		mem := storetest.NewMemory()
		addLine(t, mem, "g:x", 5)
		loose := storetest.Loose(mem, seed)
		loose.FailRate(0.5)
		a := inbox.NewAcks(loose, slog.New(slog.DiscardHandler))
		a.Note(ctx, "alice", "phone", 7, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
		a.Close()
		cells, _ := mem.List(ctx, inbox.Acked("alice", "phone"), "", 10)
		if serial, _ := inbox.New(mem).Serial(ctx, "alice", "phone"); len(cells) == 1 && serial != 7 {
			t.Fatalf("seed %d: acknowledged, and the serial is %d", seed, serial)
		}
	}
}

// What was flushed outlives the power, and what was settled before it too, though
// nobody sends anything that has an fsync of its own.
func TestFlushedAcksAreDurable(t *testing.T) {
	const devices = 300 // more than in one commit
	fs := vfs.NewCrashableMem()
	open := func(fs vfs.FS) *pebble.Store {
		s, err := pebble.Open("db", pebble.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(fs)
	addLine(t, s, "g:x", 5)
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler))
	device := func(i int) pim.DeviceID { return pim.DeviceID(fmt.Sprint("device-", i)) }
	for i := range devices {
		a.Note(ctx, "alice", device(i), 7, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
	}
	a.Settle(ctx, "alice", device(0))
	a.Flush(ctx)
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	a.Close()
	s.Close()
	s = open(crashed)
	defer s.Close()
	for i := range devices {
		cells, err := s.List(ctx, inbox.Acked("alice", device(i)), "", 10)
		if serial, _ := inbox.New(s).Serial(ctx, "alice", device(i)); err != nil || serial != 7 || len(cells) != 1 || cells[0].Version != 5 {
			t.Fatalf("%s: serial %d, acknowledged %+v, %v", device(i), serial, cells, err)
		}
	}
}

// Acknowledgements are counted until they are stored, and as lost where they are not.
func TestAckMetrics(t *testing.T) {
	s := &slowFor{Store: storetest.NewMemory(), user: "eve", held: make(chan struct{}, 1), hold: make(chan struct{})}
	addLine(t, s, "g:x", 5)
	r := prometheus.NewPedanticRegistry()
	shows := func(lines ...string) {
		t.Helper()
		rec := httptest.NewRecorder()
		promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
		for _, line := range lines {
			if !strings.Contains(rec.Body.String(), "\n"+line+"\n") {
				t.Errorf("%q is not in the metrics:\n%s", line, rec.Body)
			}
		}
	}
	loose := storetest.Loose(s, 1)
	a := inbox.NewAcks(loose, slog.New(slog.DiscardHandler))
	a.Register(r)
	a.Note(ctx, "eve", "d", 1, []inbox.Ack{{Conversation: "g:x", Seq: 1}, {Conversation: "g:y", Seq: 1}})
	<-s.held // the flush of every second
	a.Note(ctx, "alice", "phone", 1, []inbox.Ack{{Conversation: "g:x", Seq: 4}})
	shows("pim_acks_pending 3")
	close(s.hold)
	<-s.held
	a.Flush(ctx)
	shows("pim_acks_pending 0", "pim_acks_lost_total 0")
	loose.FailRate(1)
	a.Note(ctx, "alice", "phone", 2, []inbox.Ack{{Conversation: "g:x", Seq: 5}, {Conversation: "g:y", Seq: 5}})
	a.Close()
	shows("pim_acks_pending 0", "pim_acks_lost_total 2")
}
