package retain_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/retain"
	"github.com/pim-im/pim/store/storetest"
)

// A wall clock that is five years ahead for four days makes an entry four days older than it is, and
// no more, also if the node is started meanwhile.
func TestAClockThatIsSetAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, storetest.NewMemory())
		s := retain.New(n.options(10 * day))
		time.Sleep(day)
		c := n.sends(pim.Direct("alice", "bob"), "alice")
		n.skew.Store(int64(5 * 365 * day))
		time.Sleep(2 * day)
		synctest.Wait()
		s.Close()
		s = retain.New(n.options(10 * day))
		time.Sleep(2 * day)
		synctest.Wait()
		n.skew.Store(0)
		if n.front(c) != 1 {
			t.Error("a message is gone that is a few days old")
		}
		time.Sleep(6*day + late)
		synctest.Wait()
		s.Close()
		if n.front(c) != 2 {
			t.Error("a message is still there after ten days")
		}
	})
}

// At the first pass over a store the wall clock is five years ahead, since the process started.
// Messages that the process has taken meanwhile have such times, too. What was written before stays,
// and when the clock is right again, it leaves at its time.
func TestAClockThatIsAheadAtTheFirstPass(t *testing.T) {
	for name, busy := range map[string]bool{"quiet": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, storetest.NewMemory())
				old := n.sends(pim.Direct("alice", "bob"), "alice")
				time.Sleep(6 * day)
				var young []pim.ConversationID
				for i := range 300 { // more than a page
					young = append(young, n.sends(pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), "alice"))
				}
				n.skew.Store(int64(5 * 365 * day))
				s := retain.New(n.options(10 * day))
				defer s.Close()
				if busy {
					n.sends(pim.Direct("alice", "carol"), "alice")
					n.sends(young[0], "alice")
				}
				time.Sleep(day)
				synctest.Wait()
				for _, c := range append(young, old) {
					if n.front(c) != 1 {
						t.Fatalf("%s begins at %d", c, n.front(c))
					}
				}
				n.skew.Store(0)
				time.Sleep(3*day + late)
				synctest.Wait()
				if n.front(old) != 2 || n.front(young[1]) != 1 {
					t.Errorf("after ten days the old message is there, or a young one is gone: %d, %d", n.front(old), n.front(young[1]))
				}
				time.Sleep(6 * day)
				synctest.Wait()
				if n.front(young[1]) != 2 {
					t.Error("a message is still there after ten days")
				}
			})
		})
	}
}
