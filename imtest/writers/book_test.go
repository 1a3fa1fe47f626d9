package writers

import (
	"fmt"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
)

// book is what happened in a run, as seen by the users: what they sent when, to which
// writer, and what they were told when. Moments count what happened.
type book struct {
	mu       sync.Mutex
	now      int
	requests []*request // in the order in which they were sent first
	pushes   []push
	stood    map[place]int // when a look at the store found an entry
}

// place is a seq of a conversation.
type place struct {
	conversation pim.ConversationID
	seq          pim.Seq
}

// request is something that a user wants, whatever number of times it is sent.
type request struct {
	conv.Request // as it is sent each time; Conversation is empty for a create
	conversation pim.ConversationID
	command      *pim.Command // of an EntryCommand
	trips        []*trip
}

// trip is one transmission of a request to a writer.
type trip struct {
	*request
	attempt uint32 // 1 for the first trip
	to      int    // the writer
	life    int    // of the writer: it begins a new one when it has been killed
	sent    int
	ended   int // the moment of the answer, or of the writer's death; 0 before that
	dead    bool
	told    Told
}

// Told is the answer to a request. Its name is exported for net/rpc.
type Told struct {
	Refused   bool
	Kind      pim.Kind // why
	Text      string
	Seq       pim.Seq
	Anchor    pim.Seq
	Count     uint64
	Server    pim.Millis
	Ahead     pim.Millis
	Order     pim.Millis
	Duplicate bool
	Payload   []byte
}

// push is an entry that a user was pushed.
type push struct {
	at    int
	user  pim.UserID
	entry pim.Entry
}

func newBook() *book { return &book{stood: make(map[place]int)} }

func toldBy(a *conv.Answer) Told {
	if a.Err != nil {
		return Told{Refused: true, Kind: pim.KindOf(a.Err), Text: a.Err.Error()}
	}
	return Told{
		Seq: a.Seq, Anchor: a.Anchor, Count: a.Count, Server: a.Server, Ahead: a.Ahead, Order: a.Order,
		Duplicate: a.Duplicate, Payload: append([]byte(nil), a.Payload...),
	}
}

// says returns the attempt that t names. When a person sends a failed message again it is 1 again
// (docs/protocol.md, section 5), so it does not tell that the message was never sent before.
func (t *trip) says() uint32 {
	if t.attempt%3 == 2 {
		return 1
	}
	return t.attempt
}

// accepted reports whether t was answered with the seq of its entry.
func (t *trip) accepted() bool { return t.ended != 0 && !t.dead && !t.told.Refused }

// refused reports whether t was refused for good: its client gives the request up.
func (t *trip) refused() bool {
	return t.ended != 0 && !t.dead && t.told.Refused && !t.told.Kind.Retryable()
}

// last reports whether all other trips of the request were over when t began.
func (t *trip) last() bool {
	return !slices.ContainsFunc(t.trips, func(o *trip) bool { return o != t && o.ended > t.sent })
}

// settled reports whether r has an answer that says what has become of it: its seq, or a
// refusal that no other trip can have overtaken.
func (r *request) settled() bool {
	return slices.ContainsFunc(r.trips, func(t *trip) bool { return t.accepted() || t.refused() && t.last() })
}

// send notes that r is sent, and returns its trip.
func (b *book) send(r *request, to, life int) *trip {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(r.trips) == 0 {
		b.requests = append(b.requests, r)
	}
	b.now++
	t := &trip{request: r, attempt: uint32(len(r.trips) + 1), to: to, life: life, sent: b.now}
	r.trips = append(r.trips, t)
	return t
}

// answered notes the answer to t. What a dead writer says is not heard.
func (b *book) answered(t *trip, what Told) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.ended == 0 {
		b.now++
		t.ended, t.told = b.now, what
	}
}

// died notes that the writer of t has died without an answer.
func (b *book) died(t *trip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.ended == 0 {
		b.now++
		t.ended, t.dead = b.now, true
	}
}

// pushed notes that users were pushed entries.
func (b *book) pushed(entries []pim.Entry, users []pim.UserID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now++
	for _, u := range users {
		for _, e := range entries {
			b.pushes = append(b.pushes, push{b.now, u, e})
		}
	}
}

// stands notes that the entries of a log up to last are durable, and that whatever follows
// from them has been carried out.
func (b *book) stands(c pim.ConversationID, last pim.Seq) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now++
	for seq := pim.Seq(1); seq <= last; seq++ {
		if _, before := b.stood[place{c, seq}]; !before {
			b.stood[place{c, seq}] = b.now
		}
	}
}

// waiting returns the trips without an answer.
func (b *book) waiting() (trips []*trip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		for _, t := range r.trips {
			if t.ended == 0 {
				trips = append(trips, t)
			}
		}
	}
	return trips
}

// reads reports whether r is a read command.
func (r *request) reads() bool { return r.command != nil && r.command.Kind == pim.CommandRead }

func (r *request) String() string {
	what := r.Kind.String()
	if r.command != nil {
		what = r.command.Entity()
		switch {
		case r.command.Removed:
			what = "no " + what
		case r.reads():
			what = fmt.Sprint(what, " to ", r.command.Seq)
		}
	}
	return fmt.Sprintf("%x of %s (%s %v in %s)", r.ClientID[12:], r.Sender, what, r.Members, r.conversation)
}

func (t *trip) String() string {
	return fmt.Sprintf("%s, sent to %d at %d", t.request, t.to, t.sent)
}
