package avalanche

import "time"

// tick is the grain of time: everything that happens does so at a full millisecond, and what is due between two at the later one.
const tick = time.Millisecond

// kind is what happens to a client, or what of it happens at a site.
type kind uint8

const (
	wakes      kind = iota // the engine's deadline
	breaks                 // the client notices that its connection is gone
	arrives                // an attempt reaches a site
	fails                  // an attempt was closed without a word
	turnedAway             // an attempt was answered with a time to come back, after milliseconds
	stands                 // TLS and the upgrade are through: the client hears of it
	greets                 // its Hello reaches the site
	welcomed               // Welcome reaches the client
	asks                   // a question reaches an LBS
	answered               // the client has the answer number
)

// event is one of these.
type event struct {
	next    int32 // of the same moment; or of those that are free
	client  int32
	attempt uint32 // of the client's; of asks, the number of the question
	number  uint32
	life    uint16 // of the site: what was under way when it died does not come
	site    uint8
	kind    kind
}

// due holds events by the moment at which they happen, until the end of a run: those that come later are not kept. Of one
// moment, the first that was planned comes first. It takes 8 bytes for each millisecond of the run and 20 for each event
// that waits.
type due struct {
	first, last []int32 // by moment; 0: none
	events      []event // from 1 on
	free        int32
}

func newDue(end time.Duration) *due {
	n := int(end/tick) + 1
	return &due{first: make([]int32, n), last: make([]int32, n), events: make([]event, 1)}
}

// moment returns the first moment that is not before at.
func moment(at time.Duration) int { return int((at + tick - 1) / tick) }

// add plans e for at. Of what comes after the end of the run nothing is kept.
func (d *due) add(at time.Duration, e event) {
	m := moment(at)
	if m >= len(d.first) {
		return
	}
	e.next = 0
	i := d.free
	if i != 0 {
		d.free = d.events[i].next
		d.events[i] = e
	} else {
		i = int32(len(d.events))
		d.events = append(d.events, e)
	}
	if d.last[m] == 0 {
		d.first[m] = i
	} else {
		d.events[d.last[m]].next = i
	}
	d.last[m] = i
}

// take returns the next event of a moment; ok is false if there is none any more.
func (d *due) take(m int) (e event, ok bool) {
	i := d.first[m]
	if i == 0 {
		return event{}, false
	}
	e = d.events[i]
	if d.first[m] = e.next; e.next == 0 {
		d.last[m] = 0
	}
	d.events[i].next = d.free
	d.free = i
	return e, true
}
