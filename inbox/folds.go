package inbox

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// Folds holds what has become of the messages of c to which other entries refer: key FoldKey,
// version the seq of the last entry that refers to the message, value from Fold.AppendValue.
func Folds(c pim.ConversationID) store.Partition { return store.Partition("folds/" + c) }

// FoldKey is the key of the message at seq in Folds. Keys sort as seqs do.
func FoldKey(seq pim.Seq) string { return string(binary.BigEndian.AppendUint64(nil, uint64(seq))) }

// Fold is a message's fold as the server keeps it.
type Fold struct {
	pim.Fold
	Edits []pim.Seq // the entries that have edited the message, ascending; none once it is recalled
}

// AppendValue appends the cell's value to dst.
func (f *Fold) AppendValue(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(f.Edits)))
	for _, seq := range f.Edits {
		dst = binary.AppendUvarint(dst, uint64(seq))
	}
	return wire.AppendFold(dst, &f.Fold)
}

// ParseFold reads a cell of Folds.
func ParseFold(c store.Cell) (Fold, error) {
	var f Fold
	edits, encoded, err := splitFold(c)
	if err != nil {
		return Fold{}, err
	}
	if f.Fold, err = wire.ParseFold(encoded); err != nil {
		return Fold{}, pim.Errorf(pim.KindCorrupt, "fold of seq %x: %w", c.Key, err)
	}
	f.Edits = edits
	return f, nil
}

// splitFold returns the two parts of the value of c, a cell of Folds. The second is the fold as
// wire.AppendFold wrote it.
func splitFold(c store.Cell) (edits []pim.Seq, encoded []byte, err error) {
	corrupt := pim.Errorf(pim.KindCorrupt, "fold of seq %x with a value of %d bytes", c.Key, len(c.Value))
	n, size := binary.Uvarint(c.Value)
	if size <= 0 || n > uint64(len(c.Value)) || len(c.Key) != 8 {
		return nil, nil, corrupt
	}
	encoded = c.Value[size:]
	for range n {
		seq, size := binary.Uvarint(encoded)
		if size <= 0 {
			return nil, nil, corrupt
		}
		edits, encoded = append(edits, pim.Seq(seq)), encoded[size:]
	}
	return edits, encoded, nil
}

// eachFold calls take with every fold of the messages from..to of c that the user with the
// membership m may read, ascending, as wire.AppendFold wrote it, until take returns false.
func (x *Inbox) eachFold(ctx context.Context, c pim.ConversationID, m *Membership, from, to pim.Seq, take func(Encoded) bool) error {
	const page = 32 // a fold has up to 180 KiB
	for after := from - 1; after < to; {
		cells, err := x.store.List(ctx, Folds(c), FoldKey(after), page)
		if err != nil {
			return err
		}
		for _, cell := range cells {
			_, encoded, err := splitFold(cell)
			if err != nil {
				return err
			}
			after = pim.Seq(binary.BigEndian.Uint64([]byte(cell.Key)))
			if after > to {
				return nil
			}
			if !m.Reads(after) {
				continue
			}
			if encoded, err = m.readableFold(cell, encoded); err != nil {
				return err
			}
			if !take(Encoded{after, encoded}) {
				return nil
			}
		}
		if len(cells) < page {
			return nil
		}
	}
	return nil
}

// readableFold returns what the user may read of the fold in cell, which is encoded. A user who
// has left does not get what others made of a message meanwhile, but that it was recalled.
func (m *Membership) readableFold(cell store.Cell, encoded []byte) ([]byte, error) {
	if len(m.Periods) == 1 && m.Present() {
		return encoded, nil
	}
	f, err := ParseFold(cell)
	if err != nil {
		return nil, err
	}
	if !m.Reads(f.Edit.Seq) {
		f.Edit = pim.Edit{}
	}
	if !m.Reads(f.Pin.Seq) {
		f.Pin = pim.Mark{}
	}
	f.Reactions = slices.DeleteFunc(f.Reactions, func(r pim.Reaction) bool { return !m.Reads(r.Seq) })
	return wire.AppendFold(nil, &f.Fold), nil
}

// changes fills the page, which has a range and no entries, with folds: at most limit of them,
// and pim.MaxPageBytes. If there are more it lowers page.To.
func (x *Inbox) changes(ctx context.Context, page *Page, c pim.ConversationID, m *Membership, limit int) error {
	room := pim.MaxPageBytes
	return x.eachFold(ctx, c, m, page.From, page.To, func(f Encoded) bool {
		if room -= len(f.Data); len(page.Folds) == limit || room < 0 && len(page.Folds) > 0 {
			page.To = f.Seq - 1
			return false
		}
		page.Folds = append(page.Folds, f)
		return true
	})
}

// addFolds adds the folds of the page's entries. If the page then has more than
// pim.MaxPageBytes, it loses entries, at the end where a next page goes on, until one is left.
func (x *Inbox) addFolds(ctx context.Context, page *Page, req *PullRequest, m *Membership) error {
	if len(page.Entries) == 0 {
		return nil
	}
	size := 0
	for i := range page.Entries {
		size += len(page.Entries[i].Data)
	}
	from, to := page.Entries[0].Seq, page.Entries[len(page.Entries)-1].Seq
	return x.eachFold(ctx, req.Conversation, m, from, to, func(f Encoded) bool {
		if f.Seq > to {
			return false
		}
		page.Folds = append(page.Folds, f)
		size += len(f.Data)
		for size > pim.MaxPageBytes && len(page.Entries) > 1 {
			size -= page.lose(req.NewestFirst)
		}
		to = page.Entries[len(page.Entries)-1].Seq
		return true
	})
}

// lose takes the last entry off the page, or the first one if the newest come first, with its
// fold, and returns how many bytes these were.
func (p *Page) lose(newestFirst bool) int {
	at := len(p.Entries) - 1
	if newestFirst {
		at = 0
	}
	e := p.Entries[at]
	size, folded := len(e.Data), slices.IndexFunc(p.Folds, func(f Encoded) bool { return f.Seq == e.Seq })
	if folded >= 0 {
		size += len(p.Folds[folded].Data)
		p.Folds = slices.Delete(p.Folds, folded, folded+1)
	}
	if newestFirst {
		p.Entries, p.From = p.Entries[1:], e.Seq+1
	} else {
		p.Entries, p.To = p.Entries[:at], e.Seq-1
	}
	return size
}
