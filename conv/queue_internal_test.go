package conv

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// Look-ups come and end at random. No user has more under way than a share, each user's
// begin in their order, and none is forgotten.
func TestLookupQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q lookupQueue
		var underWay []*lookup
		waiting, busy := map[pim.UserID][]*lookup{}, map[pim.UserID]int{}
		begin := func() {
			for l := q.begin(); l != nil; l = q.begin() {
				if busy[l.user]++; busy[l.user] > lookupShare {
					t.Fatalf("%d look-ups of %s are under way", busy[l.user], l.user)
				}
				if waiting[l.user][0] != l {
					t.Fatalf("a look-up of %s begins before its turn", l.user)
				}
				waiting[l.user] = waiting[l.user][1:]
				underWay = append(underWay, l)
			}
			if len(underWay) > lookupsUnderWay {
				t.Fatalf("%d look-ups are under way", len(underWay))
			}
			for u, ls := range waiting { // whoever waits does so for a reason
				if len(ls) > 0 && busy[u] < lookupShare && len(underWay) < lookupsUnderWay {
					t.Fatalf("%s has %d look-ups under way and %d waiting", u, busy[u], len(ls))
				}
			}
		}
		end := func(i int) {
			l := underWay[i]
			underWay = append(underWay[:i], underWay[i+1:]...)
			busy[l.user]--
			q.end(l)
			begin()
		}
		users := rapid.IntRange(1, 80).Draw(t, "users")
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			if len(underWay) > 0 && rapid.IntRange(0, 2).Draw(t, "end") == 0 {
				end(rapid.IntRange(0, len(underWay)-1).Draw(t, "which"))
				continue
			}
			l := &lookup{user: pim.UserID(fmt.Sprint("u", rapid.IntRange(1, users).Draw(t, "user")))}
			waiting[l.user] = append(waiting[l.user], l)
			q.add(l)
			begin()
		}
		for len(underWay) > 0 {
			end(0)
		}
		for u, ls := range waiting {
			if len(ls) > 0 {
				t.Fatalf("%d look-ups of %s never began", len(ls), u)
			}
		}
		if len(q.share)+len(q.held)+len(q.next)+q.underWay > 0 {
			t.Fatalf("an empty queue holds %+v", q)
		}
	})
}
