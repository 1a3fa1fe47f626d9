package replay

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// A real log is read by random readers on two devices each, changed meanwhile, and the server
// is killed: everybody sees what the model says.
func TestReplayWithReaders(t *testing.T) {
	report, err := Run(t.Context(), Config{
		Log: realLog(t, 600), Lurkers: 4, Readers: 8,
		ServerCommand: serverCommand(t), KillEvery: 2 * time.Second,
	})
	sound(t, report, err)
	if err != nil {
		return
	}
	r := report.Reading
	t.Logf("%+v", *r)
	if report.Kills == 0 || r.Quiets < 2 {
		t.Errorf("%d kills, %d moments of quiet", report.Kills, r.Quiets)
	}
	for what, n := range map[string]int{
		"reads": r.Reads, "edits": r.Edits, "recalls": r.Recalls, "reactions": r.Reactions,
		"counts": r.Counts, "receipts": r.Receipts, "named": r.Named, "displayed": r.Displayed, "mentions": r.Mentions,
	} {
		if n == 0 {
			t.Errorf("no %s", what)
		}
	}
}

// An erase by a user who has left is acknowledged without a seq. It has its place in the reference nevertheless.
func TestEraseAfterLeaving(t *testing.T) {
	server, token := running(t, server.Options{})
	log := strings.NewReader(`{"kind": "message", "user": "alice", "text": "secret"}` + "\n" + `{"kind": "leave", "user": "alice"}` + "\n")
	c := &Config{Log: log, Lurkers: 1, Readers: 1, Server: "http://" + server.Addr(), Token: token, Logger: slog.New(slog.DiscardHandler)}
	s, err := c.script()
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(c, s, nil)
	defer r.close()
	for _, do := range []func(context.Context) error{
		r.openAll, r.create,
		func(ctx context.Context) error {
			return schedule(ctx, s.steps, inFlight, func(context.Context, int) error { return nil }, r.send)
		},
		func(ctx context.Context) error { return r.readers.refer(ctx, step{kind: pim.EntryErase}) },
		r.readers.rest,
	} {
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ref := r.reference()
	for i, s := range ref.steps {
		if s.ack.Seq != pim.Seq(i+1) {
			t.Errorf("step %d, a %s, stands at seq %d", i+1, s.kind, s.ack.Seq)
		}
	}
	if n := len(ref.steps); n != 4 || ref.steps[3].kind != pim.EntryErase || !ref.gone[2] {
		t.Errorf("%d steps, gone %v", n, ref.gone)
	}
}

// Of one seed readers are the same, and do the same at the same steps.
func TestReadersComeFromTheSeed(t *testing.T) {
	s, err := readScript(realLog(t, 600))
	if err != nil {
		t.Fatal(err)
	}
	of := func(seed uint64) ([]pim.UserID, []int) {
		rs := newReaders(&run{config: &Config{Readers: 8, Seed: seed}, script: s})
		return rs.users, rs.quiets()
	}
	users, quiets := of(1)
	again, quietsAgain := of(1)
	others, _ := of(2)
	if !slices.Equal(users, again) || !slices.Equal(quiets, quietsAgain) || slices.Equal(users, others) || len(quiets) == 0 {
		t.Errorf("%v %v, again %v %v, of another seed %v", users, quiets, again, quietsAgain, others)
	}
}

// A server that loses reads is told, and so is one that counts a reader too few.
func TestReadersNoticeABrokenServer(t *testing.T) {
	for name, o := range map[string]server.Options{
		"loses reads":  {WrapStore: func(s store.Store) store.Store { return losesReads{s} }},
		"counts wrong": {WrapReader: func(r gateway.Reader) gateway.Reader { return miscounts{r} }},
	} {
		t.Run(name, func(t *testing.T) {
			s, token := running(t, o)
			report, err := Run(t.Context(), Config{Log: realLog(t, 300), Readers: 30, Server: "http://" + s.Addr(), Token: token})
			if err != nil {
				t.Fatal(err)
			}
			if report.Err() == nil || report.Reading.Different == 0 || len(report.Findings) == 0 || !strings.Contains(report.Findings[0], "is told ") {
				t.Errorf("%+v: %v", *report.Reading, report.Findings)
			}
		})
	}
}

// losesReads does not store how far users have read by commands.
type losesReads struct{ store.Store }

func (s losesReads) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if _, own := pim.ConversationID(w.Log).OwnUser(); own {
			w.Cells = slices.DeleteFunc(w.Cells, func(c store.CellWrite) bool { return strings.HasPrefix(string(c.Partition), "reads/") })
		}
	}
	s.Store.Begin(ctx, writes, d, done)
}

// miscounts says that a message which all have read is read by one member less.
type miscounts struct{ gateway.Reader }

func (r miscounts) Receipts(ctx context.Context, u pim.UserID, req inbox.ReceiptRequest) (inbox.Receipts, error) {
	receipts, err := r.Reader.Receipts(ctx, u, req)
	for i := range receipts.Messages {
		if m := &receipts.Messages[i]; m.Read > 0 {
			m.Read--
		}
	}
	return receipts, err
}

// Whatever a device shows otherwise than the model has it is told.
func TestSeenDiffers(t *testing.T) {
	sound := func() seen {
		return seen{unread: 2, displayed: map[pim.Seq]imtest.Displayed{
			2: {Payload: "hi"}, 3: {Payload: "ho", Edited: true, Reactions: []string{"+1 ann"}}, 4: {Recalled: true},
		}}
	}
	for name, change := range map[string]func(s *seen){
		"":                                func(*seen) {},
		"3 unread":                        func(s *seen) { s.unread = 3 },
		"1 mentions":                      func(s *seen) { s.mentions = 1 },
		"marked true":                     func(s *seen) { s.marked = true },
		"seq 2 is not displayed":          func(s *seen) { delete(s.displayed, 2) },
		"no such message":                 func(s *seen) { s.displayed[5] = imtest.Displayed{} },
		"seq 3 is displayed as {Payload:": func(s *seen) { s.displayed[3] = imtest.Displayed{Payload: "ho", Edited: true} },
		"seq 4 is displayed as {Payload:": func(s *seen) { s.displayed[4] = imtest.Displayed{Payload: "back"} },
	} {
		want, got := sound(), sound()
		got.displayed = maps.Clone(got.displayed)
		change(&got)
		if d := want.differs(got); (d == "") != (name == "") || !strings.Contains(d, name) {
			t.Errorf("%q: %q", name, d)
		}
	}
}
