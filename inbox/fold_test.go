package inbox_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// However commits, acknowledgements, and the steps of several devices' syncs and folds
// interleave, and wherever a sync dies: no sync leaves out a line that was there before
// it began and that its device has not acknowledged. When all is over, each device is
// listed exactly what it lacks.
func TestNoLineIsMissed(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(4000), "")
	for seed := first; seed < first+n; seed++ {
		if err := interleave(seed, nil); err != nil {
			t.Fatalf("PIM_SEED=%d: %v", seed, err)
		}
	}
}

// Every part of the rules is needed: without it, some schedule finds a line that is
// missed.
func TestBrokenFoldsMissLines(t *testing.T) {
	seed := seeds.First(t)
	for name, breaks := range map[string]func(store.Store) store.Store{
		"marks are raised at the end":        func(s store.Store) store.Store { return &late{Store: s, marks: true} },
		"lines are forgotten before written": func(s store.Store) store.Store { return &late{Store: s} },
		"Lines is read before Fresh":         func(s store.Store) store.Store { return &linesFirst{Store: s} },
		"even marks are not raised":          func(s store.Store) store.Store { return evenStay{s} },
		"the mark is looked at once":         func(s store.Store) store.Store { return &oneLook{Store: s} },
		"the mark is read before Fresh":      func(s store.Store) store.Store { return &markFirst{Store: s} },
		"no first mark is written":           func(s store.Store) store.Store { return noFirst{s} },
		"left lines wait for no device":      func(s store.Store) store.Store { return heedless{s.(*run)} },
	} {
		found := 0
		for ; found < 40_000 && interleave(seed+uint64(found), breaks) == nil; found++ {
		}
		if found == 40_000 {
			t.Errorf("%s: not found", name)
		}
		t.Logf("%s: found by schedule %d", name, found)
	}
}

// run is a sync that goes on step by step. A step is a list, or the look-up or the write of
// one cell.
type run struct {
	store.Store
	device pim.DeviceID
	parked chan bool // true: before a call; closed: at the end
	goOn   chan bool // false: die
	must   map[string]pim.Seq
	listed []inbox.Summary
	err    error
	ended  bool
	rng    *rand.Rand // of the order of cells within a write
}

func (r *run) step() {
	r.parked <- true
	if !<-r.goOn {
		runtime.Goexit()
	}
}

func (r *run) Get(ctx context.Context, gets []store.Get) error {
	for i := range gets {
		r.step()
		if err := r.Store.Get(ctx, gets[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	r.step()
	return r.Store.List(ctx, p, after, limit)
}

func (r *run) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.BeginHere(ctx, r.commit, writes, d, done)
}

func (r *run) commit(ctx context.Context, w []*store.Write, d store.Durability) error {
	for _, i := range r.rng.Perm(len(w[0].Cells)) {
		r.step()
		if err := store.Commit(ctx, r.Store, []*store.Write{{Cells: w[0].Cells[i : i+1]}}, d); err != nil {
			return err
		}
	}
	return nil
}

// noEntries has no log: entries do not matter here.
type noEntries struct{ store.Store }

func (noEntries) Read(context.Context, []store.Read) error { return nil }

// schedule is a user's devices and conversations, as they are and as they should be.
type schedule struct {
	store  store.Store
	breaks func(store.Store) store.Store
	newest map[string]pim.Seq
	acked  map[pim.DeviceID]map[string]pim.Seq
	runs   []*run
}

func (s *schedule) lacks(d pim.DeviceID) map[string]pim.Seq {
	lacks := map[string]pim.Seq{}
	for c, seq := range s.newest {
		if s.acked[d][c] < seq {
			lacks[c] = seq
		}
	}
	return lacks
}

func (s *schedule) start(d pim.DeviceID, seed uint64) {
	r := &run{Store: s.store, device: d, rng: rand.New(rand.NewPCG(seed, 1)), parked: make(chan bool), goOn: make(chan bool), must: s.lacks(d)}
	var st store.Store = r
	if s.breaks != nil {
		st = s.breaks(r)
	}
	s.runs = append(s.runs, r)
	go func() {
		defer close(r.parked)
		x := inbox.New(st)
		x.FoldAll(1 + int(seed/3%4))                                             // all of Fresh is on the first page, or not
		req := inbox.SyncRequest{User: "alice", Device: d, Limit: int(seed % 3)} // 0: all on one page
		var later []func(context.Context)
		if seed%2 == 0 {
			req.Later = func(write func(context.Context)) { later = append(later, write) }
		}
		for {
			page, err := x.Sync(context.Background(), req)
			r.listed, r.err = append(r.listed, page.Summaries...), err
			if req.After = page.Next; req.After == "" {
				break
			}
		}
		for _, write := range later {
			write(context.Background())
		}
		r.ended = true
	}()
	<-r.parked
}

// goOn takes a run one step on, or ends it, and reports what its sync left out.
func (s *schedule) goOn(i int, alive bool) error {
	r := s.runs[i]
	r.goOn <- alive
	if <-r.parked {
		return nil
	}
	s.runs = slices.Delete(s.runs, i, i+1)
	if !r.ended {
		return nil
	}
	if r.err != nil {
		return r.err
	}
	for _, sum := range r.listed {
		if sum.Newest >= r.must[string(sum.Conversation)] {
			delete(r.must, string(sum.Conversation))
		}
	}
	for c, seq := range r.must {
		if s.acked[r.device][c] < seq {
			return fmt.Errorf("a sync of %s left out %s, which was at %d when it began", r.device, c, seq)
		}
	}
	return nil
}

func interleave(seed uint64, breaks func(store.Store) store.Store) (err error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	devices := []pim.DeviceID{"phone", "laptop", "watch"}[:2+rng.IntN(2)]
	s := &schedule{store: noEntries{storetest.NewMemory()}, breaks: breaks, newest: map[string]pim.Seq{}, acked: map[pim.DeviceID]map[string]pim.Seq{}}
	defer func() {
		for len(s.runs) > 0 {
			_ = s.goOn(0, false)
		}
	}()
	put := func(p store.Partition, c store.Cell) {
		if e := store.Commit(ctx, s.store, []*store.Write{{Cells: []store.CellWrite{{Partition: p, Cell: c}}}}, store.Durable); e != nil {
			err = e
		}
	}
	for _, d := range devices {
		s.acked[d] = map[string]pim.Seq{}
	}
	leaves := rng.IntN(2) == 0 // groups are left and joined again; a device without a mark need not hear of that
	for _, d := range devices {
		if leaves {
			put(inbox.Settled("alice"), store.Cell{Key: string(d), Version: 2})
		}
	}
	conversations := 1 + rng.IntN(3)
	for range 80 {
		if err != nil {
			return err
		}
		c := fmt.Sprint("g:", rng.IntN(conversations))
		d := devices[rng.IntN(len(devices))]
		switch n := rng.IntN(20); {
		case n == 0:
			s.newest[c]++
			line := inbox.Line{Newest: s.newest[c], Left: leaves && rng.IntN(3) == 0}
			put(inbox.Fresh("alice"), line.Cell(pim.ConversationID(c)))
		case n == 1 && s.newest[c] > 1: // an older line once more, late
			put(inbox.Fresh("alice"), inbox.Line{Newest: s.newest[c] - 1}.Cell(pim.ConversationID(c)))
		case n <= 3 && s.newest[c] > 0:
			s.acked[d][c] = s.newest[c]
			put(inbox.Acked("alice", d), store.Cell{Key: c, Version: uint64(s.newest[c])})
		case n <= 5 && len(s.runs) < 3:
			s.start(d, rng.Uint64())
		case len(s.runs) > 0:
			i := rng.IntN(len(s.runs))
			for range 1 + rng.IntN(4) {
				was := len(s.runs)
				if err := s.goOn(i, rng.IntN(60) > 0); err != nil {
					return err
				}
				if len(s.runs) < was {
					break
				}
			}
		}
	}
	for len(s.runs) > 0 && err == nil {
		err = s.goOn(rng.IntN(len(s.runs)), true)
	}
	for _, d := range devices {
		page, e := inbox.New(s.store).Sync(ctx, inbox.SyncRequest{User: "alice", Device: d})
		got := map[string]pim.Seq{}
		for _, sum := range page.Summaries {
			got[string(sum.Conversation)] = sum.Newest
		}
		if err == nil && (e != nil || !maps.Equal(got, s.lacks(d))) {
			err = fmt.Errorf("at the end %s is listed %v, and lacks %v, %v", d, got, s.lacks(d), e)
		}
	}
	return err
}

// A user with very many devices costs no more than a look at so many marks, and misses
// nothing: the lines stay among those that are fresh.
func TestAFoldForVeryManyDevices(t *testing.T) {
	const devices, lines = 1500, 600
	s := storetest.NewMemory()
	fresh, acked, marks := &store.Write{}, &store.Write{}, &store.Write{}
	for i := range lines {
		c := pim.ConversationID(fmt.Sprintf("g:%04d", i))
		fresh.Cells = append(fresh.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: 1, Count: 1}.Cell(c)})
		acked.Cells = append(acked.Cells, store.CellWrite{Partition: inbox.Acked("alice", "phone"), Cell: store.Cell{Key: string(c), Version: 1}})
	}
	for i := range devices {
		marks.Cells = append(marks.Cells, store.CellWrite{Partition: inbox.Settled("alice"), Cell: store.Cell{Key: fmt.Sprint("d", i), Version: 3}})
	}
	if err := store.Commit(ctx, s, []*store.Write{fresh, acked, marks}, store.Durable); err != nil {
		t.Fatal(err)
	}
	var later []func(context.Context)
	req := inbox.SyncRequest{User: "alice", Device: "phone", Later: func(write func(context.Context)) { later = append(later, write) }}
	counted := &calls{Store: s}
	if page, err := inbox.New(counted).Sync(ctx, req); err != nil || len(page.Summaries) > 0 {
		t.Fatalf("%d conversations, %v", len(page.Summaries), err)
	}
	counted.gets, counted.listed = 0, 0
	for _, write := range later {
		write(ctx)
	}
	if folds := (lines + 511) / 512; len(later) < folds || counted.gets > 0 || counted.listed > folds*(1024+512) {
		t.Errorf("%d writes for later read %d cells and listed %d", len(later), counted.gets, counted.listed)
	}
	page, err := inbox.New(s).Sync(ctx, inbox.SyncRequest{User: "alice", Device: "laptop"})
	if err != nil || len(page.Summaries) == 0 {
		t.Errorf("another device is offered %d conversations, %v", len(page.Summaries), err)
	}
}

// Stores that break a rule, each for one sync.

// late writes marks, or else lines, after the lines have been forgotten.
type late struct {
	store.Store
	marks bool
	held  []store.CellWrite
}

func (s *late) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.BeginHere(ctx, s.commit, writes, d, done)
}

func (s *late) commit(ctx context.Context, w []*store.Write, d store.Durability) error {
	held := inbox.Lines("alice")
	if s.marks {
		held = inbox.Settled("alice")
	}
	var now []store.CellWrite
	for _, c := range w[0].Cells {
		if c.Partition == held && (!s.marks || c.Version%2 == 0 && c.Version > 2) {
			s.held = append(s.held, c)
		} else {
			now = append(now, c)
		}
	}
	if len(s.held) > 0 && len(now) > 0 && now[0].Forget {
		now, s.held = append(now, s.held...), nil
		for i := range now { // one after the other
			if err := store.Commit(ctx, s.Store, []*store.Write{{Cells: now[i : i+1]}}, d); err != nil {
				return err
			}
		}
		return nil
	}
	return store.Commit(ctx, s.Store, []*store.Write{{Cells: now}}, d)
}

// linesFirst reads Lines before Fresh.
type linesFirst struct {
	store.Store
	lines []store.Cell
}

func (s *linesFirst) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if p == inbox.Lines("alice") {
		return s.lines, nil
	}
	if p == inbox.Fresh("alice") {
		var err error
		if s.lines, err = s.Store.List(ctx, inbox.Lines("alice"), after, limit); err != nil {
			return nil, err
		}
	}
	return s.Store.List(ctx, p, after, limit)
}

// evenStay raises only the marks of settled devices.
type evenStay struct{ store.Store }

func (s evenStay) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.BeginHere(ctx, s.commit, writes, d, done)
}

func (s evenStay) commit(ctx context.Context, w []*store.Write, d store.Durability) error {
	cells := slices.Clone(w[0].Cells)
	for i := range cells {
		c := &cells[i]
		if c.Partition != inbox.Settled("alice") {
			continue
		}
		now, _, _ := store.Lookup(ctx, s.Store.(*run).Store, c.Partition, c.Key)
		if now.Version%2 == 0 && c.Version == now.Version+2 && now.Version > 0 {
			c.Version = 0
		}
	}
	return store.Commit(ctx, s.Store, []*store.Write{{Cells: cells}}, d)
}

// oneLook shows a mark as it was at the first look.
type oneLook struct {
	store.Store
	mark store.Cell
	seen bool
}

func (s *oneLook) Get(ctx context.Context, gets []store.Get) error {
	if !strings.HasPrefix(string(gets[0].Partition), "settled/") {
		return s.Store.Get(ctx, gets)
	}
	if !s.seen {
		if err := s.Store.Get(ctx, gets); err != nil {
			return err
		}
		s.mark = gets[0].Cell
		s.seen = s.mark.Version != 0
	}
	gets[0].Cell = s.mark
	return nil
}

// markFirst shows a mark as it was before the list of Fresh that the look-up follows.
type markFirst struct {
	store.Store
	mark []store.Get
}

func (s *markFirst) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if r, ok := s.Store.(*run); ok && p == inbox.Fresh("alice") {
		s.mark = []store.Get{{Partition: inbox.Settled("alice"), Key: string(r.device)}}
		if err := s.Store.Get(ctx, s.mark); err != nil {
			return nil, err
		}
	}
	return s.Store.List(ctx, p, after, limit)
}

func (s *markFirst) Get(ctx context.Context, gets []store.Get) error {
	if s.mark != nil && gets[0].Partition == inbox.Settled("alice") {
		gets[0].Cell, s.mark = s.mark[0].Cell, nil
		return nil
	}
	return s.Store.Get(ctx, gets)
}

// noFirst writes no first marks: folds do not know of such a device.
type noFirst struct{ store.Store }

func (s noFirst) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.BeginHere(ctx, s.commit, writes, d, done)
}

func (s noFirst) commit(ctx context.Context, w []*store.Write, d store.Durability) error {
	if c := w[0].Cells[0]; c.Partition == inbox.Settled("alice") && c.Version == 2 && len(w[0].Cells) == 1 {
		return nil
	}
	return store.Commit(ctx, s.Store, w, d)
}

// heedless says that the other devices have acknowledged every line of a group that was left.
type heedless struct{ *run }

func (s heedless) Get(ctx context.Context, gets []store.Get) error {
	err := s.run.Get(ctx, gets)
	for i := range gets {
		g := &gets[i]
		if of := string(g.Partition); !strings.HasPrefix(of, "acks/") || of == string(inbox.Acked("alice", s.device)) {
			continue
		}
		for _, p := range []store.Partition{inbox.Fresh("alice"), inbox.Lines("alice")} {
			if line, ok, _ := store.Lookup(ctx, s.run.Store, p, g.Key); ok && line.Value[0]&1 == 1 {
				g.Cell = store.Cell{Key: g.Key, Version: line.Version}
			}
		}
	}
	return err
}
