package pim

// An Erasure says that what By wrote in a conversation is erased up to the seq UpTo: the payloads
// of By's entries up to there, and those of the edits of By's messages up to there, whenever the
// edits were made. What others wrote stays, and so does what has no payload, as By's reactions.
// Erasures may be applied at any time, in any order, and again.
type Erasure struct {
	By   UserID
	UpTo Seq
}

// ErasureOf returns the erasure that e, an entry of kind EntryErase, asks for; ok is false if e is
// of another kind.
func ErasureOf(e *Entry) (x Erasure, ok bool) {
	return Erasure{By: e.Sender, UpTo: e.Refers}, e.Kind == EntryErase
}

// Covers reports whether x erases what by wrote at seq. Of an edit, seq is that of the message.
func (x Erasure) Covers(by UserID, seq Seq) bool { return by == x.By && seq <= x.UpTo }

// Erases reports whether x erases the payload of e, an entry of the same conversation that has one.
func (x Erasure) Erases(e *Entry) bool {
	seq := e.Seq
	if e.Kind == EntryEdit {
		seq = e.Refers
	}
	return x.Covers(e.Sender, seq) && !e.Erased &&
		(len(e.Payload) > 0 || e.Kind == EntryMessage || e.Kind == EntryEdit)
}

// Unfold takes the edit that x erases out of f, a fold of the same conversation, and reports
// whether there was one: only its sender edits a message.
func (x Erasure) Unfold(f *Fold) bool {
	if f.Edit.Seq == 0 || !x.Covers(f.Edit.By, f.Target) {
		return false
	}
	f.Edit = Edit{}
	return true
}
