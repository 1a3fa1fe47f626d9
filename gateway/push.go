package gateway

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"google.golang.org/protobuf/encoding/protowire"
)

// pushPart is a PIMPush frame that is encoded once and copied to every connection. Two
// kinds of entries are left out of a connection's copy: those that its device sent, and
// those outside its user's membership.
type pushPart struct {
	head    []byte               // type byte and conversation
	body    []byte               // entries, each with its tag and length
	ends    []int                // where each entry ends in body
	entries []conv.Encoded       // in the same order
	own     map[pim.UserID][]int // indices of each sender's entries; nil below manyEntries
}

// splitPush encodes p in as few frames as the frame limit allows. The parts
// refer to p.
func splitPush(p *conv.Published) []pushPart {
	head := wire.AppendPush(nil, p.Conversation, nil)
	parts := make([]pushPart, 0, 1)
	for rest := p.Entries; len(rest) > 0; {
		n, size := wire.Fit(len(rest), func(i int) int { return len(rest[i].Data) })
		part := pushPart{head: head, body: make([]byte, 0, size), ends: make([]int, 0, n), entries: rest[:n]}
		for i := range part.entries {
			part.body = wire.AppendPushEntry(part.body, part.entries[i].Data)
			part.ends = append(part.ends, len(part.body))
		}
		part.index()
		parts = append(parts, part)
		rest = rest[n:]
	}
	return parts
}

// manyEntries is the number of entries from which an index by sender pays. Without the index,
// each connection of each member walks over all entries.
const manyEntries = 16

func (p *pushPart) index() {
	if len(p.entries) < manyEntries {
		return
	}
	p.own = make(map[pim.UserID][]int)
	for i := range p.entries {
		u := p.entries[i].Sender
		p.own[u] = append(p.own[u], i)
	}
}

// span is a stretch of a part's body.
type span struct{ from, to int }

// spans appends to spans the stretches of the body that are for the device, and returns
// their size in bytes. The user may read the seqs from..to; the entries that the device
// sent are left out.
func (p *pushPart) spans(spans []span, user pim.UserID, device pim.DeviceID, from, to pim.Seq) (_ []span, size int) {
	first, last := 0, len(p.entries)
	for first < last && p.entries[first].Seq < from {
		first++
	}
	for last > first && p.entries[last-1].Seq > to {
		last--
	}
	start := p.start(first)
	cut := func(i int) {
		if end := p.start(i); end > start {
			spans = append(spans, span{start, end})
			size += end - start
		}
		if i < len(p.ends) {
			start = p.ends[i]
		}
	}
	if p.own == nil {
		for i := first; i < last; i++ {
			if p.entries[i].Device == device && p.entries[i].Sender == user {
				cut(i)
			}
		}
	} else {
		for _, i := range p.own[user] {
			if i >= first && i < last && p.entries[i].Device == device {
				cut(i)
			}
		}
	}
	cut(last)
	return spans, size
}

// start returns where entry i begins in body.
func (p *pushPart) start(i int) int {
	if i == 0 {
		return 0
	}
	return p.ends[i-1]
}

// lacks reports whether p has an entry that c's device did not send.
func (c *conn) lacks(p *conv.Published) bool {
	for i := range p.Entries {
		if e := &p.Entries[i]; e.Device != c.device || e.Sender != c.user {
			return true
		}
	}
	return false
}

// behindPush is a PIMPush frame that only says behind: it tells a device to sync.
var behindPush = []byte{byte(wire.TypePush), 3<<3 | byte(protowire.VarintType), 1}
