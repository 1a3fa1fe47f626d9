package soak

import (
	"encoding/binary"
	"hash/maphash"
	"sync"

	"github.com/pim-im/pim"
)

// handed is what one device was handed of each conversation: a fingerprint by seq.
// Order and repetition are judged at once, everything else in the end.
type handed struct {
	f *findings

	mu    sync.Mutex
	of    [][]uint64 // fingerprints, by conversation and seq; 0: not handed over
	last  []pim.Seq  // by conversation: highest seq that did not come late
	count []pim.Seq  // by conversation: number of different seqs
}

func newHanded(conversations int, f *findings) *handed {
	return &handed{f: f, of: make([][]uint64, conversations), last: make([]pim.Seq, conversations), count: make([]pim.Seq, conversations)}
}

// maxSeq bounds the seqs that are believed: no run sends that many messages.
const maxSeq = 1 << 28

// take notes an entry. late is set if the client said that the entry fills a hole.
func (h *handed) take(who string, conversation int, e *pim.Entry, late bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := &h.of[conversation]
	switch {
	case e.Seq == 0 || e.Seq > maxSeq:
		h.f.add(&h.f.Doubled, "%s was handed seq %d of %s, which nobody sent", who, e.Seq, e.Conversation)
		return
	case e.Seq < pim.Seq(len(*of)) && (*of)[e.Seq] != 0:
		h.f.add(&h.f.Doubled, "%s was handed seq %d of %s twice", who, e.Seq, e.Conversation)
		return
	case !late && e.Seq < h.last[conversation]:
		h.f.add(&h.f.Misordered, "%s was handed seq %d of %s behind %d", who, e.Seq, e.Conversation, h.last[conversation])
	}
	if missing := int(e.Seq) + 1 - len(*of); missing > 0 {
		*of = append(*of, make([]uint64, missing)...)
	}
	(*of)[e.Seq] = fingerprint(e)
	h.count[conversation]++
	if !late {
		h.last[conversation] = max(h.last[conversation], e.Seq)
	}
}

// has returns how many entries of a conversation the device was handed.
func (h *handed) has(conversation int) pim.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count[conversation]
}

// total returns how many entries the device was handed.
func (h *handed) total() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.count {
		n += int(c)
	}
	return n
}

// compare compares what the device was handed with the log.
func (h *handed) compare(who string, conversation int, log []pim.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.of[conversation]
	for i := range log {
		e := &log[i]
		switch {
		case e.Seq >= pim.Seq(len(of)) || of[e.Seq] == 0:
			h.f.add(&h.f.Lost, "%s was never handed seq %d of %s", who, e.Seq, e.Conversation)
			continue
		case of[e.Seq] != fingerprint(e):
			h.f.add(&h.f.Misordered, "%s was handed another entry at seq %d of %s than stands there", who, e.Seq, e.Conversation)
		}
		of[e.Seq] = 0
	}
	for seq, print := range of {
		if print != 0 {
			h.f.add(&h.f.Doubled, "%s was handed seq %d of conversation %d, which is not in the log", who, seq, conversation)
		}
	}
}

var seed = maphash.MakeSeed()

// fingerprint returns a hash of an entry's content and of the fields that its order and
// its display depend on. The hash is never 0.
func fingerprint(e *pim.Entry) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	h.Write(e.ClientID[:])
	h.WriteString(string(e.Conversation))
	h.WriteByte(0)
	h.WriteString(string(e.Sender))
	h.WriteByte(byte(e.Kind))
	for _, v := range []uint64{uint64(e.Seq), uint64(e.Anchor), uint64(e.Local), uint64(e.Server), uint64(e.Ahead), uint64(e.Order)} {
		h.Write(binary.LittleEndian.AppendUint64(nil, v))
	}
	h.Write(e.Payload)
	return max(1, h.Sum64())
}
