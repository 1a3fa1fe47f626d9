package retain_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/retain"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

const notice = day

// noticed plays a history of 12 days of two chats on a node with a Sweeper: mallory says on the 12th
// day that both keep messages for seven days, and the other takes it back in one of them an hour
// before the notice ends. It returns what is wrong: a message that is gone before it may go, or is
// there long after that.
func noticed(n *node, s *retain.Sweeper) error {
	defer s.Close()
	suffers, objects := pim.Direct("mallory", "alice"), pim.Direct("mallory", "bob")
	both := []pim.ConversationID{suffers, objects}
	for range 12 {
		for _, c := range both {
			n.sends(c, "mallory")
		}
		time.Sleep(day)
	}
	for _, c := range both {
		n.retains(c, "mallory", 7*day)
	}
	for hour := range int(notice / time.Hour) {
		for _, c := range both {
			if front := n.front(c); front != 1 {
				return fmt.Errorf("%s begins at %d, %d hours after the retain", c, front, hour)
			}
		}
		if hour == 23 {
			n.retains(objects, "bob", 0)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
	}
	time.Sleep(late)
	synctest.Wait()
	for hour := 0; hour < 8*24; hour += 6 {
		if err := n.check(suffers, 7*day); err != nil {
			return fmt.Errorf("%d hours after the notice: %w", hour, err)
		}
		if front := n.front(objects); front != 1 {
			return fmt.Errorf("what bob wants to keep begins at %d", front)
		}
		time.Sleep(6 * time.Hour)
		synctest.Wait()
	}
	return nil
}

// What one side of a chat says about the messages that are there holds a day later, and not at all
// if it is taken back meanwhile. What the server's operator says holds at once.
func TestAShorterTimeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newCareful(t, storetest.NewMemory(), notice)
		if err := noticed(n, retain.New(n.options(0))); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := newCareful(t, storetest.NewMemory(), notice)
		c := n.sends(pim.Direct("alice", "bob"), "alice")
		time.Sleep(20 * day)
		n.sends(pim.Direct("alice", "carol"), "alice") // a store that is old and quiet tells no present time
		time.Sleep(time.Minute)
		s := retain.New(n.options(10 * day))
		defer s.Close()
		time.Sleep(late)
		synctest.Wait()
		if n.front(c) != 2 {
			t.Error("the server keeps messages for ten days, and one of twenty days is there")
		}
	})
}

// A notice is over by the clock that can't be set ahead.
func TestANoticeAndAClockThatIsSetAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newCareful(t, storetest.NewMemory(), notice)
		s := retain.New(n.options(0))
		defer s.Close()
		c := n.sends(pim.Direct("alice", "bob"), "alice")
		time.Sleep(20 * day)
		n.retains(c, "alice", 7*day)
		n.skew.Store(int64(365 * day))
		time.Sleep(11 * time.Hour) // this clock may go twice as fast
		synctest.Wait()
		n.skew.Store(0)
		if n.front(c) != 1 {
			t.Error("a message is gone before the notice is over")
		}
		time.Sleep(13*time.Hour + late)
		synctest.Wait()
		if n.front(c) != 2 {
			t.Error("the notice is over, and a message of twenty days is there")
		}
	})
}

// Nodes that are broken on purpose remove what they should not, or not what they should, and the
// check of TestAShorterTimeWaits tells.
func TestBrokenNoticesAreCaught(t *testing.T) {
	said := func(change func(*pim.Retention)) func(*testing.T) *node {
		return func(t *testing.T) *node {
			return newCareful(t, &rewriter{storetest.NewMemory(), change}, notice)
		}
	}
	for name, broken := range map[string]func(*testing.T) *node{
		"no notice":            func(t *testing.T) *node { return newCareful(t, storetest.NewMemory(), 0) },
		"hours too short":      said(func(r *pim.Retention) { r.From -= millis(4 * time.Hour) }), // passes are up to 90 minutes apart
		"never over":           said(func(r *pim.Retention) { r.From += millis(1000 * day) }),
		"what held is unknown": said(func(r *pim.Retention) { r.Before = millis(10 * day) }),
		"nothing holds":        said(func(r *pim.Retention) { r.Age = 0 }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := broken(t)
				if noticed(n, retain.New(n.options(0))) == nil {
					t.Error("nothing tells")
				}
			})
		})
	}
}

func millis(d time.Duration) pim.Millis { return pim.Millis(d.Milliseconds()) }

// rewriter is a store that changes retentions that wait for their notice.
type rewriter struct {
	store.Store
	change func(*pim.Retention)
}

func (s *rewriter) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		for i, cell := range w.Cells {
			c := pim.ConversationID(cell.Key)
			if c.Validate() != nil || cell.Partition != inbox.Retained(inbox.LogsOf(c)) {
				continue
			}
			if r, err := inbox.ParseRetainCell(cell.Cell); err == nil && r.From != 0 {
				s.change(&r)
				w.Cells[i] = inbox.RetainCells(c, pim.Seq(cell.Version), r)[0]
			}
		}
	}
	s.Store.Begin(ctx, writes, d, done)
}
