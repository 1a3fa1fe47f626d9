package conv

import (
	"encoding/binary"

	"github.com/pim-im/pim"
)

// recentIDs is how many of a log's last entries a writer knows the client
// message IDs of. On-disk meaning: older IDs are in cells. It must never shrink.
const recentIDs = 1024

// recent holds the client message IDs of a log's last recentIDs entries.
type recent struct {
	seqs map[pim.ClientMessageID]pim.Seq
	ring []pim.ClientMessageID // by age; at full size, next is the oldest
	next int

	// newestGone is the greatest UUIDv7 time of the IDs that were pushed out. An
	// ID carries its time, so one that is younger cannot be among them: in the
	// usual case no cell has to be looked up. Nothing is assumed of the clock that
	// made it; a wrong one only costs look-ups.
	newestGone uint64

	// kept is the last seq whose ID is known to be in a cell, with all before it
	// (those that have expired aside): what was pushed out later is settled again by
	// who loads the conversation.
	kept pim.Seq
}

// seq returns the seq of id, 0 if it is not among the recent ones.
func (r *recent) seq(id pim.ClientMessageID) pim.Seq { return r.seqs[id] }

// maybeGone reports whether id can be one that was pushed out.
func (r *recent) maybeGone(id pim.ClientMessageID) bool {
	return r.newestGone != 0 && idTime(id) <= r.newestGone
}

// add takes in the next entry's ID. If that pushes one out, it returns it with
// its seq.
func (r *recent) add(id pim.ClientMessageID, seq pim.Seq) (gone pim.ClientMessageID, goneSeq pim.Seq) {
	if r.seqs == nil {
		r.seqs = make(map[pim.ClientMessageID]pim.Seq)
	}
	if len(r.ring) < recentIDs {
		r.ring = append(r.ring, id)
	} else {
		gone = r.ring[r.next]
		goneSeq = r.seqs[gone]
		delete(r.seqs, gone)
		r.newestGone = max(r.newestGone, idTime(gone))
		r.ring[r.next] = id
		r.next = (r.next + 1) % recentIDs
	}
	r.seqs[id] = seq
	return gone, goneSeq
}

// idTime returns the first eight bytes of id, of which a UUIDv7's first six are
// its time in milliseconds; never 0.
func idTime(id pim.ClientMessageID) uint64 { return binary.BigEndian.Uint64(id[:8]) | 1 }
