package conv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"pgregory.net/rapid"
)

// thread is a direct conversation with messages of ann at seqs 1 to n, to which entries refer.
type thread struct {
	*conversation
	t    *testing.T
	made uint64
	sent pim.Millis // the time of the messages
}

func newThread(t *testing.T, messages int) *thread {
	h := &thread{conversation: newConversation("d:ann:bob", 2), t: t, sent: 1_000_000_000_000}
	h.windows = windowsOf(0, 0)
	for range messages {
		if o := h.step(h.request("ann", pim.EntryMessage, 0), findings{}, h.sent); o.err != nil {
			t.Fatal(o.err)
		}
	}
	return h
}

func (h *thread) request(by pim.UserID, kind pim.EntryKind, of pim.Seq) *Request {
	h.made++
	r := &Request{Conversation: h.id, Kind: kind, Sender: by, Device: "d", Local: h.sent, Refers: of}
	binary.BigEndian.PutUint64(r.ClientID[:], uint64(h.sent)<<16)
	binary.BigEndian.PutUint64(r.ClientID[8:], h.made)
	return r
}

// do steps r at a time after the messages. Its target was looked up: it is a message of ann.
func (h *thread) do(r *Request, after pim.Millis) error {
	h.t.Helper()
	if err := r.checkRefers(); err != nil {
		return err
	}
	f := findings{target: h.targets[r.Refers]}
	if f.target == nil {
		f.target = &target{kind: pim.EntryMessage, sender: "ann", time: h.sent}
		f.target.fold.Target = r.Refers
	}
	return h.step(r, f, h.sent+after).err
}

func (h *thread) react(by pim.UserID, of pim.Seq, text string, removed bool) error {
	r := h.request(by, pim.EntryReaction, of)
	r.Reaction, r.Removed = text, removed
	return h.do(r, 0)
}

func refusedFor(err error, want reason) bool {
	var got reason
	return pim.KindOf(err) == pim.KindTooLarge && errors.As(err, &got) && got == want
}

func TestEditsAreBounded(t *testing.T) {
	h := newThread(t, 2)
	for range maxEdits {
		if err := h.do(h.request("ann", pim.EntryEdit, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.do(h.request("ann", pim.EntryEdit, 1), 0); !refusedFor(err, tooManyEdits) {
		t.Error(err)
	}
	if err := h.do(h.request("ann", pim.EntryEdit, 2), 0); err != nil {
		t.Error("another message:", err)
	}
	if n := len(h.targets[1].fold.Edits); n != maxEdits {
		t.Errorf("%d edits are remembered", n)
	}
}

func TestReactionsAreBounded(t *testing.T) {
	h := newThread(t, 1)
	for i := range maxTexts {
		if err := h.react("bob", 1, fmt.Sprint(i), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.react("bob", 1, "more", false); !refusedFor(err, tooManyReactions) {
		t.Error("one text more:", err)
	}
	if err := errors.Join(h.react("ann", 1, "7", false), h.react("ann", 1, "7", false), h.react("bob", 1, "none", true), h.react("bob", 1, "8", true)); err != nil {
		t.Error(err)
	}
	if err := h.react("bob", 1, "more", false); err != nil {
		t.Error("in place of another:", err)
	}

	h = newThread(t, 1)
	for i := range maxReactions {
		if err := h.react(pim.UserID(fmt.Sprint("u", i)), 1, "+", false); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := h.react("one-more", 1, "+", false); !refusedFor(err, tooManyReactions) {
		t.Error("one user more:", err)
	}
	if err := h.react("u7", 1, "+", false); err != nil {
		t.Error("again:", err)
	}
}

// The greatest message fits into one frame with its greatest fold.
func TestAMessageAndItsFoldFitIntoAFrame(t *testing.T) {
	h := newThread(t, 1)
	edit := h.request("ann", pim.EntryEdit, 1)
	edit.Payload = make([]byte, pim.MaxPayload)
	if err := h.do(edit, 0); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < maxReactions; i++ {
		user := pim.UserID(fmt.Sprintf("%0*d", pim.MaxIDBytes, i))
		err = h.react(user, 1, fmt.Sprintf("%0*d", pim.MaxReaction, i%maxTexts), false)
	}
	if !refusedFor(err, tooManyReactions) {
		t.Fatal(err)
	}
	long := strings.Repeat("x", pim.MaxIDBytes)
	e := pim.Entry{
		Seq: 1 << 62, Anchor: 1, Count: 1 << 62, Kind: pim.EntryMessage, Sender: pim.UserID(long), Device: pim.DeviceID(long),
		Local: 1 << 60, Server: 1 << 60, Ahead: 1 << 60, Order: 1 << 60, Payload: make([]byte, pim.MaxPayload),
	}
	for range pim.MaxMentions {
		e.Mentions = append(e.Mentions, pim.Mention{User: pim.UserID(long), Count: 1 << 62})
	}
	fold := wire.AppendFold(nil, &h.targets[1].fold.Fold)
	if n := len(wire.AppendEntry(nil, &e)) + len(fold) + 2*wire.EntryOverhead; n > wire.FrameRoom {
		t.Errorf("%d bytes, a frame has room for %d", n, wire.FrameRoom)
	}
	if n := len(fold) - pim.MaxPayload; n < maxReactionBytes*3/4 {
		t.Errorf("reactions of %d bytes are refused", n)
	}
}

func TestPinsAreBounded(t *testing.T) {
	h := newThread(t, maxPins+1)
	pin := func(of pim.Seq, removed bool) error {
		r := h.request("bob", pim.EntryPin, of)
		r.Removed = removed
		return h.do(r, 1<<40)
	}
	for i := range maxPins {
		if err := pin(pim.Seq(i+1), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := pin(maxPins+1, false); !refusedFor(err, tooManyPins) {
		t.Error(err)
	}
	if err := errors.Join(pin(7, false), pin(maxPins+1, true), pin(7, true), pin(maxPins+1, false)); err != nil {
		t.Error(err)
	}
	cell := pinsCell(&live{conversation: h.conversation}).Cell
	again := newConversation(h.id, 2)
	if err := again.restorePins(cell); err != nil || !slices.Equal(again.pins, h.pins) || again.pinned != h.pinned || len(h.pins) != maxPins {
		t.Errorf("%v at %d, %v; %v at %d", again.pins, again.pinned, err, h.pins, h.pinned)
	}
	if again.dropTrimmedPins(20); len(again.pins) != maxPins-18 { // 7 is not pinned any more
		t.Errorf("behind the front %v are pinned", again.pins)
	}
}

func TestWindows(t *testing.T) {
	const hour = 3_600_000
	never := windowsOf(-1, -1)
	for _, test := range []struct {
		name    string
		kind    pim.EntryKind
		by      pim.UserID
		after   pim.Millis
		windows windows
		want    pim.Kind
	}{
		{"an edit in time", pim.EntryEdit, "ann", 24*hour - 1, windowsOf(0, 0), 0},
		{"an edit too late", pim.EntryEdit, "ann", 24 * hour, windowsOf(0, 0), pim.KindForbidden},
		{"an edit by the other", pim.EntryEdit, "bob", 0, windowsOf(0, 0), pim.KindForbidden},
		{"no edits", pim.EntryEdit, "ann", 0, never, pim.KindForbidden},
		{"no edits, and the clock was set back", pim.EntryEdit, "ann", -hour, never, pim.KindForbidden},
		{"the clock was set back", pim.EntryEdit, "ann", -hour / 6, windowsOf(0, 0), 0},
		{"the clock was an hour ahead", pim.EntryEdit, "ann", -hour, windowsOf(0, 0), pim.KindForbidden},
		{"a recall in time", pim.EntryRecall, "ann", hour/30 - 1, windowsOf(0, 0), 0},
		{"a recall too late", pim.EntryRecall, "ann", hour / 30, windowsOf(0, 0), pim.KindForbidden},
		{"a recall by the other", pim.EntryRecall, "bob", 0, windowsOf(0, 0), pim.KindForbidden},
		{"no recalls", pim.EntryRecall, "ann", 0, never, pim.KindForbidden},
		{"a pin at any time", pim.EntryPin, "bob", 10_000 * hour, never, 0},
	} {
		h := newThread(t, 1)
		h.windows = test.windows
		if err := h.do(h.request(test.by, test.kind, 1), test.after); test.want == 0 && err != nil || test.want != 0 && pim.KindOf(err) != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// What is said about a message is checked before anything is looked up.
func TestRefersIsChecked(t *testing.T) {
	for name, r := range map[string]Request{
		"a message that refers":      {Kind: pim.EntryMessage, Refers: 1},
		"a message with a reaction":  {Kind: pim.EntryMessage, Reaction: "+"},
		"a message that is removed":  {Kind: pim.EntryMessage, Removed: true},
		"an edit of nothing":         {Kind: pim.EntryEdit},
		"an edit that is taken back": {Kind: pim.EntryEdit, Refers: 1, Removed: true},
		"an edit with a reaction":    {Kind: pim.EntryEdit, Refers: 1, Reaction: "+"},
		"an edit with members":       {Kind: pim.EntryEdit, Refers: 1, Members: []pim.UserID{"bob"}},
		"a recall with a payload":    {Kind: pim.EntryRecall, Refers: 1, Payload: []byte("x")},
		"a recall, taken back":       {Kind: pim.EntryRecall, Refers: 1, Removed: true},
		"a reaction without a text":  {Kind: pim.EntryReaction, Refers: 1},
		"a reaction with a newline":  {Kind: pim.EntryReaction, Refers: 1, Reaction: "a\nb"},
		"a pin with a payload":       {Kind: pim.EntryPin, Refers: 1, Payload: []byte("x")},
		"an edit in an own log":      {Kind: pim.EntryEdit, Refers: 1, Conversation: pim.Own("ann"), Sender: "ann"},
	} {
		if r.ClientID[0] = 1; r.Conversation == "" {
			r.Conversation, r.Sender = "d:ann:bob", "ann"
		}
		if err := r.check(); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A target takes the entries that refer to it one after the other, and comes to what the fold of
// all of them is.
func TestATargetIsTheFoldOfItsEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got := &target{}
		got.fold.Target = 1
		want := pim.Fold{Target: 1}
		n := pim.Seq(rapid.IntRange(1, 30).Draw(t, "entries"))
		for seq := pim.Seq(2); seq < 2+n; seq++ {
			e := pim.Entry{Seq: seq, Refers: 1, Sender: rapid.SampledFrom([]pim.UserID{"a", "b", "c"}).Draw(t, "sender")}
			e.Kind = rapid.SampledFrom([]pim.EntryKind{pim.EntryEdit, pim.EntryPin, pim.EntryReaction, pim.EntryReaction, pim.EntryReaction}).Draw(t, "kind")
			e.Removed = e.Kind != pim.EntryEdit && rapid.Bool().Draw(t, "removed")
			if e.Kind == pim.EntryReaction {
				e.Reaction = rapid.SampledFrom([]string{"+", "-", "*"}).Draw(t, "text")
			}
			if rapid.IntRange(0, 40).Draw(t, "recall") == 0 {
				e = pim.Entry{Seq: seq, Refers: 1, Kind: pim.EntryRecall}
			}
			got.take(&e)
			got.take(&e) // a load may find an entry that the cell has
			f, _ := pim.FoldOf(&e)
			want.Merge(&f)
		}
		if !want.Pinned() {
			want.Pin = pim.Mark{}
		}
		want.Reactions, want.Upto = want.InForce(), 1+n
		if a, b := wire.AppendFold(nil, &got.fold.Fold), wire.AppendFold(nil, &want); !bytes.Equal(a, b) {
			t.Fatalf("%+v\nwant %+v", got.fold, want)
		}
	})
}

// The state remembers few targets, and counts their bytes.
func TestTargetsAreForgotten(t *testing.T) {
	h := newThread(t, maxTargets+1)
	for i := range maxTargets + 1 {
		if err := h.react("bob", pim.Seq(i+1), "+", false); err != nil {
			t.Fatal(err)
		}
		if n := len(h.targets); n != i+1 || h.targetBytes < 400*n {
			t.Fatalf("%d targets of %d bytes", n, h.targetBytes)
		}
	}
	if h.dropTargets(); len(h.targets) != 0 || h.targetBytes != 0 {
		t.Errorf("%d targets of %d bytes", len(h.targets), h.targetBytes)
	}
	edit := h.request("ann", pim.EntryEdit, 1)
	edit.Payload = make([]byte, pim.MaxPayload)
	for seq := pim.Seq(1); seq <= 4; seq++ {
		edit.Refers, edit.ClientID[15] = seq, byte(100+seq)
		if err := h.do(edit, 0); err != nil {
			t.Fatal(err)
		}
	}
	if h.dropTargets(); len(h.targets) != 0 {
		t.Errorf("four targets of %d bytes are remembered", h.targetBytes)
	}
}

// A message that was written while the clock was ahead is not in its window for as long as that.
func TestWithinAWindow(t *testing.T) {
	const hour = 3_600_000
	for _, test := range []struct {
		age, window pim.Millis
		want        bool
	}{
		{0, hour, true},
		{hour - 1, hour, true},
		{hour, hour, false},
		{0, 0, false},
		{-1000, hour, true},
		{-pim.SetWindow, hour, false},
		{-365 * 24 * hour, hour, false},
	} {
		if got := within(test.age, test.window); got != test.want {
			t.Errorf("an age of %d ms within %d ms: %v", test.age, test.window, got)
		}
	}
}
