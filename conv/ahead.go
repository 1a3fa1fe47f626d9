package conv

import (
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A batch ends where a request needs a look-up, and messages that have waited for seconds need one: so do those that
// were sent before, since their answers are in the log. If each was looked up by itself, each would be a batch with an
// fsync and pushes of its own. Those behind it would wait still longer, be sent again meanwhile, and need look-ups for
// that. So a look-up for one request looks ahead, and calls the store as often for all of them as for one.

const (
	// aheadMost is how many requests a look-up looks ahead.
	aheadMost = 256
	// aheadReads is how many pieces of the log it reads for those that have an entry, each of one page at most.
	aheadReads = 8
	// aheadGap is how many entries may lie between two that are read in one piece.
	aheadGap = 32
)

// ahead returns those of the requests behind the first one whose client message IDs are to be looked up, or whose entries
// are to be read.
func (m *machine) ahead() (some []*Request) {
	for _, r := range m.waiting[1:min(len(m.waiting), 1+aheadMost)] {
		if r.findings == nil && (m.live.mayRepeat(r) || m.live.remembered(r)) {
			some = append(some, r)
		}
	}
	return some
}

// remembered reports whether an entry in the durable part of the log is known to have the client message ID of r.
func (l *live) remembered(r *Request) bool {
	seq := l.ids.Seq(r.ClientID)
	return 0 < seq && seq <= l.durable
}

// lookUpTogether carries out the look-up l for one request, and looks ahead.
func (w *Writers) lookUpTogether(ctx context.Context, l *lookup) {
	state, r := l.machine.live, l.request
	ids := state.searchIDs(w.store)
	strange := make([]pim.ClientMessageID, 0, 1+len(l.ahead))
	for _, some := range slices.Concat([]*Request{r}, l.ahead) {
		strange = append(strange, some.ClientID)
	}
	_ = ids.Foresee(ctx, strange) // if it fails, each is looked up by itself, and the request is told why
	f := w.lookUpFor(ctx, state, ids, r, &l.view)
	r.findings = &f
	if f.err == nil {
		w.readAhead(ctx, l, state.lookUpAhead(ctx, ids, l.ahead))
	}
}

// lookUpAhead looks up the client message IDs of requests that wait behind the one for which ids was made. It notes that
// no entry has an ID, and returns those of which an entry in the state has it, by its seq. A request whose look-up fails, or whose entry the
// state does not have, gets a look-up of its own. ids bounds what is read, however many requests there are.
func (l *live) lookUpAhead(ctx context.Context, ids *dedup.Search, requests []*Request) map[pim.Seq][]*Request {
	found := make(map[pim.Seq][]*Request)
	for _, r := range requests {
		seq := l.ids.Seq(r.ClientID) // a look-up before may have made l.ids remember more
		if seq == 0 && !l.mayRepeat(r) {
			continue
		}
		if seq == 0 {
			var err error
			if seq, err = l.lookUpID(ctx, ids, r); err != nil {
				break
			}
		}
		switch {
		case seq == 0:
			r.absentUpTo = l.last
		case seq <= l.durable:
			found[seq] = append(found[seq], r)
		}
	}
	return found
}

// readAhead reads the entries of requests that were sent before, by their seqs, with one call of the store. What it does not get to read, what
// is trimmed, and what is another sender's gets a look-up of its own.
func (w *Writers) readAhead(ctx context.Context, l *lookup, found map[pim.Seq][]*Request) {
	seqs := make([]pim.Seq, 0, len(found))
	for seq := range found {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	var reads []store.Read
	for _, seq := range seqs {
		n := len(reads)
		switch {
		case n > 0 && seq-reads[n-1].To <= aheadGap:
			reads[n-1].To = seq
		case n < aheadReads:
			reads = append(reads, store.Read{Log: inbox.Entries(l.machine.id), From: seq, To: seq})
		}
	}
	if len(reads) == 0 {
		return
	}
	for i := range reads {
		r := &reads[i]
		r.Limit = store.Limit{Records: int(r.To - r.From + 1), Bytes: pim.MaxPageBytes}
	}
	if w.store.Read(ctx, reads) != nil {
		return
	}
	for i := range reads {
		entries, _, err := parseRecords(l.machine.id, reads[i].First, reads[i].Records, nil)
		if err != nil {
			return
		}
		for i := range entries {
			e := &entries[i]
			for _, r := range found[e.Seq] {
				if e.Sender == r.Sender && e.ClientID == r.ClientID {
					r.findings = &findings{first: e.Seq, entry: e, view: l.view}
				}
			}
		}
	}
}
