package conv

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/pim-im/pim"
)

const (
	// settleAt is how many of a log's last IDs may have no cell; when there are more,
	// all but settleTo get one.
	settleAt = 112
	settleTo = 32

	// rememberFor is for how long, in milliseconds, IDs that have a cell are remembered
	// for all that, and rememberMost how many. Where many messages are under way at a
	// time, the newest IDs are not the last to come; without it each of the others
	// would be looked up.
	rememberFor  pim.Millis = 5_000
	rememberMost            = 4096
)

// recent remembers the client message IDs of a log's last entries: all that have no
// cell, and some that have.
type recent struct {
	ring  []pim.ClientMessageID // that of seq s at s modulo the length, a power of two
	table []uint32              // 1 + place in ring, by hash, linear probing; 0: empty
	first pim.Seq               // the IDs of first to last are remembered
	last  pim.Seq

	// kept is the last seq whose ID is in a cell, with all before it, those that have
	// expired aside.
	kept pim.Seq

	// newestGone is the greatest UUIDv7 time of the IDs that are not remembered. An
	// ID carries its time, so one that is younger cannot be among them: in the
	// usual case no cell has to be looked up. Nothing is assumed of the clock that
	// made it; a wrong one only costs look-ups.
	newestGone uint64

	settles []settle // by age
}

// settle says when the IDs up to kept got their cells, by the conversation's time.
type settle struct {
	kept pim.Seq
	at   pim.Millis
}

// startAfter begins after the entry at seq, whose ID and those before are in cells.
func (r *recent) startAfter(seq pim.Seq, newestGone uint64) {
	*r = recent{first: seq + 1, last: seq, kept: seq, newestGone: newestGone}
}

// seq returns the seq of id, 0 if it is not remembered.
func (r *recent) seq(id pim.ClientMessageID) pim.Seq {
	if len(r.table) == 0 {
		return 0
	}
	for i := r.slot(id); r.table[i] != 0; i = (i + 1) & (len(r.table) - 1) {
		if place := r.table[i] - 1; r.ring[place] == id {
			// The place says the seq modulo the length; there is one such in the range.
			return r.first + (pim.Seq(place)-r.first)&pim.Seq(len(r.ring)-1)
		}
	}
	return 0
}

// maybeGone reports whether id can be one that is not remembered.
func (r *recent) maybeGone(id pim.ClientMessageID) bool {
	return r.newestGone != 0 && idTime(id) <= r.newestGone
}

// add takes in the ID of the next entry.
func (r *recent) add(id pim.ClientMessageID) {
	if r.first == 0 {
		r.first = 1
	}
	if n := int(r.last - r.first + 1); n == len(r.ring) {
		r.resize(max(8, 2*n))
	}
	r.last++
	r.insert(r.last, id)
}

func (r *recent) insert(seq pim.Seq, id pim.ClientMessageID) {
	place := r.place(seq)
	r.ring[place] = id
	i := r.slot(id)
	for r.table[i] != 0 {
		i = (i + 1) & (len(r.table) - 1)
	}
	r.table[i] = uint32(place + 1)
}

func (r *recent) place(seq pim.Seq) int { return int(seq & pim.Seq(len(r.ring)-1)) }

// id returns the ID of the entry at seq, which is remembered.
func (r *recent) id(seq pim.Seq) pim.ClientMessageID { return r.ring[r.place(seq)] }

var idSeed = maphash.MakeSeed()

func (r *recent) slot(id pim.ClientMessageID) int {
	return int(maphash.Bytes(idSeed, id[:]) & uint64(len(r.table)-1))
}

// resize makes room for n IDs, a power of two.
func (r *recent) resize(n int) {
	old := *r
	r.ring, r.table = make([]pim.ClientMessageID, n), make([]uint32, 2*n)
	for seq := r.first; seq <= r.last; seq++ {
		r.insert(seq, old.id(seq))
	}
}

// unsettled returns the seqs whose IDs have no cell and are to get one, now that the
// log ends at last; from > to: none.
func (r *recent) unsettled() (from, to pim.Seq) {
	if r.last-r.kept <= settleAt {
		return 1, 0
	}
	return r.kept + 1, r.last - settleTo
}

// settled takes note that the IDs up to seq have cells, at the conversation's time
// now, and forgets those that got theirs long before.
func (r *recent) settled(seq pim.Seq, now pim.Millis) {
	if seq > r.kept {
		r.kept = seq
		r.settles = append(r.settles, settle{seq, now})
	}
	n, upTo := 0, pim.Seq(0)
	for n < len(r.settles) && (r.settles[n].at <= now-rememberFor || r.last-r.settles[n].kept > rememberMost) {
		upTo = r.settles[n].kept
		n++
	}
	r.settles = r.settles[:copy(r.settles, r.settles[n:])]
	for ; r.first <= upTo; r.first++ {
		r.newestGone = max(r.newestGone, idTime(r.id(r.first)))
		r.remove(r.first)
	}
	if size := len(r.ring); size > 2*settleAt && int(r.last-r.first) < size/4 {
		r.resize(size / 2)
	}
}

// remove takes the ID of seq out of the table, and moves up those that stand behind it
// since its place was taken.
func (r *recent) remove(seq pim.Seq) {
	mask := len(r.table) - 1
	want := uint32(r.place(seq) + 1)
	i := r.slot(r.id(seq))
	for r.table[i] != want {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; r.table[j] != 0; j = (j + 1) & mask {
		home := r.slot(r.ring[r.table[j]-1])
		if (j-home)&mask >= (j-i)&mask {
			r.table[i] = r.table[j]
			i = j
		}
	}
	r.table[i] = 0
}

// newestKept returns the greatest time of the IDs that have a cell.
func (r *recent) newestKept() uint64 {
	newest := r.newestGone
	for seq := r.first; seq <= r.kept; seq++ {
		newest = max(newest, idTime(r.id(seq)))
	}
	return newest
}

// size is what it takes up in memory, in bytes.
func (r *recent) size() int { return 16*cap(r.ring) + 4*cap(r.table) + 16*cap(r.settles) }

// idTime returns the first eight bytes of id, of which a UUIDv7's first six are
// its time in milliseconds; never 0.
func idTime(id pim.ClientMessageID) uint64 { return binary.BigEndian.Uint64(id[:8]) | 1 }
