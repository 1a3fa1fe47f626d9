// Package placement says which node has something: who writes a conversation, who is a user's home.
// It is a pure function of a view of the cluster (bus.View) and a key, so all nodes that see the
// same view name the same node, without a word between them. Nodes whose views differ may name
// different ones; whoever asks must live with that.
//
// It is rendezvous hashing with weights. Every node gets a score for the key, and the node with the
// lowest score has it. A node that joins takes its share from all others alike, one that leaves
// leaves its share to all others alike, and nothing else moves.
//
// # The scores
//
// Nodes of all versions must come to the same result, so the following never changes; the vectors
// in testdata hold it. The key's slot is the upper 18 bits of XXH64(key), seed 0. With
//
//	mix(x): x ^= x>>30; x *= 0xbf58476d1ce4e5b9; x ^= x>>27; x *= 0x94d049bb133111eb; x ^= x>>31
//	u = mix(XXH64(name of the node) ^ mix(slot+1))
//
// the node's score is -log2(u / 2⁶⁴) / weight. The logarithm is a whole number, in units of 2⁻³²,
// from a table of 4,096 intervals with linear interpolation, and the quotient is the IEEE 754 double
// nearest to the true one. So processors of all kinds agree. Of nodes with the same score, the one with the
// greatest u has the key, and then the one whose name is the smallest in byte order.
//
// Only nodes that have the role, weight > 0 and do not drain take part.
package placement

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/pim-im/pim/bus"
)

// slots is how many groups keys fall into. All keys of a slot are at the same node. At 4,000 nodes
// of one weight a node has 65 slots, give or take 8.
const slots = 1 << slotBits

const slotBits = 18

// few is up to how many nodes a look-up computes all scores: that is faster than memory that is not
// in the processor's cache.
const few = 16

// Table answers for one view and one role. It is safe for concurrent use. A look-up allocates
// nothing. Its cost does not depend on the number of nodes, but for the first one of a slot,
// which computes the scores of all nodes and is remembered.
type Table struct {
	role    bus.Role
	members []member        // by weight, and then by name
	slots   []atomic.Uint32 // a member's index + 1; 0: not computed; nil: there are few members
}

// member is a node that takes part.
type member struct {
	name   string
	hash   uint64
	weight uint32
}

// New returns the Table for a role in v.
func New(v *bus.View, role bus.Role) *Table {
	t := &Table{role: role, members: members(v, role)}
	if len(t.members) > few {
		t.slots = make([]atomic.Uint32, slots)
	}
	return t
}

// Next returns the Table for t's role in the view v. It is t itself if the nodes that take part, and
// their weights, are the same. Otherwise what t has computed is taken over as far as it holds.
func (t *Table) Next(v *bus.View) *Table {
	now := members(v, t.role)
	if slices.Equal(now, t.members) {
		return t
	}
	next := &Table{role: t.role, members: now}
	if len(now) > few {
		next.slots = make([]atomic.Uint32, slots)
		next.takeOver(t)
	}
	return next
}

// Of returns the name of the node that has key; ok is false if no node takes part.
func (t *Table) Of(key string) (name string, ok bool) {
	if len(t.members) == 0 {
		return "", false
	}
	slot := slotOf(key)
	if t.slots == nil {
		return t.members[best(t.members, slot)].name, true
	}
	i := t.slots[slot].Load()
	if i == 0 {
		i = uint32(best(t.members, slot)) + 1
		t.slots[slot].Store(i)
	}
	return t.members[i-1].name, true
}

// Share returns the share of all keys that a node has, 0 to 1: its weight among the weights of all that take part.
// Chance makes that some more or less: of n slots the square root of n.
func (t *Table) Share(name string) float64 {
	var own, all float64
	for _, m := range t.members {
		if all += float64(m.weight); m.name == name {
			own = float64(m.weight)
		}
	}
	if all == 0 {
		return 0
	}
	return own / all
}

// Nodes returns how many nodes take part.
func (t *Table) Nodes() int { return len(t.members) }

// Of returns the name of the node that has key in the view v, as New(v, role).Of(key) does. It is
// for single questions; who asks often has a Table.
func Of(v *bus.View, role bus.Role, key string) (name string, ok bool) {
	m := members(v, role)
	if len(m) == 0 {
		return "", false
	}
	return m[best(m, slotOf(key))].name, true
}

// manyJoined is from how many joined nodes on nothing is taken over from an earlier table.
const manyJoined = 64

// takeOver takes from old, where slots are computed, what still holds: a slot whose node is still there
// stays with it, unless a node that has joined has a better score: then it is computed anew.
func (t *Table) takeOver(old *Table) {
	if old.slots == nil {
		return
	}
	at := make([]uint32, len(old.members)) // of an old member in t, + 1; 0: it is gone
	joined := make([]*member, 0, manyJoined)
	i := 0
	for j := range t.members {
		m := &t.members[j]
		for i < len(old.members) && old.members[i].compare(m) < 0 {
			i++
		}
		if i < len(old.members) && old.members[i] == *m {
			at[i] = uint32(j) + 1
		} else if joined = append(joined, m); len(joined) == manyJoined {
			return
		}
	}
	for slot := range old.slots {
		was := old.slots[slot].Load()
		if was == 0 || at[was-1] == 0 {
			continue
		}
		now := at[was-1]
		if len(joined) > 0 {
			s := mix(uint64(slot) + 1)
			b := bid{member: &t.members[now-1]}
			b.u = mix(b.member.hash ^ s)
			for _, m := range joined {
				if u := mix(m.hash ^ s); (bid{m, u}).beats(b) {
					now = 0
					break
				}
			}
		}
		t.slots[slot].Store(now)
	}
}

// members returns the nodes of v that take part, by weight and then by name.
func members(v *bus.View, role bus.Role) []member {
	some := make([]member, 0, len(v.Nodes))
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if n.Roles.Has(role) && n.Weight > 0 && !n.Draining {
			some = append(some, member{n.Name, xxhash.Sum64String(n.Name), n.Weight})
		}
	}
	slices.SortFunc(some, func(a, b member) int { return a.compare(&b) })
	return some
}

func (m *member) compare(o *member) int {
	return cmp.Or(cmp.Compare(m.weight, o.weight), cmp.Compare(m.name, o.name))
}

func slotOf(key string) uint64 { return xxhash.Sum64String(key) >> (64 - slotBits) }

// bid is what a member has to say for a slot.
type bid struct {
	member *member
	u      uint64
}

// beats reports whether b's member has the slot rather than o's.
func (b bid) beats(o bid) bool {
	x, y := float64(negLog2(b.u))/float64(b.member.weight), float64(negLog2(o.u))/float64(o.member.weight)
	return cmp.Or(cmp.Compare(x, y), -cmp.Compare(b.u, o.u), cmp.Compare(b.member.name, o.member.name)) < 0
}

// best returns the index of the member that has a slot. Of members of one weight it is the one with
// the greatest u, so only these need a logarithm.
func best(members []member, slot uint64) int {
	s := mix(slot + 1)
	var least bid // its member is nil at first
	at := 0
	for i := 0; i < len(members); {
		first, weight, u := i, members[i].weight, mix(members[i].hash^s)
		for i++; i < len(members) && members[i].weight == weight; i++ {
			if x := mix(members[i].hash ^ s); x > u {
				first, u = i, x
			}
		}
		if b := (bid{&members[first], u}); least.member == nil || b.beats(least) {
			at, least = first, b
		}
	}
	return at
}

// mix is the finalizer of SplitMix64: each bit of the result depends on all bits of x.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

const (
	logBits = 12 // of the number of intervals
	logUnit = 1 << 32
)

// logs[i] is log2(1 + i/4096), in units of 1/logUnit.
var logs = func() (table [1<<logBits + 1]uint64) {
	for i := range table {
		table[i] = uint64(math.Round(math.Log2(1+float64(i)/(1<<logBits)) * logUnit))
	}
	return table
}()

// negLog2 returns -log2(u / 2⁶⁴), in units of 1/logUnit.
func negLog2(u uint64) uint64 {
	if u == 0 {
		u = 1
	}
	zeros := bits.LeadingZeros64(u)
	rest := u << zeros << 1 // what follows the first 1
	i := rest >> (64 - logBits)
	within := rest << logBits >> 32 // the place in the interval, in units of 2⁻³²
	log := logs[i] + (logs[i+1]-logs[i])*within>>32
	return uint64(zeros+1)*logUnit - log
}
