package replay

import (
	"fmt"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
)

// reference is the log as the acknowledgements describe it, and what follows
// from it by the rules, worked out without the server's code.
type reference struct {
	steps  []placed // sorted by ack.Seq; if the acknowledgements are sound, steps[i] has seq i+1
	first  []pim.UserID
	anchor map[pim.Seq]pim.Seq
	// gone are the messages that were recalled or erased.
	gone map[pim.Seq]bool
}

func (r *run) reference() *reference {
	r.mu.Lock()
	defer r.mu.Unlock()
	ref := &reference{steps: slices.Clone(r.steps), first: append([]pim.UserID{owner}, r.script.first...), gone: make(map[pim.Seq]bool)}
	for n := range r.config.Lurkers {
		ref.first = append(ref.first, lurker(n))
	}
	slices.SortFunc(ref.steps, func(a, b placed) int { return int(a.ack.Seq) - int(b.ack.Seq) })
	for _, s := range ref.steps {
		switch s.kind {
		case pim.EntryRecall:
			ref.gone[s.refers] = true
		case pim.EntryErase:
			for _, m := range ref.steps {
				if m.user == s.user && m.ack.Seq <= s.refers {
					ref.gone[m.ack.Seq] = true
				}
			}
		}
	}
	return ref
}

// leaves reports whether e has a payload that was recalled or erased.
func (ref *reference) leaves(e pim.Entry) bool {
	seq := e.Seq
	if e.Kind == pim.EntryEdit {
		seq = e.Refers
	}
	return len(e.Payload) > 0 && (e.Kind == pim.EntryMessage || e.Kind == pim.EntryEdit) && ref.gone[seq]
}

// expected returns the seqs of each user's membership: from the entry of its
// joining to that of its leaving.
func (ref *reference) expected(users []pim.UserID) map[pim.UserID][]pim.Seq {
	present := make(map[pim.UserID]bool, len(users))
	for _, u := range ref.first {
		present[u] = true
	}
	reads := make(map[pim.UserID][]pim.Seq, len(users))
	for _, s := range ref.steps {
		if s.kind == pim.EntryJoin {
			present[s.user] = true
		}
		for u := range present {
			reads[u] = append(reads[u], s.ack.Seq)
		}
		if s.kind == pim.EntryLeave {
			delete(present, s.user)
		}
	}
	return reads
}

// check compares what every member pulled, and what its devices were handed, with the
// reference, and lets the checker of the invariants judge the whole.
func (r *run) check(pulled map[pim.UserID][]pim.Entry, f *findings) {
	ref, report := r.reference(), f.report
	ref.checkAcks(f)
	expected := ref.expected(r.users())
	ref.anchor = imtest.Anchors(pulled[owner])
	var latency []time.Duration
	for u := range r.members {
		ref.compare(f, u, "pulled", expected[u], pulled[u])
		r.history.Final(u, r.group, pulled[u])
	}
	for _, m := range r.devices() {
		u := m.user
		handed, at := m.delivered()
		latency = r.latencies(latency, u, handed, at)
		report.Deliveries += len(handed)
		report.ExpectedDeliveries += len(expected[u])
		ref.compare(f, u, "was handed", expected[u], handed)
		d := imtest.Device{User: u, Device: m.device}
		r.history.Opened(d, 0)
		r.history.HandedAll(d, 0, handed)
	}
	f.judge(imtest.Check(r.history))
	for _, s := range ref.steps {
		if s.kind == pim.EntryMessage {
			report.Messages++
		}
	}
	report.AckP50, report.AckP99 = percentile(r.acks, 50), percentile(r.acks, 99)
	report.DeliveryP50, report.DeliveryP99 = percentile(latency, 50), percentile(latency, 99)
}

// latencies appends, for each entry of handed, the time from its sending until u was
// handed it. Entries that u sent itself do not count; of the owner these are the joins
// and leaves.
func (r *run) latencies(to []time.Duration, u pim.UserID, handed []pim.Entry, at []time.Time) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range handed {
		if sent, ok := r.sent[handed[i].ClientID]; ok && handed[i].Sender != u {
			to = append(to, at[i].Sub(sent))
		}
	}
	return to
}

// findings counts what is wrong and keeps the first few in words.
type findings struct{ report *Report }

const maxFindings = 10

func (f *findings) add(counter *int, format string, args ...any) {
	*counter++
	if len(f.report.Findings) < maxFindings {
		f.report.Findings = append(f.report.Findings, fmt.Sprintf(format, args...))
	}
}

// judge takes in what the checker of the invariants has found. The checker sees the
// same entries as compare, so its violations count only if compare has found nothing:
// each as lost, doubled or misordered, whichever is nearest.
func (f *findings) judge(violations []imtest.Violation) {
	sound := f.report.Err() == nil
	for _, v := range violations {
		counter := new(int)
		if sound {
			switch v.Invariant {
			case "I2":
				counter = &f.report.Doubled
			case "I3", "I6", "I7":
				counter = &f.report.Misordered
			default:
				counter = &f.report.Lost
			}
		}
		f.add(counter, "%s", v)
	}
}

// checkAcks checks that the acknowledgements name the seqs 1 … n, each once.
func (ref *reference) checkAcks(f *findings) {
	next := pim.Seq(1)
	for _, s := range ref.steps {
		switch {
		case s.ack.Seq < next:
			f.add(&f.report.Doubled, "seq %d was acknowledged to two messages", s.ack.Seq)
		case s.ack.Seq > next:
			// The log has an entry that nobody sent, or one message twice.
			f.add(&f.report.Doubled, "seqs %d to %d were acknowledged to nobody", next, s.ack.Seq-1)
		}
		next = s.ack.Seq + 1
	}
}

// compare checks one member's entries, in the order they came, against the seqs
// expected.
func (ref *reference) compare(f *findings, u pim.UserID, how string, expected []pim.Seq, got []pim.Entry) {
	seen := make(map[pim.Seq]bool, len(got))
	ids := make(map[pim.ClientMessageID]bool, len(got))
	last := pim.Seq(0)
	for i := range got {
		e := &got[i]
		if seen[e.Seq] || ids[e.ClientID] {
			f.add(&f.report.Doubled, "%s %s seq %d, client message ID %s, twice", u, how, e.Seq, e.ClientID)
			continue
		}
		seen[e.Seq], ids[e.ClientID] = true, true
		if e.Seq < last {
			f.add(&f.report.Misordered, "%s %s seq %d behind %d", u, how, e.Seq, last)
		}
		last = max(last, e.Seq)
		ref.compareEntry(f, u, how, e)
	}
	for _, seq := range expected {
		if !seen[seq] {
			f.add(&f.report.Lost, "%s never %s seq %d", u, how, seq)
		}
		delete(seen, seq)
	}
	for seq := range seen {
		f.add(&f.report.Doubled, "%s %s seq %d, which is not of its membership", u, how, seq)
	}
}

// compareEntry checks that an entry is the one acknowledged at its seq, and that it has
// the anchor that the rule gives.
func (ref *reference) compareEntry(f *findings, u pim.UserID, how string, e *pim.Entry) {
	i, ok := slices.BinarySearchFunc(ref.steps, e.Seq, func(s placed, seq pim.Seq) int { return int(s.ack.Seq) - int(seq) })
	if !ok {
		f.add(&f.report.Doubled, "%s %s seq %d, which nobody sent", u, how, e.Seq)
		return
	}
	s := &ref.steps[i]
	if e.ClientID != s.id || e.Kind != s.kind || !ref.says(e, s) {
		f.add(&f.report.Lost, "%s %s another entry at seq %d than was acknowledged", u, how, e.Seq)
	}
	if e.Anchor != ref.anchor[e.Seq] || e.Anchor != s.ack.Anchor || e.Server != s.ack.Server {
		f.add(&f.report.Misordered, "%s %s seq %d with anchor %d, the rule gives %d", u, how, e.Seq, e.Anchor, ref.anchor[e.Seq])
	}
}

// says reports whether e says what s does.
func (ref *reference) says(e *pim.Entry, s *placed) bool {
	text := string(e.Payload)
	switch s.kind {
	case pim.EntryCreate, pim.EntryJoin, pim.EntryLeave:
		return true // the checker of the invariants compares the members
	case pim.EntryReaction:
		text = e.Reaction
	}
	if e.Erased && (s.kind == pim.EntryMessage && ref.gone[e.Seq] || s.kind == pim.EntryEdit && ref.gone[e.Refers]) {
		text = s.text
	}
	named := s.mention == "" && len(e.Mentions) == 0 || len(e.Mentions) == 1 && e.Mentions[0].User == s.mention
	return named && e.MentionAll == s.all && e.Sender == s.user && text == s.text && e.Refers == s.refers && e.Removed == s.removed
}

// percentile returns the p-th percentile of d in milliseconds, 0 if d is empty.
func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[min(len(d)-1, len(d)*p/100)]) / float64(time.Millisecond)
}
