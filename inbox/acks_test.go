package inbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/store/storetest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// slowFor holds up calls that read a line of one user.
type slowFor struct {
	store.Store
	user       pim.UserID
	held, hold chan struct{}
}

func (s *slowFor) Get(ctx context.Context, gets []store.Get) error {
	for i := range gets {
		if gets[i].Partition == inbox.Fresh(s.user) {
			s.held <- struct{}{}
			<-s.hold
		}
	}
	return s.Store.Get(ctx, gets)
}

// Settle stores what a device has acknowledged, so that its sync sees it, and does not
// wait for the acknowledgements of others, however long it takes to write those.
func TestSettleWaitsForNobody(t *testing.T) {
	s := &slowFor{Store: storetest.NewMemory(), user: "eve", held: make(chan struct{}, 1), hold: make(chan struct{})}
	addLine(t, s, "g:x", 5)
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	a.Note("eve", "d", 1, []inbox.Ack{{Conversation: "g:x", Seq: 1}})
	a.Note("alice", "phone", 3, []inbox.Ack{{Conversation: "g:x", Seq: 4}})
	<-s.held // the flush of every second
	a.Note("alice", "phone", 4, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
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

// While a flush hangs, and whatever one user acknowledges: nobody waits, what one user
// may have waiting is bounded, and there is room for the others.
func TestAcksHaveShares(t *testing.T) {
	s := &slowFor{Store: storetest.NewMemory(), user: "held", held: make(chan struct{}, 1), hold: make(chan struct{})}
	addLine(t, s, "g:x", 5)
	r := prometheus.NewPedanticRegistry()
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	a.Register(r)
	a.Note("held", "d", 1, []inbox.Ack{{Conversation: "g:x", Seq: 1}})
	<-s.held // the flush of every second: it hangs from here on
	many := make([]inbox.Ack, 1<<16)
	for i := range many {
		many[i] = inbox.Ack{Conversation: pim.ConversationID(fmt.Sprint("g:", i)), Seq: 1}
	}
	a.Note("eve", "d", 1, many)
	a.Note("eve", "other", 1, many)
	shows(t, r, fmt.Sprint("pim_acks_pending ", inbox.AckShare+1), fmt.Sprintf(`pim_acks_dropped_total{reason="user"} %d`, 2*len(many)-inbox.AckShare))
	for i := range 2 * len(many) / inbox.AckShare {
		a.Note(pim.UserID(fmt.Sprint("eve", i)), "d", 1, many[:inbox.AckShare])
	}
	shows(t, r, fmt.Sprintf(`pim_acks_dropped_total{reason="all"} %d`, len(many)+inbox.AckShare-16*17))
	a.Note("alice", "phone", 1, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
	a.Note("alice", "phone", 2, []inbox.Ack{{Conversation: "g:x", Seq: 4}})
	close(s.hold)
	a.Close()
	if cells, _ := s.List(ctx, inbox.Acked("alice", "phone"), "", 10); len(cells) != 1 || cells[0].Version != 5 {
		t.Errorf("alice's acknowledgement had no room: %v", cells)
	}
	shows(t, r, "pim_acks_pending 0", "pim_acks_lost_total 0")
}

// shows checks that the lines are among the metrics.
func shows(t *testing.T, r *prometheus.Registry, lines ...string) {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range lines {
		if !strings.Contains(rec.Body.String(), "\n"+line+"\n") {
			t.Errorf("%q is not in the metrics:\n%s", line, rec.Body)
		}
	}
}

// Whatever the engine does with the parts of a write, the serial is not behind the
// acknowledgements. By it the server notices a device that was restored from a backup.
func TestSerialIsStoredFirst(t *testing.T) {
	for seed := range uint64(300) {
		mem := storetest.NewMemory()
		addLine(t, mem, "g:x", 5)
		loose := storetest.Loose(mem, seed)
		loose.FailRate(0.5)
		a := inbox.NewAcks(loose, slog.New(slog.DiscardHandler), nil)
		a.Note("alice", "phone", 7, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
		a.Close()
		cells, _ := mem.List(ctx, inbox.Acked("alice", "phone"), "", 10)
		if serial, _ := inbox.New(mem).Serial(ctx, "alice", "phone"); len(cells) == 1 && serial != 7 {
			t.Fatalf("seed %d: acknowledged, and the serial is %d", seed, serial)
		}
	}
}

// A device may choose any serial. One that no store can hold counts as the greatest, and does
// not keep acknowledgements from being stored.
func TestSerialsAreBounded(t *testing.T) {
	for _, serial := range []uint64{store.MaxVersion, store.MaxVersion + 1, ^uint64(0)} {
		s := storetest.NewMemory()
		addLine(t, s, "g:x", 5)
		a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
		a.Note("alice", "phone", serial, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
		a.Note("alice", "phone", 3, nil)
		a.Close()
		acknowledged(t, s, "phone", store.MaxVersion)
	}
}

// Acknowledgements that were flushed survive a power failure, and so do those that were
// settled before, although nobody sends anything that has an fsync of its own.
func TestFlushedAcksAreDurable(t *testing.T) {
	const devices = 300 // more than in one commit
	device := func(i int) pim.DeviceID { return pim.DeviceID(fmt.Sprint("device-", i)) }
	s := crashed(t, func(a *inbox.Acks) {
		for i := range devices {
			a.Note("alice", device(i), 7, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
		}
		a.Settle(ctx, "alice", device(0))
		a.Flush(ctx)
	})
	for i := range devices {
		acknowledged(t, s, device(i), 7)
	}
}

// They also survive it if the last commit of the flush has nothing to write because the
// conversations are made up, with serials or without.
func TestFlushedAcksAreDurableBeforeNothing(t *testing.T) {
	for _, serial := range []uint64{0, 9} {
		s := crashed(t, func(a *inbox.Acks) {
			a.Note("alice", "phone", 7, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
			for i := range 256 { // which of them is the last is by chance: 256 to 1 that it is one of these
				a.Note("eve", pim.DeviceID(fmt.Sprint("d", i)), serial, []inbox.Ack{{Conversation: "g:made-up", Seq: 1}})
			}
			a.Flush(ctx)
		})
		acknowledged(t, s, "phone", 7)
	}
}

// crashed returns a store as it is if the power fails right after do.
func crashed(t *testing.T, do func(*inbox.Acks)) store.Store {
	t.Helper()
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
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	do(a)
	image := fs.CrashClone(vfs.CrashCloneCfg{})
	a.Close()
	s.Close()
	s = open(image)
	t.Cleanup(func() { s.Close() })
	return s
}

// acknowledged checks that alice's device has acknowledged g:x up to 5, with serial.
func acknowledged(t *testing.T, s store.Store, device pim.DeviceID, serial uint64) {
	t.Helper()
	cells, err := s.List(ctx, inbox.Acked("alice", device), "", 10)
	if got, err := inbox.New(s).Serial(ctx, "alice", device); err != nil || got != serial {
		t.Errorf("%s: serial %d, %v", device, got, err)
	}
	if err != nil || len(cells) != 1 || cells[0].Version != 5 {
		t.Fatalf("%s: acknowledged %+v, %v", device, cells, err)
	}
}

// Acknowledgements count as pending until they are stored, and as lost if they cannot be.
func TestAckMetrics(t *testing.T) {
	s := &slowFor{Store: storetest.NewMemory(), user: "eve", held: make(chan struct{}, 1), hold: make(chan struct{})}
	addLine(t, s, "g:x", 5)
	r := prometheus.NewPedanticRegistry()
	loose := storetest.Loose(s, 1)
	a := inbox.NewAcks(loose, slog.New(slog.DiscardHandler), nil)
	a.Register(r)
	a.Note("eve", "d", 1, []inbox.Ack{{Conversation: "g:x", Seq: 1}, {Conversation: "g:y", Seq: 1}})
	<-s.held // the flush of every second
	a.Note("alice", "phone", 1, []inbox.Ack{{Conversation: "g:x", Seq: 4}})
	shows(t, r, "pim_acks_pending 3")
	close(s.hold)
	<-s.held
	a.Flush(ctx)
	shows(t, r, "pim_acks_pending 0", "pim_acks_lost_total 0")
	loose.FailRate(1)
	a.Note("alice", "phone", 2, []inbox.Ack{{Conversation: "g:x", Seq: 5}, {Conversation: "g:y", Seq: 5}})
	a.Close()
	shows(t, r, "pim_acks_pending 0", "pim_acks_lost_total 2")
}

// unreadable is a store in which some lines of one user cannot be read.
type unreadable struct {
	store.Store
	user         pim.UserID
	conversation string
}

func (u unreadable) Get(ctx context.Context, gets []store.Get) error {
	err := u.Store.Get(ctx, gets)
	for i := range gets {
		if g := &gets[i]; g.Partition == inbox.Fresh(u.user) && g.Key == u.conversation {
			g.Cell, g.Err = store.Cell{}, pim.Errorf(pim.KindUnavailable, "no answer")
			err = g.Err
		}
	}
	return err
}

// An acknowledgement whose line cannot be read is lost, and no other is.
func TestOneUnreadableLine(t *testing.T) {
	s := unreadable{storetest.NewMemory(), "eve", "g:x"}
	w := &store.Write{}
	for _, c := range []pim.ConversationID{"g:x", "g:y"} {
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Fresh("eve"), Cell: inbox.Line{Newest: 9}.Cell(c)})
	}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	addLine(t, s, "g:x", 5) // alice's
	r := prometheus.NewPedanticRegistry()
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	a.Register(r)
	a.Note("eve", "d", 1, []inbox.Ack{{Conversation: "g:x", Seq: 9}, {Conversation: "g:y", Seq: 9}})
	a.Note("alice", "phone", 7, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
	a.Close()
	acknowledged(t, s, "phone", 7)
	cells, err := s.List(ctx, inbox.Acked("eve", "d"), "", 10)
	if err != nil || len(cells) != 1 || cells[0].Key != "g:y" || cells[0].Version != 9 {
		t.Errorf("of eve there are %+v, %v", cells, err)
	}
	shows(t, r, "pim_acks_lost_total 1")
}

// The lines of all acknowledgements are looked up in few calls.
func TestAcksLookUpManyLines(t *testing.T) {
	const n = 1000
	s := &calls{Store: storetest.NewMemory()}
	w, noted := &store.Write{}, []inbox.Ack(nil)
	for i := range n {
		c := pim.ConversationID(fmt.Sprint("g:", i))
		p := inbox.Fresh("alice")
		if i%2 == 0 {
			p = inbox.Lines("alice")
		}
		w.Cells = append(w.Cells, store.CellWrite{Partition: p, Cell: inbox.Line{Newest: 3}.Cell(c)})
		noted = append(noted, inbox.Ack{Conversation: c, Seq: 3})
	}
	if err := store.Commit(ctx, s.Store, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	a.Note("alice", "phone", 1, noted)
	a.Close()
	if cells, err := s.Store.List(ctx, inbox.Acked("alice", "phone"), "", 2*n); err != nil || len(cells) != n {
		t.Errorf("%d are stored, %v", len(cells), err)
	}
	if s.gets > 4 || s.got != n+n/2 {
		t.Errorf("%d calls for %d cells", s.gets, s.got)
	}
}

// A write that a sync left for later may take long. Meanwhile acknowledgements are stored,
// one user's writes take no more than a share, and there is room for those of others.
func TestLaterHoldsUpNoFlush(t *testing.T) {
	s := storetest.NewMemory()
	addLine(t, s, "g:x", 5)
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	defer a.Close()
	begun, goOn := make(chan struct{}), make(chan struct{})
	a.Later("eve", func(context.Context) { close(begun); <-goOn })
	<-begun
	eves := 0
	for range 1000 {
		a.Later("eve", func(context.Context) { eves++ })
	}
	done := make(chan struct{})
	a.Later("bob", func(context.Context) { close(done) })
	a.Note("alice", "phone", 1, []inbox.Ack{{Conversation: "g:x", Seq: 5}})
	for { // the flush of every second
		cells, err := s.List(ctx, inbox.Acked("alice", "phone"), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(cells) == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(goOn)
	<-done
	if eves != 3 {
		t.Errorf("%d more writes of one user waited, want 3", eves)
	}
}
