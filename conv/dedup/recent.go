package dedup

import (
	"encoding/binary"
	"hash/maphash"
	"slices"

	"github.com/pim-im/pim"
)

const (
	// notIndexed is how many of a log's last IDs moveTo leaves out of the index.
	notIndexed = 32

	// rememberFor is for how long, in milliseconds, IDs stay remembered after they have come
	// into the index, and rememberMost how many of them, about. If many messages are under
	// way at a time, they don't arrive in the order of their IDs' times. Without rememberFor
	// each ID that is older than one already forgotten would be looked up.
	rememberFor  = pim.Millis(5_000)
	rememberMost = 4096
)

// recent holds the client message IDs of a log's last entries: all that are not in the index,
// and some that are. These IDs are "remembered".
type recent struct {
	ring  []pim.ClientMessageID // the ID of seq s is at s modulo the length, a power of two
	table []uint32              // 1 + place in ring, by hash, linear probing; 0: empty
	first pim.Seq               // the IDs of first to last are remembered
	last  pim.Seq
	kept  pim.Seq // the IDs up to this seq are in the index, or in cells of their own

	// newestGone is the greatest time of the IDs that are in the index and not remembered. An
	// ID of a later time cannot be among them: that is the usual case, without a look-up.
	newestGone int64

	strange map[pim.Seq]bool // seqs of the remembered IDs that are strange
	moved   []moved          // by age
}

// moved says when the IDs up to the seq kept came into the index, by the conversation's time.
type moved struct {
	kept pim.Seq
	at   pim.Millis
}

// startAfter makes r remember nothing up to seq: these IDs are in the index, or in cells of
// their own. newestGone is the greatest time of those in the index.
func (r *recent) startAfter(seq pim.Seq, newestGone int64) {
	*r = recent{first: seq + 1, last: seq, kept: seq, newestGone: newestGone}
}

// seq returns the seq of id, or 0 if id is not remembered.
func (r *recent) seq(id pim.ClientMessageID) pim.Seq {
	if len(r.table) == 0 {
		return 0
	}
	for i := r.slot(id); r.table[i] != 0; i = (i + 1) & (len(r.table) - 1) {
		if place := r.table[i] - 1; r.ring[place] == id {
			// place is the seq modulo the length; one seq from first to last has it.
			return r.first + (pim.Seq(place)-r.first)&pim.Seq(len(r.ring)-1)
		}
	}
	return 0
}

// add takes in the ID of the next entry. now is the conversation's time. If the ring is full,
// add first forgets IDs that have been in the index for long, and only then lets the ring
// grow. There may be very many conversations of a few messages a minute, and their rings stay
// small by this.
func (r *recent) add(id pim.ClientMessageID, strange bool, now pim.Millis) {
	if r.first == 0 {
		r.first = 1
	}
	if r.count() == len(r.ring) {
		r.forget(now)
	}
	if n := r.count(); n == len(r.ring) {
		r.resize(max(8, 2*n))
	}
	r.last++
	r.insert(r.last, id)
	r.mark(r.last, strange)
}

// addBefore takes in the IDs of entries, which stand directly before those that are remembered.
// newestGone is the greatest time of the IDs before entries that are in the index.
func (r *recent) addBefore(entries []pim.Entry, newestGone int64, now pim.Millis) {
	r.grow(len(entries))
	r.moved = slices.Insert(r.moved, 0, moved{r.first - 1, now})
	for i := range slices.Backward(entries) {
		e := &entries[i]
		r.first--
		r.insert(e.Seq, e.ClientID)
		r.mark(e.Seq, isStrange(e.ClientID, e.Server))
	}
	r.newestGone = newestGone
}

// grow makes room for n IDs more.
func (r *recent) grow(n int) {
	if r.first == 0 {
		r.first = 1
	}
	if need := r.count() + n; need > len(r.ring) {
		size := 8
		for size < need {
			size *= 2
		}
		r.resize(size)
	}
}

// count returns how many IDs are remembered.
func (r *recent) count() int { return int(r.last - r.first + 1) }

func (r *recent) mark(seq pim.Seq, strange bool) {
	if strange {
		if r.strange == nil {
			r.strange = make(map[pim.Seq]bool)
		}
		r.strange[seq] = true
	}
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

// moveTo moves all IDs but the last notIndexed into x. now is the conversation's time.
func (r *recent) moveTo(x *index, now pim.Millis) {
	if r.last <= r.kept+notIndexed {
		return
	}
	for r.last > r.kept+notIndexed {
		s := stretch{first: r.kept + 1, last: min(r.kept+indexBlock, r.last-notIndexed), from: 1, to: 0}
		for seq := s.first; seq <= s.last; seq++ {
			if !r.strange[seq] {
				s.extend(idTime(r.id(seq)))
			}
		}
		x.add(s)
		r.kept = s.last
	}
	r.moved = append(r.moved, moved{r.kept, now})
	r.forget(now)
}

// forget forgets the IDs that came into the index rememberFor before now, and those that are
// more than rememberMost entries back.
func (r *recent) forget(now pim.Millis) {
	n, upTo := 0, pim.Seq(0)
	for n < len(r.moved) && (r.moved[n].at <= now-rememberFor || r.last-r.moved[n].kept > rememberMost) {
		upTo = r.moved[n].kept
		n++
	}
	r.moved = r.moved[:copy(r.moved, r.moved[n:])]
	for ; r.first <= upTo; r.first++ {
		if r.strange[r.first] {
			delete(r.strange, r.first)
		} else {
			r.newestGone = max(r.newestGone, idTime(r.id(r.first)))
		}
		r.remove(r.first)
	}
	if size := len(r.ring); size > 128 && r.count() < size/4 {
		r.resize(size / 2)
	}
}

// remove takes the ID of seq out of the table. Then it moves up the IDs behind it that stand
// there only because an earlier slot was taken.
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

// room returns how many bytes of memory the IDs take up, and others how many the rest does.
func (r *recent) room() int   { return 16*cap(r.ring) + 4*cap(r.table) }
func (r *recent) others() int { return 16*cap(r.moved) + 32*len(r.strange) }

// idTime returns the first six bytes of id: the time of a UUIDv7, in milliseconds since
// 1970.
func idTime(id pim.ClientMessageID) int64 { return int64(binary.BigEndian.Uint64(id[:8]) >> 16) }
