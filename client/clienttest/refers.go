package clienttest

import (
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// refer checks what e says about the message that it refers to.
func (s *Server) refer(l *log, e *pim.Entry) error {
	refers := e.Kind >= pim.EntryEdit && e.Kind <= pim.EntryPin || e.Kind == pim.EntryErase
	if refers != (e.Refers != 0) {
		return pim.Errorf(pim.KindInvalid, "a %s that refers to seq %d", e.Kind, e.Refers)
	}
	if !refers {
		return nil
	}
	if e.Kind == pim.EntryErase {
		if e.Refers > pim.Seq(len(l.entries)) {
			return pim.Errorf(pim.KindNotFound, "there is no seq %d", e.Refers)
		}
		return nil
	}
	if e.Refers > pim.Seq(len(l.entries)) || !l.reads(e.Conversation, e.Sender, e.Refers) {
		return pim.Errorf(pim.KindNotFound, "there is no message at seq %d", e.Refers)
	}
	target, fold := &l.entries[e.Refers-1], l.folds[e.Refers]
	switch {
	case target.Kind != pim.EntryMessage:
		return pim.Errorf(pim.KindInvalid, "seq %d is no message", e.Refers)
	case fold.Recalled():
		return pim.Errorf(pim.KindNotFound, "the message at seq %d was recalled", e.Refers)
	case target.Erased && !e.Removed:
		return pim.Errorf(pim.KindNotFound, "the message at seq %d was erased", e.Refers)
	case e.Kind == pim.EntryReaction:
		return pim.ValidateReaction(e.Reaction)
	case e.Kind == pim.EntryPin, e.Kind == pim.EntryRecall && e.Sender == l.owner():
		return nil
	case e.Sender != target.Sender:
		return pim.Errorf(pim.KindForbidden, "the message at seq %d is not of user %s", e.Refers, e.Sender)
	}
	window := s.EditWindow
	if e.Kind == pim.EntryRecall {
		window = s.RecallWindow
	}
	if age := s.Now() - target.Time(); window == 0 || age >= window {
		return pim.Errorf(pim.KindForbidden, "the message at seq %d is %d ms old", e.Refers, age)
	}
	return nil
}

// fold takes note of what e, which was appended, makes of the message that it refers to.
func (l *log) fold(e *pim.Entry) {
	if x, ok := pim.ErasureOf(e); ok {
		l.erase(x, e.Seq)
	}
	f, ok := pim.FoldOf(e)
	if !ok {
		return
	}
	merged, known := l.folds[f.Target]
	if !known {
		merged.Target = f.Target
	}
	merged.Merge(&f)
	merged.Upto = e.Seq
	merged.Merge(&pim.Fold{Target: f.Target}) // drops what was taken back
	l.folds[f.Target] = merged
	for i := range l.entries {
		if merged.Erases(&l.entries[i]) {
			l.entries[i].Payload, l.entries[i].Erased = nil, true
		}
	}
}

// erase carries out the erasure x, which the entry at seq asks for.
func (l *log) erase(x pim.Erasure, seq pim.Seq) {
	for i := range l.entries {
		if e := &l.entries[i]; x.Erases(e) {
			e.Payload, e.Erased = nil, true
		}
	}
	for target, f := range l.folds {
		if x.Unfold(&f) {
			f.Upto = seq
			l.folds[target] = f
		}
	}
}

// erasures returns how far users have erased what they wrote, as one may know it who reads up to
// newest.
func (l *log) erasures(newest pim.Seq) (list []*wirepb.Erasure) {
	upTo := make(map[pim.UserID]pim.Seq)
	for i := range l.entries {
		if x, ok := pim.ErasureOf(&l.entries[i]); ok {
			upTo[x.By] = max(upTo[x.By], min(x.UpTo, newest))
		}
	}
	for _, by := range slices.Sorted(maps.Keys(upTo)) {
		list = append(list, &wirepb.Erasure{By: string(by), Upto: uint64(upTo[by])})
	}
	return list
}

// foldsOf returns the folds of the messages at the seqs from..to that user may read. What came
// after the user had left is not in them, but a recall. A fold that leaves something out has no
// Upto, as the server's.
func (l *log) foldsOf(c pim.ConversationID, user pim.UserID, from, to uint64) (list []*wirepb.Fold) {
	for _, seq := range slices.Sorted(maps.Keys(l.folds)) {
		if uint64(seq) < from || uint64(seq) > to || seq < l.front || !l.reads(c, user, seq) {
			continue
		}
		f, m := l.folds[seq], new(wirepb.Fold)
		hidden := func(at pim.Seq) bool { return at != 0 && !l.reads(c, user, at) }
		if hidden(f.Edit.Seq) {
			f.Edit, f.Upto = pim.Edit{}, 0
		}
		if hidden(f.Pin.Seq) {
			f.Pin, f.Upto = pim.Mark{}, 0
		}
		all := len(f.Reactions)
		f.Reactions = slices.DeleteFunc(slices.Clone(f.Reactions), func(r pim.Reaction) bool { return hidden(r.Seq) })
		if len(f.Reactions) < all || hidden(f.Upto) {
			f.Upto = 0
		}
		if err := m.UnmarshalVT(wire.AppendFold(nil, &f)); err != nil {
			panic(err) // it was just encoded
		}
		list = append(list, m)
	}
	return list
}
