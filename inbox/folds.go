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

const foldPage = 32 // folds that are read at once: a fold has up to 180 KiB

// foldsFor are the folds of a conversation as a user reads them in one pull.
type foldsFor struct {
	*Inbox
	conversation pim.ConversationID
	membership   *Membership
	newest       pim.Seq // that the user may read; what came since is told by its entries
}

// each calls take with every fold of the messages from..to that the user may read, ascending, as
// wire.AppendFold wrote it, until take returns false. It reads nothing of the stretches that the
// user may not read.
func (x foldsFor) each(ctx context.Context, from, to pim.Seq, take func(Encoded) bool) error {
	for next := x.membership.firstFrom(from); next <= to; next = x.membership.firstFrom(next) {
		cells, err := x.store.List(ctx, Folds(x.conversation), FoldKey(next-1), foldPage)
		if err != nil {
			return err
		}
		for _, cell := range cells {
			f, err := x.readable(cell)
			if err != nil {
				return err
			}
			if next = f.Seq + 1; f.Seq > to {
				return nil
			}
			if !x.membership.Reads(f.Seq) {
				break // to the next stretch that the user may read
			}
			if !take(f) {
				return nil
			}
		}
		if len(cells) == 0 {
			return nil
		}
	}
	return nil
}

// readable returns what the user may read of the fold in cell: not what others made of the
// message while the user was absent, but that it was recalled. Nor what came since the pull
// began: the user may have been removed meanwhile. A fold that leaves something out, or may do
// so, has no Upto, since what such a fold lacks was not taken back.
func (x foldsFor) readable(cell store.Cell) (Encoded, error) {
	_, encoded, err := splitFold(cell)
	if err != nil {
		return Encoded{}, err
	}
	seq, m := pim.Seq(binary.BigEndian.Uint64([]byte(cell.Key))), x.membership
	if len(m.Periods) == 1 && m.Present() && pim.Seq(cell.Version) <= x.newest {
		return Encoded{seq, encoded}, nil
	}
	f, err := ParseFold(cell)
	if err != nil {
		return Encoded{}, err
	}
	hidden := func(at pim.Seq) bool { return at != 0 && (at > x.newest || !m.Reads(at)) }
	if hidden(f.Edit.Seq) {
		f.Edit, f.Upto = pim.Edit{}, 0
	}
	if hidden(f.Pin.Seq) {
		f.Pin, f.Upto = pim.Mark{}, 0
	}
	all := len(f.Reactions)
	f.Reactions = slices.DeleteFunc(f.Reactions, func(r pim.Reaction) bool { return hidden(r.Seq) })
	if len(f.Reactions) < all || hidden(f.Upto) {
		f.Upto = 0
	}
	return Encoded{seq, wire.AppendFold(nil, &f.Fold)}, nil
}

// changes fills the page, which has a range and no entries, with folds: at most limit of them,
// and pim.MaxPageBytes. If there are more it lowers page.To.
func (x foldsFor) changes(ctx context.Context, page *Page, limit int) error {
	room := pim.MaxPageBytes
	return x.each(ctx, page.From, page.To, func(f Encoded) bool {
		if room -= len(f.Data); len(page.Folds) == limit || room < 0 && len(page.Folds) > 0 {
			page.To = f.Seq - 1
			return false
		}
		page.Folds = append(page.Folds, f)
		return true
	})
}

// add adds the folds of the page's entries. If the page then has more than pim.MaxPageBytes, it
// loses entries, at the end where a next page goes on, until one is left. It reads few folds more
// than the page has in the end: it begins at the other end.
func (x foldsFor) add(ctx context.Context, page *Page, newestFirst bool) error {
	if len(page.Entries) == 0 {
		return nil
	}
	size := 0
	for i := range page.Entries {
		size += len(page.Entries[i].Data)
	}
	if newestFirst {
		return x.addBackwards(ctx, page, size)
	}
	return x.each(ctx, page.Entries[0].Seq, page.Entries[len(page.Entries)-1].Seq, func(f Encoded) bool {
		if f.Seq > page.Entries[len(page.Entries)-1].Seq {
			return false
		}
		page.Folds = append(page.Folds, f)
		size += len(f.Data)
		for size > pim.MaxPageBytes && len(page.Entries) > 1 {
			size -= page.lose()
		}
		return true
	})
}

// addBackwards is add from the newest entry down. The page's entries have size bytes.
func (x foldsFor) addBackwards(ctx context.Context, page *Page, size int) error {
	entries, first := page.Entries, 0 // the page keeps the entries from first on
	for begin, end := 0, len(entries); end > first; end = begin {
		begin = max(first, end-foldPage)
		var some []Encoded
		err := x.each(ctx, entries[begin].Seq, entries[end-1].Seq, func(f Encoded) bool {
			some = append(some, f)
			return true
		})
		if err != nil {
			return err
		}
		for _, f := range slices.Backward(some) {
			if f.Seq < entries[first].Seq {
				break
			}
			size += len(f.Data)
			page.Folds = append(page.Folds, f)
			for size > pim.MaxPageBytes && first < len(entries)-1 {
				if entries[first].Seq == f.Seq { // its fold goes with it
					size -= len(f.Data)
					page.Folds = page.Folds[:len(page.Folds)-1]
				}
				size -= len(entries[first].Data)
				first++
			}
		}
	}
	slices.Reverse(page.Folds)
	if first > 0 {
		page.Entries, page.From = entries[first:], entries[first-1].Seq+1
	}
	return nil
}

// lose takes the last entry off the page, with its fold, and returns how many bytes these were.
func (p *Page) lose() int {
	at := len(p.Entries) - 1
	e := p.Entries[at]
	size := len(e.Data)
	if n := len(p.Folds); n > 0 && p.Folds[n-1].Seq == e.Seq {
		size += len(p.Folds[n-1].Data)
		p.Folds = p.Folds[:n-1]
	}
	p.Entries, p.To = p.Entries[:at], e.Seq-1
	return size
}
