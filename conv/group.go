package conv

import (
	"bytes"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// group is what one batch adds to one conversation: entries under way to the
// disk, and the requests that wait for it.
type group struct {
	conv     *live
	write    store.Write
	entries  []pim.Entry
	encoded  []Encoded
	requests []*Request // one for each entry
	repeats  []repeat   // requests whose entry is in this group, or was not settled
	refused  []Answer   // by what this group's entries make of the conversation

	joined   map[pim.UserID]pim.Seq    // whose membership began with the entry
	departed map[pim.UserID]inbox.Line // whose membership ended, and their last line
	entities map[string]bool           // settings that changed
	indexed  bool                      // it writes a cell of the index
	level    int                       // of which level
	snapshot pim.Seq                   // it writes one, of the state before it; 0: none
}

// repeat is a request that was sent before, as the entry at first.
type repeat struct {
	request *Request
	first   pim.Seq
}

// add takes in the outcome of a request that came to an entry. The entry's
// bytes go to the end of arena, which is returned.
func (g *group) add(r *Request, o *outcome, arena []byte) []byte {
	at := len(arena)
	arena = wire.AppendEntry(arena, &o.entry)
	data := arena[at:len(arena):len(arena)]
	if len(g.entries) == 0 {
		g.write.After = o.entry.Seq - 1
	}
	g.entries = append(g.entries, o.entry)
	g.encoded = append(g.encoded, Encoded{o.entry.Seq, o.entry.Sender, o.entry.Device, data})
	g.write.Records = append(g.write.Records, data)
	g.requests = append(g.requests, r)
	if o.strange {
		g.write.Cells = append(g.write.Cells, strangeCell(o.entry.Conversation, o.entry.ClientID, o.entry.Seq))
	}
	if o.entity != "" {
		if g.entities == nil {
			g.entities = make(map[string]bool)
		}
		g.entities[o.entity] = true
	}
	for _, u := range o.joined {
		if g.joined == nil {
			g.joined = make(map[pim.UserID]pim.Seq)
		}
		g.joined[u] = o.entry.Seq
	}
	for _, u := range o.departed {
		if g.departed == nil {
			g.departed = make(map[pim.UserID]inbox.Line)
		}
		g.departed[u] = lastLine(&o.entry)
	}
	return arena
}

// finish lays out the cells that follow from the entries: the older client IDs,
// changed memberships, and every member's line.
func (g *group) finish() {
	c := g.conv
	g.write.Log = inbox.Entries(c.id)
	cells := append(g.write.Cells, c.unsettledIDs...)
	if g.level, g.indexed = c.index.full(); g.indexed {
		cells = append(cells, c.index.cell(c.id, g.level))
	}
	for u := range g.joined {
		cells = append(cells, membershipCell(c, u))
	}
	for u, line := range g.departed {
		cells = append(cells, membershipCell(c, u))
		if !c.members[u].Present() {
			cells = append(cells, lineCell(c.id, u, line))
		}
	}
	for u, line := range c.unsettled {
		cells = append(cells, membershipCell(c, u))
		if !c.members[u].Present() {
			cells = append(cells, lineCell(c.id, u, line))
		}
	}
	for _, entity := range c.unsettledSettings {
		cells = appendSettingCells(cells, c, entity)
	}
	for entity := range g.entities {
		cells = appendSettingCells(cells, c, entity)
	}
	if c.last > 0 {
		line := inbox.Line{Newest: c.last, Count: c.count}.AppendValue(nil)
		for _, u := range c.present {
			cells = append(cells, store.CellWrite{
				Partition: inbox.Fresh(u),
				Cell:      store.Cell{Key: string(c.id), Version: uint64(c.last), Value: line},
			})
		}
	}
	g.write.Cells = cells
}

func membershipCell(c *live, u pim.UserID) store.CellWrite {
	m := c.members[u]
	return store.CellWrite{
		Partition: inbox.Members(c.id),
		Cell:      store.Cell{Key: string(u), Version: uint64(m.changed), Value: m.Value()},
	}
}

// lastLine returns the line of those who left with the entry e.
func lastLine(e *pim.Entry) inbox.Line {
	return inbox.Line{Newest: e.Seq, Count: e.Count, Left: true}
}

func lineCell(c pim.ConversationID, u pim.UserID, l inbox.Line) store.CellWrite {
	return store.CellWrite{Partition: inbox.Fresh(u), Cell: l.Cell(c)}
}

// published returns what the members are to be pushed.
func (g *group) published() Published {
	p := Published{Conversation: g.conv.id, Entries: g.encoded, Members: g.conv.present}
	if g.joined == nil && g.departed == nil {
		return p
	}
	p.Members = nil
	first, last := g.entries[0].Seq, g.entries[len(g.entries)-1].Seq
	for _, u := range g.conv.present {
		if from, ok := g.joined[u]; ok && from > first {
			p.Partly = append(p.Partly, Reader{u, from, last})
		} else {
			p.Members = append(p.Members, u)
		}
	}
	for u, line := range g.departed {
		if !g.conv.members[u].Present() {
			p.Partly = append(p.Partly, Reader{u, max(first, g.joined[u]), line.Newest})
		}
	}
	return p
}

// answer returns the answer to the request that made e.
func answer(r *Request, e *pim.Entry, duplicate bool) Answer {
	a := Answer{Request: r, Seq: e.Seq, Anchor: e.Anchor, Count: e.Count, Server: e.Server, Ahead: e.Ahead, Order: e.Order, Duplicate: duplicate}
	if r.reads() && !bytes.Equal(e.Payload, r.Payload) {
		a.Payload = e.Payload
	}
	return a
}
