package inbox

import (
	"context"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// A group's audience is read from the cells of all who are or ever were its members. So that those
// who ask do not take the machine, those who ask at the same time share one reading, which begins
// after they have asked, and the readings for one group take a part of one CPU at most.

const (
	// audienceRest is for how long no audience of a group is read after one was, as a multiple of
	// the time that it took.
	audienceRest = 4
	// keptRests is how many groups are remembered before those that have rested are forgotten.
	keptRests = 1024
)

// audiences are the readings under way, and when the next may begin, by group. The zero value is
// ready for use, and safe for concurrent use.
type audiences struct {
	mu sync.Mutex
	of map[pim.ConversationID]*readings
}

// readings are those of one group.
type readings struct {
	turn chan struct{} // holds one element while nobody reads
	next *reading      // has not begun; nil if nobody waits for one
	rest time.Time     // nobody reads before; owned by who has the turn
	used int           // by how many; guarded by audiences.mu
}

// reading is one reading of an audience, for all who asked before it began.
type reading struct {
	done     chan struct{}
	audience audience
	err      error
	left     bool // by the one who was to carry it out, who waits no more
}

// share returns what read returns, for the group c: of a call of this or another caller that began
// after share was called.
func (s *audiences) share(ctx context.Context, c pim.ConversationID, rest int, read func() (audience, error)) (audience, error) {
	group := s.enter(c)
	defer s.leave(group)
	for {
		s.mu.Lock()
		r := group.next
		mine := r == nil
		if mine {
			r = &reading{done: make(chan struct{})}
			group.next = r
		}
		s.mu.Unlock()
		if mine {
			s.carryOut(ctx, group, r, rest, read)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !r.left || ctx.Err() != nil {
			return r.audience, r.err
		}
	}
}

// carryOut carries out r, the next reading of group, when it is its turn.
func (s *audiences) carryOut(ctx context.Context, group *readings, r *reading, rest int, read func() (audience, error)) {
	defer close(r.done)
	begin := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		group.next = nil
	}
	select {
	case <-group.turn:
	case <-ctx.Done():
		begin()
		r.left, r.err = true, ctx.Err()
		return
	}
	defer func() { group.turn <- struct{}{} }()
	if wait := time.Until(group.rest); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	begin()
	if r.err = ctx.Err(); r.err != nil {
		r.left = true
		return
	}
	begun := time.Now()
	r.audience, r.err = read()
	r.left = r.err != nil && ctx.Err() != nil
	ended := time.Now()
	group.rest = ended.Add(time.Duration(rest) * ended.Sub(begun))
}

func (s *audiences) enter(c pim.ConversationID) *readings {
	s.mu.Lock()
	defer s.mu.Unlock()
	group := s.of[c]
	if group == nil {
		if s.of == nil {
			s.of = make(map[pim.ConversationID]*readings)
		}
		if len(s.of) >= keptRests {
			s.forget(time.Now())
		}
		group = &readings{turn: make(chan struct{}, 1)}
		group.turn <- struct{}{}
		s.of[c] = group
	}
	group.used++
	return group
}

func (s *audiences) leave(group *readings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	group.used--
}

// forget forgets the groups that nobody uses and that have rested.
func (s *audiences) forget(now time.Time) {
	for c, group := range s.of {
		if group.used == 0 && group.rest.Before(now) {
			delete(s.of, c)
		}
	}
}
