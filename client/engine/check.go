package engine

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// check is the comparison of one conversation: it finds the last entry that the device
// has stored and the server has too. If two logs have the same entry at a seq, they are
// the same up to there, so this is a binary search, a page at a time.
//
// The methods next, read and answered return what the caller has to do (task). The caller
// passes the stored entries to read, and each frame of the server's answer to take; behind
// the last frame it calls answered.
type check struct {
	own   bool    // the user's own log: pulls leave superseded commands out
	known pim.Seq // the device's position
	page  pim.Seq // how many seqs are compared at once

	active bool // its turn has come

	// Stored entries up to low are the same on the server; none above high is.
	low, high pim.Seq
	top       bool    // compare at high next, not in the middle
	at        pim.Seq // the seq at which the present window ends
	probe     bool    // no entry is stored: ask only for the server's newest seq

	same   pim.Entry       // the last entry that was found to be the same; seq 0: none
	any    bool            // some entry is stored
	lost   bool            // some stored entry is not on the server
	newest pim.Seq         // newest seq on the server, from its answers to the comparison
	front  pim.Seq         // entries before it were removed by retention: they can't be compared
	gone   pim.Entry       // the last stored entry before front that was met; seq 0: none
	heard  pim.Seq         // newest seq on the server, from pushes, acks and the sync list meanwhile
	listed *wirepb.Summary // what the sync list says meanwhile; nil: nothing

	// The window that is compared at present.
	stored []pim.Entry // the device's entries
	found  []pim.Entry // the server's entries
	from   pim.Seq     // the server's answer covers the seqs from here on; 0: none yet
}

// task is what a comparison needs next.
type task uint8

const (
	readStored task = iota // read the last page stored entries up to at
	askServer              // ask the server for its entries, see ask
	decided                // nothing: same, lost and newest are what was found
)

// newCheck returns the comparison of a conversation at the position known.
func newCheck(own bool, known, page pim.Seq) *check {
	return &check{own: own, known: known, page: page, high: known, top: true}
}

// next goes on: at the end first, then in the middle of the seqs that are left.
func (d *check) next() task {
	switch {
	case d.low < d.high:
		d.at = d.high
		if !d.top {
			d.at = d.low + (d.high-d.low+1)/2
		}
		d.top = false
		return readStored
	case !d.any && !d.probe && d.known > 0:
		d.probe, d.at = true, d.known
		return askServer
	}
	d.conclude()
	return decided
}

// read takes the stored entries of the next window.
func (d *check) read(entries []pim.Entry) task {
	d.any = d.any || len(entries) > 0
	if n := len(entries); n > 0 {
		last := entries[n-1].Seq
		entries = slices.DeleteFunc(entries, func(s pim.Entry) bool { return s.Seq <= d.low || s.Seq+d.page <= last })
	}
	if len(entries) == 0 {
		d.low = d.at
		return d.next()
	}
	d.stored, d.found, d.from = entries, nil, 0
	return askServer
}

// asks reports whether the server's answer is needed, or under way.
func (d *check) asks() bool { return len(d.stored) > 0 || d.probe }

// ask begins to ask the server, and returns the first and last seq that are asked for. What
// the server has answered so far, if anything, is void.
func (d *check) ask() (first, last pim.Seq) {
	d.found, d.from = nil, 0
	if d.probe {
		return d.at, d.at
	}
	return d.stored[0].Seq, d.stored[len(d.stored)-1].Seq
}

// take takes one frame of the server's answer.
func (d *check) take(entries []pim.Entry, from, to, newest, front pim.Seq) {
	d.newest, d.front = newest, min(front, newest+1)
	if from > to || len(d.found) > pim.MaxPageEntries {
		return
	}
	d.found = append(d.found, entries...)
	if d.from == 0 || from < d.from {
		d.from = from
	}
}

// hear takes note of a seq that the server has.
func (d *check) hear(seq pim.Seq) { d.heard = max(d.heard, seq) }

// answered goes on when the server's answer is complete. If believing is set, the server's
// store is taken to be the one that it was, and a command of the own log that is missing
// may be one that a pull leaves out.
func (d *check) answered(believing bool) task {
	if d.probe {
		d.lost = d.newest < d.known
		d.same = pim.Entry{Seq: min(d.newest, d.known)}
		return decided
	}
	if d.leaveGone(); len(d.stored) == 0 { // what the device has up to here, the server had
		d.low, d.found = d.at, nil
		return d.next()
	}
	last := len(d.stored) - 1
	leftOut := d.own && believing && d.leftOut()
	switch i := d.common(); {
	case i == last:
		d.same, d.low = d.stored[i], d.at
	case i >= 0 && leftOut:
		d.low = d.high
	case i >= 0:
		d.same, d.lost = d.stored[i], true
		d.low, d.high = d.same.Seq, d.same.Seq
	case leftOut:
		d.low = d.high
	default:
		d.lost, d.high = true, max(d.from, d.stored[0].Seq)-1
		if d.newest < d.high {
			d.high, d.top = d.newest, true
		}
	}
	d.stored, d.found = nil, nil
	return d.next()
}

// leaveGone leaves the entries before the front out of the present window.
func (d *check) leaveGone() {
	n, _ := slices.BinarySearchFunc(d.stored, d.front, func(s pim.Entry, front pim.Seq) int { return cmp.Compare(s.Seq, front) })
	if n == 0 {
		return
	}
	if last := d.stored[n-1]; last.Seq > d.gone.Seq {
		d.gone = last
	}
	d.stored = d.stored[n:]
}

// conclude ends the comparison of a conversation whose front was trimmed: the seqs before the
// front are taken to be the same, as far as the server has them.
func (d *check) conclude() {
	if d.gone.Seq == 0 || d.same.Seq >= d.front {
		return
	}
	d.lost = d.lost || d.newest < d.known
	if at := min(d.front-1, d.newest, d.known); at > d.same.Seq {
		d.same = pim.Entry{Seq: at, Count: d.gone.Count}
	}
}

// leftOut reports whether the last stored command of the own log may be missing on the
// server only because it was superseded.
func (d *check) leftOut() bool {
	last := d.stored[len(d.stored)-1].Seq
	return d.newest > last && !slices.ContainsFunc(d.found, func(f pim.Entry) bool { return f.Seq == last })
}

// common returns the index of the last stored entry that the server has, -1 for none.
func (d *check) common() int {
	for i := len(d.stored) - 1; i >= 0; i-- {
		if slices.ContainsFunc(d.found, func(f pim.Entry) bool { return sameEntry(&f, &d.stored[i]) }) {
			return i
		}
	}
	return -1
}

// nothing decides that the server has nothing of the conversation.
func (d *check) nothing() { d.lost, d.same, d.newest, d.heard = true, pim.Entry{}, 0, 0 }

// putOff decides that nothing is lost, because the server can't be asked at present.
func (d *check) putOff() { d.lost, d.newest = false, d.known }

// sameEntry reports whether a stored entry and the server's are one and the same. All
// times are compared: an entry that was lost and sent again may have the same server
// time as before, if that was held because the writer's clock was set back.
func sameEntry(a, b *pim.Entry) bool {
	return a.Seq == b.Seq && a.ClientID == b.ClientID && a.Sender == b.Sender && a.Server == b.Server &&
		a.Ahead == b.Ahead && a.Order == b.Order && a.Local == b.Local && a.Anchor == b.Anchor && a.Count == b.Count
}
