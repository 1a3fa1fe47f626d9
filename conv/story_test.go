package conv

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// The files in testdata are stories. Each has writers, named a, b and so on, of the
// conversations in one store. Nothing happens by itself: a line of a story carries out a
// look-up, or says what becomes of a write. Below it stands what the writers come to; go
// test -rewrite writes that anew.
//
//	send by=alice id=1 text=hello [w=a] [c=d:alice:bob]
//	many by=alice from=10 to=120                 messages, of which the story tells the number
//	create by=alice id=1 members=(bob,carol)     also join and leave
//	block by=alice id=1 whom=bob [lift]          a command of alice's own log
//	edit by=alice id=1 of=7 text=hello           also recall, react and pin, which may have undo; and
//	                                             erase, of what alice has written up to 7
//	look [w=a] [c=…] [as=…]                      the writer's look-up is carried out, or its
//	                                             intent, or its raise of the fence, is written,
//	                                             as with write
//	write [w=a] [c=…] [as=whole|lost|append|nothing]
//	                                             the writer's write takes effect; or its
//	                                             answer is lost, and all of it took effect,
//	                                             its append alone, or nothing; of effects
//	                                             the cells alone, or nothing
//	shut, open                                   from now on no writer may append, or may again
//	pass ms=5000                                 time passes
//	forget [w=a] [c=…]                           the writer forgets the conversation
//	crash [w=a]                                  the writer dies, with what it has under way
//	log [c=…]                                    says what the log has
//	settle [w=a]                                 the writer settles the intents that it finds
//
// Without w the writer is a, without c the conversation is d:alice:bob; c=g is the group
// that was created last.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newStory(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.t = t
			s.play(d)
			return s.out.String()
		})
	})
}

type story struct {
	t       *testing.T
	store   *storetest.Memory
	now     pim.Millis
	refusal error
	group   pim.ConversationID // that was created last
	writers map[string]*Writers
	deaths  map[string]int      // by writer
	all     map[string]*machine // by writer and conversation
	batches map[*machine]*batch
	looks   map[*machine]*lookup
	out     strings.Builder
}

func newStory(t *testing.T) *story {
	return &story{
		t: t, store: storetest.NewMemory(), now: storyBegins, writers: map[string]*Writers{}, deaths: map[string]int{},
		all: map[string]*machine{}, batches: map[*machine]*batch{}, looks: map[*machine]*lookup{},
	}
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// arg returns the value of an argument, or what it is without.
func arg(d *datadriven.TestData, key, without string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return without
}

func (s *story) writer(name string) *Writers {
	w := s.writers[name]
	if w == nil {
		w = &Writers{
			store: s.store, members: pim.MaxGroupMembers, ctx: context.Background(), log: slog.New(slog.DiscardHandler),
			announcer: &announcer{name: name + strings.Repeat("'", s.deaths[name])}, metrics: NewMetrics(nil),
			windows: windowsOf(0, 0),
		}
		s.writers[name] = w
	}
	return w
}

func (s *story) machine(d *datadriven.TestData, c pim.ConversationID) (string, *machine) {
	name := arg(d, "w", "a")
	key := name + " " + string(c)
	m := s.all[key]
	if m == nil {
		m = &machine{id: c}
		s.all[key] = m
	}
	return name, m
}

func (s *story) play(d *datadriven.TestData) {
	c := pim.ConversationID(arg(d, "c", "d:alice:bob"))
	if c == "g" {
		c = s.group
	}
	switch d.Cmd {
	case "pass":
		var ms int64
		d.ScanArgs(s.t, "ms", &ms)
		s.now += pim.Millis(ms)
	case "shut":
		s.refusal = pim.Errorf(pim.KindClockUnhealthy, "the clock is off")
	case "open":
		s.refusal = nil
	case "forget":
		name, m := s.machine(d, c)
		if m.busy() {
			s.t.Fatalf("%s: %s waits for something", d.Pos, name)
		}
		m.live = nil
	case "crash":
		name := arg(d, "w", "a")
		for key, m := range s.all {
			if strings.HasPrefix(key, name+" ") {
				delete(s.all, key)
				delete(s.batches, m)
				delete(s.looks, m)
			}
		}
		delete(s.writers, name)
		s.deaths[name]++
	case "settle":
		name := arg(d, "w", "a")
		w := s.writer(name)
		found := w.settleOld(context.Background(), nil)
		w.settleOld(context.Background(), found)
		for _, key := range slices.Sorted(maps.Keys(found)) {
			s.say("%s settles %s", name, key)
		}
	case "log":
		last, _, err := store.LogEnd(context.Background(), s.store, inbox.Entries(c))
		if err != nil {
			s.t.Fatal(err)
		}
		entries, _, err := readEntries(context.Background(), s.store, c, 1, last)
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range entries {
			s.say("%s", entryTold(&entries[i]))
		}
	case "look":
		name, m := s.machine(d, c)
		l := s.looks[m]
		if l == nil {
			s.t.Fatalf("%s: %s looks nothing up", d.Pos, name)
		}
		delete(s.looks, m)
		if l.write != nil {
			s.carryOut(l.write, arg(d, "as", "whole"))
			l.err = l.write.Err
		} else {
			s.writer(name).lookUp(context.Background(), l)
		}
		o := &output{}
		m.found(m.lookup, o)
		s.goOn(name, m, o)
	case "write":
		name, m := s.machine(d, c)
		b := s.batches[m]
		if b == nil {
			s.t.Fatalf("%s: %s writes nothing", d.Pos, name)
		}
		delete(s.batches, m)
		for _, w := range b.appendWrites(nil) {
			s.carryOut(w, arg(d, "as", "whole"))
		}
		o := &output{}
		m.written(o)
		s.goOn(name, m, o)
	case "many":
		var from, to uint64
		d.ScanArgs(s.t, "from", &from)
		d.ScanArgs(s.t, "to", &to)
		name, m := s.machine(d, c)
		for n := from; n <= to; n++ {
			r := &Request{
				Conversation: c, Sender: pim.UserID(arg(d, "by", "alice")), Device: "d", Local: s.now, Kind: pim.EntryMessage, ClientID: storyID(n),
			}
			m.waiting = append(m.waiting, r)
		}
		s.goOn(name, m, &output{})
	default:
		r := s.request(d, c)
		name := arg(d, "w", "a")
		if err := s.writer(name).check(r); err != nil {
			s.say("%s refuses %d: %v", name, r.ClientID[15], err)
			return
		}
		if r.Kind == pim.EntryCreate {
			s.group = r.Conversation
		}
		_, m := s.machine(d, r.Conversation)
		m.waiting = append(m.waiting, r)
		s.goOn(name, m, &output{})
	}
}

// request returns the request that a line of a story makes.
func (s *story) request(d *datadriven.TestData, c pim.ConversationID) *Request {
	var n uint64
	d.ScanArgs(s.t, "id", &n)
	by := pim.UserID(arg(d, "by", "alice"))
	r := &Request{Conversation: c, Sender: by, Device: "d", Local: s.now, Kind: pim.EntryMessage, ClientID: storyID(n)}
	if d.HasArg("of") {
		var of uint64
		d.ScanArgs(s.t, "of", &of)
		r.Refers = pim.Seq(of)
	}
	for _, a := range d.CmdArgs {
		if a.Key == "members" {
			for _, u := range a.Vals {
				r.Members = append(r.Members, pim.UserID(u))
			}
		}
	}
	switch d.Cmd {
	case "send":
		r.Payload = []byte(arg(d, "text", ""))
	case "create":
		r.Kind, r.Conversation = pim.EntryCreate, ""
	case "join":
		r.Kind = pim.EntryJoin
	case "leave":
		r.Kind = pim.EntryLeave
	case "edit":
		r.Kind, r.Payload = pim.EntryEdit, []byte(arg(d, "text", ""))
	case "recall":
		r.Kind = pim.EntryRecall
	case "erase":
		r.Kind = pim.EntryErase
	case "react":
		r.Kind, r.Reaction, r.Removed = pim.EntryReaction, arg(d, "text", ""), d.HasArg("undo")
	case "pin":
		r.Kind, r.Removed = pim.EntryPin, d.HasArg("undo")
	case "block":
		r.Kind, r.Conversation = pim.EntryCommand, pim.Own(by)
		r.Payload = wire.AppendCommand(nil, &pim.Command{
			Kind: pim.CommandBlock, Subject: arg(d, "whom", ""), Removed: d.HasArg("lift"),
		})
	default:
		s.t.Fatalf("%s: %s is no line of a story", d.Pos, d.Cmd)
	}
	return r
}

// storyID returns the n-th client message ID of a story. It carries the time at which the
// stories begin, so that an ID that is sent again is the same.
func storyID(n uint64) (id pim.ClientMessageID) {
	for i := range 6 {
		id[i] = byte(uint64(storyBegins) >> (40 - 8*i))
	}
	id[6], id[15] = 0x70, byte(n)
	return id
}

// storyBegins is the time when the stories begin, Unix milliseconds.
const storyBegins = 1_795_000_000_000

// carryOut does a write, or what a story says becomes of it.
func (s *story) carryOut(w *store.Write, as string) {
	part := *w
	switch as {
	case "append":
		part.Cells, part.Erase = nil, nil
		part.Raise = false // of an effect, its cells alone
		if w.Raise {
			part.Cells = w.Cells
		}
	case "nothing":
		part = store.Write{}
	}
	if err := store.Commit(context.Background(), s.store, []*store.Write{&part}, store.Durable); err != nil {
		s.t.Fatal(err)
	}
	w.Err = part.Err
	if as != "whole" && w.Err == nil {
		w.Err = &pim.Error{Kind: pim.KindUnavailable, Text: "no answer", Err: store.ErrUnknown}
	}
}

// goOn has a machine do what it can, and says what it has come to.
func (s *story) goOn(name string, m *machine, o *output) {
	v := view{now: s.now, closed: s.refusal, announcer: s.writer(name).announcer}
	m.advance(&v, o, new(batchPool))
	for _, b := range o.batches {
		s.batches[m] = b
		s.say("%s writes %s", name, told(b))
	}
	for _, w := range o.later {
		s.carryOut(w, "whole")
		s.say("%s forgets %s", name, w.Cells[0].Key)
	}
	for _, l := range o.lookups {
		s.looks[m] = l
		switch {
		case l.refusals != nil && l.write != nil:
			s.say("%s raises the fence of %s, since an earlier try of %d may be under way", name, m.id, l.refusals.refused[0].Request.ClientID[15])
		case l.refusals != nil:
			s.say("%s asks whether the log of %s still ends at %d", name, m.id, m.live.last)
		case l.write != nil:
			s.say("%s announces that %d may have effects: %s", name, l.request.ClientID[15], l.write.Cells[0].Key)
		case l.affecting != nil:
			s.say("%s looks up effects", name)
		case l.request != nil:
			s.say("%s looks up what %d needs", name, l.request.ClientID[15])
		default:
			s.say("%s loads %s", name, m.id)
		}
	}
	if n := len(o.answers); n > 10 {
		s.say("%s answers %d requests", name, n)
		o.answers = nil
	}
	for _, a := range o.answers {
		n := a.Request.ClientID[15]
		switch {
		case a.Err != nil:
			s.say("%s refuses %d: %v", name, n, a.Err)
		case a.Duplicate:
			s.say("%s answers %d again: seq %d", name, n, a.Seq)
		default:
			s.say("%s answers %d: seq %d", name, n, a.Seq)
		}
	}
	for _, p := range o.pushes {
		s.say("%s pushes %s %s to %s", name, p.Conversation, span(p.Entries), readers(p))
	}
}

// told says what a batch writes.
func told(b *batch) string {
	var parts []string
	if b.affecting {
		for _, w := range b.effects {
			if !w.Raise {
				parts = append(parts, beside(w)...)
				continue
			}
			parts = append(parts, fmt.Sprintf("the effect on %s: %q %d, and raises its fence", w.Log, w.Cells[0].Key, w.Cells[0].Version))
		}
		slices.Sort(parts)
		return strings.Join(parts, "\n    ")
	}
	told := b.entries
	if n := len(told); n > 10 {
		parts, told = append(parts, fmt.Sprintf("seq %d to %d", told[0].Seq, told[n-1].Seq)), nil
	}
	for i := range told {
		parts = append(parts, entryTold(&told[i]))
	}
	return strings.Join(append(parts, beside(&b.write)...), "\n    ")
}

// entryTold says what an entry is.
func entryTold(e *pim.Entry) string {
	what := fmt.Sprintf("seq %d: %s by %s", e.Seq, e.Kind, e.Sender)
	if e.Kind == pim.EntryMessage || e.Kind == pim.EntryEdit {
		what += fmt.Sprintf(" %q", e.Payload)
	}
	switch {
	case e.Kind == pim.EntryErase:
		what += fmt.Sprintf(" up to seq %d", e.Refers)
	case e.Refers != 0:
		what += fmt.Sprintf(" of seq %d", e.Refers)
	}
	if e.Reaction != "" {
		what += fmt.Sprintf(" %q", e.Reaction)
	}
	if e.Removed {
		what += ", taken back"
	}
	if len(e.Members) > 0 {
		what += fmt.Sprintf(" %v", e.Members)
	}
	return what
}

// beside says what w does besides its append.
func beside(w *store.Write) (parts []string) {
	for _, e := range w.Erase {
		parts = append(parts, fmt.Sprintf("erases seq %d", e.Seq))
	}
	cells := map[string][]string{}
	for _, c := range w.Cells {
		p := string(c.Partition)
		what := fmt.Sprintf("%q %d", c.Key, c.Version)
		if strings.HasPrefix(p, "folds/") {
			what = foldTold(c.Cell)
		}
		cells[p] = append(cells[p], what)
	}
	erased := len(parts)
	for p, all := range cells {
		slices.Sort(all)
		parts = append(parts, p+": "+strings.Join(all, ", "))
	}
	slices.Sort(parts[erased:])
	return parts
}

// foldTold says what a cell with a fold holds.
func foldTold(c store.Cell) string {
	f, err := inbox.ParseFold(c)
	if err != nil {
		panic(err)
	}
	told := fmt.Sprintf("seq %d up to %d:", f.Target, c.Version)
	if f.Edit.Seq != 0 {
		told += fmt.Sprintf(" %q after the edits %v", f.Edit.Payload, f.Edits)
	}
	for _, r := range f.Reactions {
		told += fmt.Sprintf(" %s by %s", r.Text, r.User)
	}
	if f.Pin.Seq != 0 {
		told += " pinned"
	}
	if f.Recall.Seq != 0 {
		told += " recalled by " + string(f.Recall.By)
	}
	return told
}

func span(entries []Encoded) string {
	first, last := entries[0].Seq, entries[len(entries)-1].Seq
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprint(first, "-", last)
}

func readers(p Published) string {
	var users []string
	for _, u := range p.Members {
		users = append(users, string(u))
	}
	for _, r := range p.Partly {
		users = append(users, fmt.Sprintf("%s (%d-%d)", r.User, r.From, r.To))
	}
	slices.Sort(users)
	return strings.Join(users, ", ")
}
