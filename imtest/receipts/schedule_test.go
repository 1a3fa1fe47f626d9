package receipts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

const (
	users = 5
	steps = 24
)

// Users send, read, join, leave and switch receipts on and off, in a group and in direct
// conversations, writers are replaced, and after every step somebody asks. Each answer is the
// model's. One schedule in four runs over a store that promises no more than the contract.
// PIM_RECEIPTS says how many schedules are played.
func TestSchedules(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(10_000), "PIM_RECEIPTS")
	for seed := first; seed < first+n; seed++ {
		var s store.Store = storetest.NewMemory()
		if seed%4 == 0 {
			s = storetest.Loose(s, seed)
		}
		if err := run(t.Context(), s, seed); err != nil {
			t.Fatalf("PIM_SEED=%d: %v", seed, err)
		}
	}
}

// world is one schedule.
type world struct {
	ctx     context.Context
	model   model
	rng     *rand.Rand
	store   store.Store
	writers *conv.Writers
	answers chan conv.Answer
	ids     uint32
	last    map[pim.ConversationID]pim.Seq
	screens map[pim.ConversationID]*inbox.Screen
	group   pim.ConversationID
	now     atomic.Int64
	solid   bool // the store keeps what it was given, and no write fails
}

// Deliver takes the answers to the requests that are under way.
func (w *world) Deliver(answers []conv.Answer, _ []conv.Published) {
	for _, a := range answers {
		w.answers <- a
	}
}

func run(ctx context.Context, s store.Store, seed uint64) error {
	w := &world{
		ctx: ctx, rng: rand.New(rand.NewPCG(seed, 0)), store: s, answers: make(chan conv.Answer, 1),
		last: make(map[pim.ConversationID]pim.Seq), screens: make(map[pim.ConversationID]*inbox.Screen),
	}
	_, w.solid = s.(*storetest.Memory)
	w.now.Store(1_795_000_000_000)
	w.replace()
	defer func() { w.writers.Close() }()
	var members []pim.UserID
	for i := range users - 1 {
		members = append(members, user(i))
	}
	if err := w.create(members); err != nil {
		return err
	}
	for i := range steps {
		if err := w.step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if err := w.ask(user(w.rng.IntN(users)), w.any()); err != nil {
			return fmt.Errorf("after step %d: %w", i, err)
		}
	}
	for i := range users {
		for conv := range w.last {
			if err := w.ask(user(i), conv); err != nil {
				return fmt.Errorf("at the end: %w", err)
			}
		}
	}
	return nil
}

func user(i int) pim.UserID { return pim.UserID(fmt.Sprint("u", i)) }

// any returns the group, or a direct conversation.
func (w *world) any() pim.ConversationID {
	if w.rng.IntN(4) > 0 {
		return w.group
	}
	return pim.Direct(user(0), user(1+w.rng.IntN(2)))
}

// replace ends the writers, and begins others.
func (w *world) replace() {
	if w.writers != nil {
		w.writers.Close()
	}
	w.begin()
}

func (w *world) begin() {
	w.writers = conv.New(w.store, conv.Options{
		Outlet: w, Shards: 1, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.UnixMilli(w.now.Load()) },
	})
}

// step does one thing.
func (w *world) step() error {
	w.now.Add(int64(w.rng.IntN(3)))
	u := user(w.rng.IntN(users))
	c := w.any()
	present := w.model.present(u, w.group)
	switch n := w.rng.IntN(16); {
	case n < 5:
		return w.sendMessage(u, c)
	case n < 10:
		return w.read(u, c)
	case n < 12 && !present:
		return w.change(joins, u)
	case n < 12 && w.rng.IntN(2) == 0:
		return w.change(leaves, u)
	case n < 14:
		return w.hide(u, w.rng.IntN(2) == 0)
	case n == 14:
		w.replace()
	case n == 15:
		return w.several(u)
	}
	return nil
}

// several gives some commands of u together. Before that, sometimes, a writer has appended some and
// died before it wrote anything else.
func (w *world) several(u pim.UserID) error {
	if w.solid && w.rng.IntN(2) == 0 {
		w.writers.Close()
		for range 1 + w.rng.IntN(3) {
			if err := w.appends(u, w.anyCommand(u)); err != nil {
				return err
			}
		}
		w.begin()
	}
	// The first one makes the writer write again what that writer has not.
	requests := []conv.Request{w.request(u, pim.Command{Kind: pim.CommandPin, Subject: "g:x"})}
	for range 2 + w.rng.IntN(3) {
		requests = append(requests, w.request(u, w.anyCommand(u)))
	}
	answers, err := w.submitAll(requests)
	slices.SortFunc(answers, func(a, b conv.Answer) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, a := range answers {
		c, _ := wire.DecodeCommand(a.Request.Payload)
		w.happened(u, &c, a.Seq, a.Server)
	}
	if errors.Is(err, errGone) { // some never happened
		return nil
	}
	return err
}

// anyCommand returns a read command of u, or a switch of receipts.
func (w *world) anyCommand(u pim.UserID) pim.Command {
	c := w.any()
	if w.rng.IntN(3) > 0 && w.in(u, c) && w.last[c] > 0 {
		return pim.Command{Kind: pim.CommandRead, Subject: string(c), Seq: 1 + pim.Seq(w.rng.IntN(int(w.last[c])))}
	}
	return pim.Command{Kind: pim.CommandNoReceipts, Subject: string(u), Removed: w.rng.IntN(2) == 0}
}

// appends appends a command to the log of u, and nothing else.
func (w *world) appends(u pim.UserID, c pim.Command) error {
	log := pim.Own(u)
	last, _, err := store.LogEnd(w.ctx, w.store, inbox.Entries(log))
	if err != nil {
		return err
	}
	if c.Kind == pim.CommandRead {
		c.Shown = w.model.goesOn(u, pim.ConversationID(c.Subject), c.Seq) && !w.model.hidden(u)
	}
	w.ids++
	e := pim.Entry{
		Conversation: log, Seq: last + 1, Kind: pim.EntryCommand, Sender: u, Device: "d", ClientID: pim.ClientMessageID{2, byte(w.ids), byte(w.ids >> 8)},
		Server: pim.Millis(w.now.Load()), Payload: wire.AppendCommand(nil, &c),
	}
	write := store.Write{Log: inbox.Entries(log), After: last, Records: [][]byte{wire.AppendEntry(nil, &e)}}
	if err := store.Commit(w.ctx, w.store, []*store.Write{&write}, store.Durable); err != nil {
		return err
	}
	w.happened(u, &c, e.Seq, e.Server)
	return write.Err
}

// happened adds a command of u to the model.
func (w *world) happened(u pim.UserID, c *pim.Command, seq pim.Seq, at pim.Millis) {
	switch {
	case c.Kind == pim.CommandRead:
		w.model.add(reads, u, pim.ConversationID(c.Subject), c.Seq, at)
	case c.Kind == pim.CommandNoReceipts && c.Removed:
		w.model.add(shows, u, "", seq, at)
	case c.Kind == pim.CommandNoReceipts:
		w.model.add(hides, u, "", seq, at)
	}
}

// in reports whether u takes part in c now.
func (w *world) in(u pim.UserID, c pim.ConversationID) bool {
	return !c.Excludes(u) && (!c.IsGroup() || w.model.present(u, c))
}

// submit sends r until it is answered for good.
func (w *world) submit(r conv.Request) (conv.Answer, error) {
	w.ids++
	r.Device, r.ClientID = "d", pim.ClientMessageID{1, byte(w.ids), byte(w.ids >> 8)}
	r.Local = pim.Millis(w.now.Load())
	answers, err := w.submitAll([]conv.Request{r})
	if err != nil {
		return conv.Answer{}, err
	}
	return answers[0], nil
}

// submitAll sends requests together, until all are answered for good, and returns the answers of
// those that succeeded, or the last error.
func (w *world) submitAll(requests []conv.Request) (answers []conv.Answer, err error) {
	for try := range uint32(1000) {
		var some []*conv.Request
		for i, r := range requests {
			r.Attempt, r.Origin = try, i
			some = append(some, &r)
		}
		var again []conv.Request
		w.writers.Submit(some)
		for range some {
			switch a := <-w.answers; {
			case a.Err == nil:
				answers = append(answers, a)
			case pim.KindOf(a.Err).Retryable():
				again = append(again, requests[a.Request.Origin.(int)])
			default:
				err = a.Err
			}
		}
		if requests = again; len(requests) == 0 {
			return answers, err
		}
	}
	return answers, fmt.Errorf("a thousand tries failed")
}

func (w *world) create(members []pim.UserID) error {
	a, err := w.submit(conv.Request{Kind: pim.EntryCreate, Sender: members[0], Members: members[1:]})
	if err != nil {
		return err
	}
	w.group = a.Request.Conversation
	w.last[w.group] = a.Seq
	for _, u := range members {
		w.model.add(joins, u, w.group, a.Seq, a.Server)
	}
	return nil
}

func (w *world) sendMessage(u pim.UserID, c pim.ConversationID) error {
	if !w.in(u, c) {
		return nil
	}
	a, err := w.submit(conv.Request{Conversation: c, Kind: pim.EntryMessage, Sender: u, Payload: []byte("x")})
	if err == nil {
		w.last[c] = a.Seq
		w.model.add(sends, u, c, a.Seq, a.Server)
	}
	return err
}

func (w *world) change(what what, u pim.UserID) error {
	kind, by := pim.EntryLeave, u
	if what == joins {
		kind, by = pim.EntryJoin, ""
		for i := range users {
			if w.model.present(user(i), w.group) {
				by = user(i)
			}
		}
		if by == "" {
			return nil // the group is closed
		}
	}
	a, err := w.submit(conv.Request{Conversation: w.group, Kind: kind, Sender: by, Members: []pim.UserID{u}})
	if err == nil {
		w.last[w.group] = a.Seq
		w.model.add(what, u, w.group, a.Seq, a.Server)
	}
	return err
}

// request returns the request for a command of u.
func (w *world) request(u pim.UserID, c pim.Command) conv.Request {
	w.ids++
	c.Known = pim.Seq(w.rng.IntN(3))
	return conv.Request{
		Conversation: pim.Own(u), Kind: pim.EntryCommand, Sender: u, Device: pim.DeviceID(fmt.Sprint("d", w.rng.IntN(2))),
		ClientID: pim.ClientMessageID{1, byte(w.ids), byte(w.ids >> 8)}, Local: pim.Millis(w.now.Load()), Payload: wire.AppendCommand(nil, &c),
	}
}

func (w *world) command(u pim.UserID, c pim.Command) (conv.Answer, error) {
	answers, err := w.submitAll([]conv.Request{w.request(u, c)})
	if err != nil {
		return conv.Answer{}, err
	}
	return answers[0], nil
}

func (w *world) read(u pim.UserID, c pim.ConversationID) error {
	if !w.in(u, c) || w.last[c] == 0 {
		return nil
	}
	seq := 1 + pim.Seq(w.rng.IntN(int(w.last[c])))
	a, err := w.command(u, pim.Command{Kind: pim.CommandRead, Subject: string(c), Seq: seq})
	switch {
	case errors.Is(err, errGone): // it never happened
		return nil
	case err == nil:
		w.model.add(reads, u, c, seq, a.Server)
	}
	return err
}

func (w *world) hide(u pim.UserID, on bool) error {
	a, err := w.command(u, pim.Command{Kind: pim.CommandNoReceipts, Subject: string(u), Removed: !on})
	switch {
	case errors.Is(err, errGone):
		return nil
	case err == nil:
		what := shows
		if on {
			what = hides
		}
		w.model.add(what, u, "", a.Seq, a.Server)
	}
	return err
}

// ask compares what u is told of c with the model.
func (w *world) ask(u pim.UserID, c pim.ConversationID) error {
	if c.Excludes(u) || w.last[c] == 0 {
		return nil
	}
	to := w.last[c]
	want, kind := w.model.receipts(u, c, 1, to)
	got, err := w.told(u, inbox.ReceiptRequest{Conversation: c, From: 1, To: to})
	if pim.KindOf(err) != kind || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s is told of %s: %+v, %v; want %+v, %v", u, c, got, err, want, kind)
	}
	if err := w.live(c); err != nil {
		return err
	}
	if kind != pim.KindUnknown || !c.IsGroup() {
		return nil
	}
	seq := 1 + pim.Seq(w.rng.IntN(int(to)))
	readers, ok := w.model.readers(u, c, seq)
	got, err = w.told(u, inbox.ReceiptRequest{Conversation: c, From: seq, Readers: true})
	if ok != (err == nil) || ok && !reflect.DeepEqual(got.Readers, readers) {
		return fmt.Errorf("%s is told who has read seq %d of %s: %+v, %v; want %+v", u, seq, c, got.Readers, err, readers)
	}
	return nil
}

// told asks until the store does not fail.
func (w *world) told(u pim.UserID, req inbox.ReceiptRequest) (r inbox.Receipts, err error) {
	for range 1000 {
		if r, err = inbox.New(w.store).Receipts(w.ctx, u, req); err == nil || !pim.KindOf(err).Retryable() {
			break
		}
	}
	return r, err
}

// live compares what all users are told who look at c with the model.
func (w *world) live(c pim.ConversationID) error {
	var all []pim.UserID
	for i := range users {
		all = append(all, user(i))
	}
	var told []*inbox.Receipts
	var err error
	if w.screens[c] == nil {
		w.screens[c] = new(inbox.Screen)
	}
	for range 1000 {
		if told, _, err = inbox.New(w.store).Live(w.ctx, c, all, w.screens[c]); err == nil || !pim.KindOf(err).Retryable() {
			break
		}
	}
	for i, u := range all {
		want, kind := w.model.receipts(u, c, 1, w.last[c])
		if c.Excludes(u) {
			kind = pim.KindNotMember
		}
		switch {
		case err != nil:
			return err
		case kind != pim.KindUnknown && told[i] != nil:
			return fmt.Errorf("%s looks at %s and is told %+v", u, c, *told[i])
		case kind == pim.KindUnknown && (told[i] == nil || fmt.Sprint(*told[i]) != fmt.Sprint(want)):
			return fmt.Errorf("%s looks at %s and is told %+v, want %+v", u, c, told[i], want)
		}
	}
	return nil
}
