package replay

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// reference is the log as the acknowledgements describe it, and what follows
// from it by the rules, worked out here without the server's code.
type reference struct {
	steps  []placed // by seq: steps[i] is seq i+1, if ack.Seq says so
	first  []pim.UserID
	anchor map[pim.Seq]pim.Seq
}

func (r *run) reference() *reference {
	r.mu.Lock()
	defer r.mu.Unlock()
	ref := &reference{steps: slices.Clone(r.steps), first: append([]pim.UserID{owner}, r.script.first...)}
	for n := range r.config.Lurkers {
		ref.first = append(ref.first, lurker(n))
	}
	slices.SortFunc(ref.steps, func(a, b placed) int { return int(a.ack.Seq) - int(b.ack.Seq) })
	return ref
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

// check pulls as every member and compares with the reference, and so what was
// handed over.
func (r *run) check(ctx context.Context, report *Report) error {
	ref := r.reference()
	f := &findings{report: report}
	ref.checkAcks(f)
	expected := ref.expected(r.users())
	pulled, err := r.pullAll(ctx)
	if err != nil {
		return err
	}
	ref.anchor = anchors(pulled[owner])
	var latency []time.Duration
	for u, m := range r.members {
		m.mu.Lock()
		handed := slices.DeleteFunc(m.handed, func(e pim.Entry) bool { return e.Conversation != r.group })
		latency = append(latency, m.latency...)
		m.mu.Unlock()
		report.Deliveries += len(handed)
		report.ExpectedDeliveries += len(expected[u])
		ref.compare(f, u, "was handed", expected[u], handed)
		ref.compare(f, u, "pulled", expected[u], pulled[u])
	}
	for _, s := range ref.steps {
		if s.kind == pim.EntryMessage {
			report.Messages++
		}
	}
	report.AckP50, report.AckP99 = percentile(r.acks, 50), percentile(r.acks, 99)
	report.DeliveryP50, report.DeliveryP99 = percentile(latency, 50), percentile(latency, 99)
	return nil
}

func (r *run) pullAll(ctx context.Context) (map[pim.UserID][]pim.Entry, error) {
	var mu sync.Mutex
	all := make(map[pim.UserID][]pim.Entry, len(r.members))
	var wg sync.WaitGroup
	places := make(chan struct{}, pulling)
	for u, m := range r.members {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			entries, err := m.pull(ctx, r.group)
			if err != nil {
				r.note(fmt.Errorf("pull as %s: %w", u, err))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[u] = entries
		})
	}
	wg.Wait()
	return all, r.firstError()
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

// checkAcks checks that the acknowledgements name the seqs 1 … n, each once.
func (ref *reference) checkAcks(f *findings) {
	next := pim.Seq(1)
	for _, s := range ref.steps {
		switch {
		case s.ack.Seq < next:
			f.add(&f.report.Doubled, "seq %d was acknowledged to two messages", s.ack.Seq)
		case s.ack.Seq > next:
			// Something stands in the log that nobody sent, or was sent once and
			// stands there twice.
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

// compareEntry checks that an entry is the one acknowledged at its seq, and
// stands at its place.
func (ref *reference) compareEntry(f *findings, u pim.UserID, how string, e *pim.Entry) {
	i, ok := slices.BinarySearchFunc(ref.steps, e.Seq, func(s placed, seq pim.Seq) int { return int(s.ack.Seq) - int(seq) })
	if !ok {
		f.add(&f.report.Doubled, "%s %s seq %d, which nobody sent", u, how, e.Seq)
		return
	}
	s := &ref.steps[i]
	if e.ClientID != s.id || e.Kind != s.kind || s.kind == pim.EntryMessage && (e.Sender != s.user || !bytes.Equal(e.Payload, []byte(s.text))) {
		f.add(&f.report.Lost, "%s %s another entry at seq %d than was acknowledged", u, how, e.Seq)
	}
	if e.Anchor != ref.anchor[e.Seq] || e.Anchor != s.ack.Anchor || e.Server != s.ack.Server {
		f.add(&f.report.Misordered, "%s %s seq %d with anchor %d, the rule gives %d", u, how, e.Seq, e.Anchor, ref.anchor[e.Seq])
	}
}

// anchors works out every entry's anchor from the rule as it is written: the
// smallest seq among the sender's earlier entries whose clamped local time is
// greater.
func anchors(log []pim.Entry) map[pim.Seq]pim.Seq {
	const window, slack = 180_000, 1_000
	clamped := func(e *pim.Entry) int64 {
		local, server := int64(e.Local), int64(e.Server)
		return min(max(local, server-window), server+slack)
	}
	rule := make(map[pim.Seq]pim.Seq, len(log))
	for i := range log {
		rule[log[i].Seq] = log[i].Seq
		for j := range log[:i] {
			if log[j].Sender == log[i].Sender && clamped(&log[j]) > clamped(&log[i]) {
				rule[log[i].Seq] = log[j].Seq
				break
			}
		}
	}
	return rule
}

// percentile returns the p-th percentile of d in milliseconds, 0 if d is empty.
func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[min(len(d)-1, len(d)*p/100)]) / float64(time.Millisecond)
}
