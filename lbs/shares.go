package lbs

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pim-im/pim"

	"github.com/cespare/xxhash/v2"
)

// pace is how often something may come: once in every, and burst at once.
type pace struct {
	every time.Duration
	burst time.Duration // as many times every
}

var (
	// placesOfUser is the places that one user is given. All devices of a user come back at once when a
	// gateway dies.
	placesOfUser = pace{2 * time.Second, 32 * time.Second}
	// questionsOfUser is the questions of one user that count: those beyond are answered, and change nothing for
	// others unless they get a place.
	questionsOfUser = pace{time.Second, 32 * time.Second}
	// questionsOfNetwork is the questions of one network that is not eager. It is the slow pace of networks of
	// package limit.
	questionsOfNetwork = pace{time.Second, time.Minute}
)

// greedySpread is the window of a client whose user has had too many places, from when the next one may come.
const greedySpread = 10 * time.Second

// count is how often something has come, as the generic cell rate algorithm keeps it: when the whole burst may
// come again.
type count time.Duration

// wait returns how long it takes until one more may come; 0: it may come now.
func (c count) wait(p pace, now time.Duration) time.Duration {
	return max(max(time.Duration(c), now)+p.every-now-p.burst, 0)
}

// take counts one more if it may come, and reports whether it may.
func (c *count) take(p pace, now time.Duration) bool {
	if c.wait(p, now) > 0 {
		return false
	}
	*c = count(max(time.Duration(*c), now) + p.every)
	return true
}

const (
	sets = 1 << 13 // of a table
	ways = 4       // of a set
)

// A table keeps counts by a hash of their key, whose seed is a secret. A key has its place in one set, and puts out
// the one of the set that was not asked for the longest. So no key has the count of another, and whoever comes often
// is not put out but by as many others in the same set that come as often.
type table[T any] struct {
	seed   uint64
	digest *xxhash.Digest
	asked  uint64 // how many keys were asked for
	sets   [][ways]place[T]
}

type place[T any] struct {
	key   uint64
	asked uint64 // the table's, when the key was last asked for
	value T
}

func newTable[T any](seed uint64) table[T] {
	return table[T]{seed: seed, digest: xxhash.New(), sets: make([][ways]place[T], sets)}
}

// of returns the value of a key, valid until the next call.
func (t *table[T]) of(key []byte) *T {
	t.asked++
	t.digest.ResetWithSeed(t.seed)
	t.digest.Write(key) // never fails
	hash := t.digest.Sum64()
	set := &t.sets[hash%sets]
	oldest := &set[0]
	for i := range set {
		p := &set[i]
		if p.key == hash {
			p.asked = t.asked
			return &p.value
		}
		if p.asked < oldest.asked {
			oldest = p
		}
	}
	*oldest = place[T]{key: hash, asked: t.asked}
	return &oldest.value
}

// users holds what each user has had.
type users struct{ table[user] }

type user struct{ places, questions count }

func newUsers(seed uint64) users { return users{newTable[user](seed)} }

func (u *users) of(id pim.UserID) *user { return u.table.of([]byte(id)) }

// networks holds how often each network has asked.
type networks struct{ table[count] }

func newNetworks(seed uint64) networks { return networks{newTable[count](seed)} }

// The network around an address has this many bits: what one customer of a provider has at least.
const (
	bitsIPv4 = 24
	bitsIPv6 = 48
)

// eager counts one question from an address, and reports whether its network asks faster than
// questionsOfNetwork. An address that is not known, or is of this machine, is in no network: very many clients may
// come through one proxy.
func (n *networks) eager(from netip.Addr, now time.Duration) bool {
	from = from.Unmap().WithZone("")
	if !from.IsValid() || from.IsLoopback() {
		return false
	}
	bits := bitsIPv6
	if from.Is4() {
		bits = bitsIPv4
	}
	prefix, _ := from.Prefix(bits) // fails only for bits that the address does not have
	address := prefix.Addr().As16()
	return !n.of(binary.AppendUvarint(address[:], uint64(bits))).take(questionsOfNetwork, now)
}
