package cql

import (
	"context"
	"errors"
	"sync"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
)

// head is the head of a part, or of a log that has no part yet.
type head struct {
	part   int64
	last   pim.Seq // the seq of the log's last record, when this part was its newest
	fence  uint64
	front  pim.Seq // the seq of the first record that was not trimmed
	swept  int64   // the parts before this one are empty
	rev    int64   // how many erasures and trims the part has had
	newest int64   // in part 0: a part that was opened, perhaps not the last one
}

// end is where a log ends: the head of its newest part.
type end struct {
	head
	exists bool // the log has a part
	closed bool // the part is closed, and nobody has opened the next one
}

// partOf returns the part of the append that follows seq after.
func (s *Store) partOf(after pim.Seq) int64 { return int64(uint64(after) / uint64(s.partSeqs)) }

// bound returns the seq from which on a head's last closes part.
func (s *Store) bound(part int64) int64 { return (part + 1) * s.partSeqs }

const selectHead = `SELECT last, fence, front, swept, rev, newest FROM log WHERE log = ? AND part = ? AND last_seq = ` + headSeq

// head reads the head of a part. ok is false if the part was never opened.
func (s *Store) head(ctx context.Context, log []byte, part int64) (h head, ok bool, err error) {
	var last, fence, front int64
	err = s.again(ctx, func() error {
		q := s.session.Query(selectHead, log, part).Consistency(gocql.Serial)
		return q.ScanContext(ctx, &last, &fence, &front, &h.swept, &h.rev, &h.newest)
	})
	if errors.Is(err, gocql.ErrNotFound) {
		return head{}, false, nil
	}
	h.part, h.last, h.fence, h.front = part, pim.Seq(last), uint64(fence), pim.Seq(front)
	return h, err == nil, err
}

// end returns where a log ends.
func (s *Store) end(ctx context.Context, log []byte) (end, error) {
	part := s.newest.of(log)
	e := end{head: head{front: 1}}
	for {
		h, ok, err := s.head(ctx, log, part)
		if err != nil {
			return end{}, err
		}
		if !ok {
			// Only the part after a closed one, or part 0, may be missing.
			e.closed = e.exists
			return e, nil
		}
		e = end{head: h, exists: true}
		s.newest.saw(log, part)
		next := max(h.newest, s.partOf(h.last))
		if next <= part {
			return e, nil
		}
		part = next
	}
}

const (
	openPart = `INSERT INTO log (log, part, last_seq, last, fence, front, swept, rev) VALUES (?, ?, ` + headSeq + `, ?, ?, ?, ?, 0) IF NOT EXISTS`

	tellNewest = `UPDATE log SET newest = ? WHERE log = ? AND part = 0 AND last_seq = ` + headSeq + ` IF newest < ?`
)

// openEnd returns where a log ends, after it has opened the next part if the newest one is closed.
func (s *Store) openEnd(ctx context.Context, log []byte) (end, error) {
	for {
		e, err := s.end(ctx, log)
		if err != nil || !e.closed {
			return e, err
		}
		next := s.partOf(e.last)
		b := s.batch().Query(openPart, log, next, int64(e.last), int64(e.fence), int64(e.front), e.swept)
		if _, err := s.transact(ctx, b); err != nil {
			return end{}, err
		}
		// This only saves later readers a walk over all parts.
		_, _ = s.transact(ctx, s.batch().Query(tellNewest, next, log, next))
	}
}

const (
	firstRaise = `UPDATE log SET last = 0, fence = 1, front = 1, swept = 0, rev = 0, newest = 0
		WHERE log = ? AND part = 0 AND last_seq = ` + headSeq + ` IF last = null`

	nextRaise = `UPDATE log SET fence = ? WHERE log = ? AND part = ? AND last_seq = ` + headSeq + ` IF fence = ? AND last < ?`
)

// raise raises a log's fence. Another raise that comes after this one has begun will do as well.
func (s *Store) raise(ctx context.Context, log []byte) error {
	begun, before := false, uint64(0)
	return s.until(ctx, func() (over bool, err error) {
		e, err := s.openEnd(ctx, log)
		if err != nil {
			return false, err
		}
		if !begun {
			begun, before = true, e.fence
		}
		if e.fence > before {
			return true, nil
		}
		if !e.exists {
			return s.transact(ctx, s.batch().Query(firstRaise, log))
		}
		return s.transact(ctx, s.batch().Query(nextRaise, int64(before+1), log, e.part, int64(before), s.bound(e.part)))
	})
}

// newest knows a part of each long log that was opened, the newest that this process has seen.
type newest struct {
	mu    sync.Mutex
	parts map[string]int64
}

// mostLogs bounds the logs that newest knows. It forgets any of them, whose next reader begins with
// part 0.
const mostLogs = 1 << 16

func (n *newest) of(log []byte) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.parts[string(log)]
}

func (n *newest) saw(log []byte, part int64) {
	if part == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.parts == nil {
		n.parts = map[string]int64{}
	}
	if known, ok := n.parts[string(log)]; !ok && len(n.parts) >= mostLogs {
		for any := range n.parts {
			delete(n.parts, any)
			break
		}
	} else if known >= part {
		return
	}
	n.parts[string(log)] = part
}
