package load

import (
	"context"

	"github.com/pim-im/pim"
)

// talk is one user's side of a conversation.
type talk struct {
	conv     pim.ConversationID
	message  *template // shared by all sides
	next     uint32    // counter of the user's next message in it
	answered uint64    // messages of the user that the server acknowledged

	page  uint64 // RequestId of the page that was asked for last
	asked uint64 // reached, when that page was asked for
	acked uint64 // seq that was acknowledged
	news  bool   // the conversation is in user.news
	stream
}

// Who talks to whom. In Group, each user has one conversation, and the members of a group
// have consecutive numbers. In the other workloads, users with even numbers have direct
// conversations with users with odd numbers: the i-th even user with the i-th odd user,
// with the next odd user and so on, wrapping around. The n-th conversation of one user is
// also the n-th of the other.

// converse gives the users their conversations. A group is created by its first
// member.
func (r *chat) converse(ctx context.Context) error {
	if r.cfg.Workload == Group {
		return each(ctx, len(r.users)/r.size, r.cfg.Dialing, r.meet)
	}
	half := len(r.users) / 2
	for n := range r.talks() {
		for i := range half {
			even, odd := r.users[2*i], r.users[2*((i+n)%half)+1]
			c := pim.Direct(r.cfg.user(2*i), r.cfg.user(2*((i+n)%half)+1))
			message := sendTemplate(c, r.cfg.Payload)
			for _, u := range []*user{even, odd} {
				if u != nil {
					u.talk(c, &message, 1)
				}
			}
		}
	}
	return nil
}

// talk adds a conversation with places for that many senders.
func (u *user) talk(c pim.ConversationID, message *template, senders int) {
	if u.run.relay() {
		u.answer = ackTemplate(c)
	}
	t := talk{conv: c, message: message, stream: newStream(senders, &u.received)}
	t.sparse = u.run.cfg.Insist
	u.talks = append(u.talks, t)
}

// meet creates the n-th group.
func (r *chat) meet(_ context.Context, n int) error {
	users := r.users[n*r.size : (n+1)*r.size]
	c, err := r.create(users)
	if err != nil {
		return err
	}
	message := sendTemplate(c, r.cfg.Payload)
	for _, u := range users {
		u.talk(c, &message, r.size)
	}
	return nil
}

// talks returns how many conversations each user has.
func (r *chat) talks() int {
	if r.cfg.Workload == Group {
		return 1
	}
	return r.cfg.Conversations / (len(r.users) / 2)
}

// place returns which of reader's conversations a message of sender belongs to, and
// the sender's place in it.
func (r *chat) place(reader, sender uint32) (n, slot int, ok bool) {
	if sender >= uint32(len(r.users)) || sender == reader {
		return 0, 0, false
	}
	if r.cfg.Workload == Group {
		first := reader - reader%uint32(r.size)
		return 0, int(sender - first), sender >= first && sender < first+uint32(r.size)
	}
	if reader%2 == sender%2 {
		return 0, 0, false
	}
	half, odd, even := len(r.users)/2, int(reader/2), int(sender/2)
	if reader%2 == 0 {
		odd, even = even, odd
	}
	n = (odd - even + half) % half
	return n, 0, n < r.talks()
}

// partners calls f with every other user of u's n-th conversation who sends, and
// that user's place in it.
func (r *chat) partners(u *user, n int, f func(other *user, slot int)) {
	if r.cfg.Workload != Group {
		half := len(r.users) / 2
		i := 2 * ((int(u.index/2) - n + half) % half)
		if u.index%2 == 0 {
			i = 2*((int(u.index/2)+n)%half) + 1
		}
		if other := r.users[i]; other != nil && other.sends {
			f(other, 0)
		}
		return
	}
	first := int(u.index) - int(u.index)%r.size
	for slot, other := range r.users[first : first+r.size] {
		if other != u && other.sends {
			f(other, slot)
		}
	}
}

// missing returns how many messages u still misses in its n-th conversation, of those
// that were acknowledged to their senders.
func (r *chat) missing(u *user, n int) uint64 {
	var answered uint64
	r.partners(u, n, func(other *user, _ int) {
		other.mu.Lock()
		answered += other.talks[n].answered
		other.mu.Unlock()
	})
	u.mu.Lock()
	defer u.mu.Unlock()
	return answered - min(answered, u.talks[n].taken)
}
