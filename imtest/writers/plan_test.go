package writers

import (
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
)

// users are few, and so are their conversations, so that requests meet.
var users = []pim.UserID{"u0", "u1", "u2", "u3"}

const (
	groupMembers = 3 // conv.Options.Members
	groupsMade   = 2
	window       = 1000 * time.Hour // of edits and recalls: longer than a run
)

// plan makes requests up.
type plan struct {
	book     *book
	rewrites bool // half of the requests edit or erase

	mu     sync.Mutex
	rng    *rand.Rand
	made   uint32
	groups []pim.ConversationID
}

// next returns the next request to be sent: a new one, or one that was sent before.
func (p *plan) next() *request {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.recent(); r != nil && p.rng.IntN(4) == 0 {
		return r
	}
	return p.fresh()
}

// another returns a new request.
func (p *plan) another() *request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh()
}

// recent returns one of the requests that were made last, nil if there is none.
func (p *plan) recent() *request {
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	n := len(p.book.requests)
	if n == 0 {
		return nil
	}
	return p.book.requests[n-1-p.rng.IntN(min(n, 8))]
}

func (p *plan) fresh() *request {
	from, other := p.user(), p.user()
	r := &request{Request: conv.Request{Kind: pim.EntryMessage, Sender: from, Device: "d", ClientID: p.id()}}
	r.Local = pim.MillisOf(time.Now()) + pim.Millis(p.rng.Int64N(3000)-2000)
	what := p.rng.IntN(20)
	if len(p.groups) == 0 || what == 0 && len(p.groups) < groupsMade {
		r.Kind, r.Members = pim.EntryCreate, p.some()
		r.conversation = pim.NewGroup(from, r.ClientID)
		p.groups = append(p.groups, r.conversation)
		return r
	}
	group := p.groups[p.rng.IntN(len(p.groups))]
	switch {
	case p.rewrites && p.rng.IntN(2) == 0, !p.rewrites && p.rng.IntN(3) == 0:
		r.Conversation = group
		if what < 12 {
			r.Conversation = pim.Direct(from, other)
		}
		p.change(r)
	case what < 4:
		r.Kind, r.Conversation, r.Members = pim.EntryJoin, group, p.some()
	case what < 6:
		r.Kind, r.Conversation = pim.EntryLeave, group
		if p.rng.IntN(2) == 0 {
			r.Members = p.some()
		}
	case what < 9:
		r.Conversation, r.Payload = group, []byte("to the group")
		p.mention(r)
	case what < 12:
		r.command = &pim.Command{Kind: pim.CommandBlock, Subject: string(other), Removed: p.rng.IntN(2) == 0}
	case what < 14:
		c := group
		if p.rng.IntN(2) == 0 {
			c = pim.Direct(from, other)
		}
		r.command = &pim.Command{Kind: pim.CommandRead, Subject: string(c), Seq: pim.Seq(1 + p.rng.IntN(10))}
	default:
		r.Conversation, r.Payload = pim.Direct(from, other), []byte("to the other")
		p.mention(r)
	}
	if r.command != nil {
		r.Kind, r.Conversation, r.Payload = pim.EntryCommand, pim.Own(from), wire.AppendCommand(nil, r.command)
	}
	r.conversation = r.Conversation
	return r
}

// mention lets some messages mention users, who may be members, or all.
func (p *plan) mention(r *request) {
	switch p.rng.IntN(4) {
	case 0:
		r.MentionAll = true
	case 1, 2:
		r.Mentions = p.some()
	}
}

// change makes r refer to an entry, which may be a message and may be there, or erase up to there.
func (p *plan) change(r *request) {
	r.Refers = pim.Seq(1 + p.rng.IntN(8))
	what := p.rng.IntN(9)
	if p.rewrites {
		what = []int{1, 8}[what%2]
	}
	switch what {
	case 0:
		r.Kind = pim.EntryRecall
	case 8:
		r.Kind = pim.EntryErase
	case 1, 2, 3:
		r.Kind, r.Payload = pim.EntryEdit, r.ClientID[12:]
	case 4:
		r.Kind, r.Removed = pim.EntryPin, p.rng.IntN(3) == 0
	default:
		r.Kind, r.Reaction, r.Removed = pim.EntryReaction, "+"+strconv.Itoa(p.rng.IntN(2)), p.rng.IntN(3) == 0
	}
}

// probes returns a message from each user to each other.
func (p *plan) probes() (probes []*request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, from := range users {
		for _, to := range users {
			if from != to {
				r := &request{Request: conv.Request{Kind: pim.EntryMessage, Sender: from, Device: "d", ClientID: p.id()}}
				r.Local, r.Conversation, r.Payload = pim.MillisOf(time.Now()), pim.Direct(from, to), []byte("a probe")
				r.conversation = r.Conversation
				probes = append(probes, r)
			}
		}
	}
	return probes
}

func (p *plan) user() pim.UserID { return users[p.rng.IntN(len(users))] }

// some returns one or two users.
func (p *plan) some() []pim.UserID {
	of := p.rng.Perm(len(users))[:1+p.rng.IntN(2)]
	some := make([]pim.UserID, len(of))
	for i, n := range of {
		some[i] = users[n]
	}
	return some
}

// id returns a new client message ID. The time in it is now, mostly.
func (p *plan) id() (id pim.ClientMessageID) {
	at := pim.MillisOf(time.Now())
	if p.rng.IntN(30) == 0 {
		at -= pim.Millis(p.rng.Int64N(1 << 36))
	}
	p.made++
	binary.BigEndian.PutUint64(id[:8], uint64(at)<<16)
	id[6], id[8] = 0x70, 0x80
	binary.BigEndian.PutUint32(id[12:], p.made)
	return id
}

// conversations returns all that the plan may have used.
func (p *plan) conversations() []pim.ConversationID {
	all := append([]pim.ConversationID(nil), p.groups...)
	for i, a := range users {
		all = append(all, pim.Own(a))
		for _, b := range users[i:] {
			all = append(all, pim.Direct(a, b))
		}
	}
	return all
}
