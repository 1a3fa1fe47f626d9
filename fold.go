package pim

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxReaction is how many bytes a reaction has at most: enough for an emoji of several code
// points, and for a short word.
const MaxReaction = 32

// A Fold is what the entries that refer to a message have made of it: whether it was edited,
// recalled or pinned, and who has reacted how (section 19 of docs/protocol.md). It follows from
// these entries alone, in whatever order they are merged. The zero Fold, but for Target, is
// that of a message to which nothing refers.
type Fold struct {
	Target Seq // the message
	// Upto says that the fold has what every entry up to this seq has made of the message. 0: it
	// has only what the entries that were merged have.
	Upto   Seq
	Edit   Edit // the last one; Seq 0: there is none
	Recall Mark // the last one; Seq 0: the message was not recalled
	Pin    Mark // the last pinning, or its end; Seq 0: there was none
	// Reactions are of users who have reacted, ascending by text, then user. A Removed one is no
	// reaction any more; it is kept until Upto has passed it.
	Reactions []Reaction
}

// Edit is a message's payload since it was edited.
type Edit struct {
	Seq     Seq // of the entry that edited it
	By      UserID
	Time    Millis // when, to show to people
	Payload []byte
}

// Mark says who did something to a message, and when.
type Mark struct {
	Seq     Seq // of the entry
	By      UserID
	Time    Millis
	Removed bool // of a pin: it was taken away
}

// Reaction is one user's reaction to a message.
type Reaction struct {
	Text    string // what is shown, mostly an emoji
	User    UserID
	Seq     Seq // of the entry that gave it, or took it back
	Removed bool
}

// FoldOf returns what e alone makes of the message that it refers to; ok is false if e refers
// to none. The fold shares e's payload.
func FoldOf(e *Entry) (f Fold, ok bool) {
	f.Target = e.Refers
	mark := Mark{Seq: e.Seq, By: e.Sender, Time: e.Time(), Removed: e.Removed}
	switch {
	case e.Refers == 0:
		return Fold{}, false
	case e.Kind == EntryEdit:
		f.Edit = Edit{Seq: e.Seq, By: e.Sender, Time: e.Time(), Payload: e.Payload}
	case e.Kind == EntryRecall:
		f.Recall = mark
	case e.Kind == EntryPin:
		f.Pin = mark
	case e.Kind == EntryReaction:
		f.Reactions = []Reaction{{Text: e.Reaction, User: e.Sender, Seq: e.Seq, Removed: e.Removed}}
	default:
		return Fold{}, false
	}
	return f, true
}

// Merge adds what g knows to f. Both must be of the same message of the same log. The order in
// which folds are merged makes no difference, and a fold that is merged again changes nothing.
//
// Of two edits the one with the greater seq counts, and so do marks and the reactions of one
// user with one text. A fold with Upto has everything up to there, so what it lacks of that is
// gone. Nothing but the recall is left of a message that was recalled. The result shares
// payloads with f and g.
func (f *Fold) Merge(g *Fold) {
	upto := max(f.Upto, g.Upto)
	if g.Edit.Seq > f.Edit.Seq {
		f.Edit = g.Edit
	}
	if g.Recall.Seq > f.Recall.Seq {
		f.Recall = g.Recall
	}
	f.Pin = newer(f.Pin, g.Pin, Mark.register, f.Upto, g.Upto)
	f.Reactions = mergeReactions(f, g)
	f.Upto = upto
	if f.Recall.Seq != 0 {
		f.Edit, f.Pin, f.Reactions = Edit{}, Mark{}, nil
	}
}

func mergeReactions(f, g *Fold) (merged []Reaction) {
	for mine, theirs := f.Reactions, g.Reactions; len(mine)+len(theirs) > 0; {
		var order int
		switch {
		case len(theirs) == 0:
			order = -1
		case len(mine) == 0:
			order = 1
		default:
			order = mine[0].compare(theirs[0])
		}
		var a, b Reaction
		if order <= 0 {
			a, mine = mine[0], mine[1:]
		}
		if order >= 0 {
			b, theirs = theirs[0], theirs[1:]
		}
		if r := newer(a, b, Reaction.register, f.Upto, g.Upto); r.Seq != 0 {
			merged = append(merged, r)
		}
	}
	return merged
}

// compare orders reactions by text, then user.
func (r Reaction) compare(o Reaction) int {
	return cmp.Or(strings.Compare(r.Text, o.Text), cmp.Compare(r.User, o.User))
}

func (m Mark) register() (Seq, bool)     { return m.Seq, m.Removed }
func (r Reaction) register() (Seq, bool) { return r.Seq, r.Removed }

// newer returns the newer one of a, of a fold with everything up to the seq aUpto, and b, of one
// with everything up to bUpto: the zero T if there is neither, or the newer one was taken back.
func newer[T any](a, b T, register func(T) (seq Seq, removed bool), aUpto, bUpto Seq) (none T) {
	aSeq, _ := register(a)
	bSeq, _ := register(b)
	if bSeq > aSeq {
		a, aSeq, aUpto, bSeq, bUpto = b, bSeq, bUpto, aSeq, aUpto
	}
	if aSeq <= bUpto && aSeq != bSeq { // the other fold would have it, if it had not been taken back
		return none
	}
	if _, removed := register(a); removed && aSeq <= max(aUpto, bUpto) {
		return none
	}
	return a
}

// Newest returns the greatest seq that f names or covers: f follows from entries up to there.
func (f *Fold) Newest() Seq {
	newest := max(f.Upto, f.Edit.Seq, f.Recall.Seq, f.Pin.Seq)
	for i := range f.Reactions {
		newest = max(newest, f.Reactions[i].Seq)
	}
	return newest
}

// Recalled reports whether the message was recalled.
func (f *Fold) Recalled() bool { return f.Recall.Seq != 0 }

// Erases reports whether the recall in f erases e's payload: e is the message or one of its
// edits. e must be of the same log.
func (f *Fold) Erases(e *Entry) bool {
	return f.Recalled() && (e.Kind == EntryMessage && e.Seq == f.Target || e.Kind == EntryEdit && e.Refers == f.Target)
}

// Pinned reports whether the message is pinned.
func (f *Fold) Pinned() bool { return f.Pin.Seq != 0 && !f.Pin.Removed }

// InForce returns the reactions that are in force, ascending by text, then user.
func (f *Fold) InForce() []Reaction {
	return slices.DeleteFunc(slices.Clone(f.Reactions), func(r Reaction) bool { return r.Removed })
}

// ValidateReaction reports what is wrong with the text of a reaction, as an Error of KindInvalid
// or KindTooLarge: it has 1 to MaxReaction bytes of UTF-8 without control characters.
func ValidateReaction(text string) error {
	switch {
	case text == "":
		return Errorf(KindInvalid, "an empty reaction")
	case len(text) > MaxReaction:
		return Errorf(KindTooLarge, "a reaction of %d bytes, at most %d are allowed", len(text), MaxReaction)
	case !utf8.ValidString(text), strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }):
		return Errorf(KindInvalid, "reaction %q is not UTF-8, or has a control character", text)
	}
	return nil
}
