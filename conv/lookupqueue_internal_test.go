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
		q := lookupQueue{most: lookupsUnderWay, each: lookupShare}
		var underWay []*lookup
		waiting, busy := map[pim.UserID][]*lookup{}, map[pim.UserID]int{}
		begin := func() {
			for l := q.begin(); l != nil; l = q.begin() {
				if busy[l.request.Sender]++; busy[l.request.Sender] > lookupShare {
					t.Fatalf("%d look-ups of %s are under way", busy[l.request.Sender], l.request.Sender)
				}
				if waiting[l.request.Sender][0] != l {
					t.Fatalf("a look-up of %s begins before its turn", l.request.Sender)
				}
				waiting[l.request.Sender] = waiting[l.request.Sender][1:]
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
			busy[l.request.Sender]--
			q.end(l)
			begin()
		}
		users := rapid.IntRange(1, 80).Draw(t, "users")
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			if len(underWay) > 0 && rapid.IntRange(0, 2).Draw(t, "end") == 0 {
				end(rapid.IntRange(0, len(underWay)-1).Draw(t, "which"))
				continue
			}
			u := pim.UserID(fmt.Sprint("u", rapid.IntRange(1, users).Draw(t, "user")))
			l := &lookup{request: &Request{Sender: u}}
			if full := len(waiting[u]) == lookupsHeld && busy[u] == lookupShare; q.add(l) == full {
				t.Fatalf("%d of %s wait, and one more is taken: %v", len(waiting[u]), u, !full)
			} else if !full {
				waiting[u] = append(waiting[u], l)
			}
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

// What was looked up while nothing could be appended, or before the clock was set, is looked
// up again before an entry follows from it.
func TestOutdatedLookUps(t *testing.T) {
	shut := pim.Errorf(pim.KindClockUnhealthy, "the clock is off")
	for name, c := range map[string]struct {
		then, now view
		first     pim.Seq
		err       error
		want      bool
	}{
		"the same":                            {},
		"opened since":                        {then: view{closed: shut}, want: true},
		"still shut":                          {then: view{closed: shut}, now: view{closed: shut}},
		"set since":                           {now: view{set: 5}, want: true},
		"opened since, but there is an entry": {then: view{closed: shut}, first: 7},
		"opened since, but it failed":         {then: view{closed: shut}, err: shut},
	} {
		f := findings{view: c.then, first: c.first, err: c.err}
		if got := f.outdated(&c.now); got != c.want {
			t.Errorf("%s: outdated is %v", name, got)
		}
	}
}
