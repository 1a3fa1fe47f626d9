// Package access is who is not let in although the token is good: tokens, devices and users that were
// revoked, and users who are blocked. It also keeps when a user's devices have come last.
//
// What was revoked of a user is a few cells of the user's own. None of them expires, so it holds for
// tokens of any lifetime, on every node and after every restart. Nearly all users have none: a login
// looks up one cell, and reads the others only if that is there.
//
// A journal has which users' cells were written lately. A node that was not told of an act, because the
// bus has lost that or the node was cut off, finds it there.
package access

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

const (
	// MaxActs is how many devices and tokens of one user may have been revoked one by one. Who has more
	// to revoke revokes the user.
	MaxActs = 1000
	// MaxTokenID is how many bytes the ID of a token has at most.
	MaxTokenID = 256
)

// Revoked holds what was revoked of a user. Keys:
//
//	any             version: when something was done last; no other cell is there without it
//	user            version: tokens of the user that were issued before are refused
//	blocked         version: when the user was blocked or unblocked; value: 1 or 0
//	device/DEVICE   version: tokens that were issued before are refused when they come with the device
//	token/ID        version: when the token was revoked
//
// All versions are milliseconds since 1970.
func Revoked(u pim.UserID) store.Partition { return store.Partition("revoked/" + u) }

const (
	keyAny     = "any"
	keyUser    = "user"
	keyBlocked = "blocked"
	keyDevice  = "device/"
	keyToken   = "token/"
)

// Token is what decides whether a token was revoked. A gateway keeps it for each connection.
type Token struct {
	Device pim.DeviceID // that it came with
	ID     uint64       // HashOf its jti
	Issued pim.Millis   // its iat; 0: it does not say
}

// HashOf returns a number that stands for a token's jti, 0 for none. That two have the same number does
// not happen, and would end a connection that comes back.
func HashOf(jti string) uint64 {
	if jti == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(jti))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// Act is one thing that is done about a user's access: either one of Block and Unblock, or something
// is revoked.
type Act struct {
	User pim.UserID
	At   pim.Millis // when it is done

	Device pim.DeviceID // revokes what comes with this device only
	Token  string       // revokes the token with this jti only, whatever Before says
	Before pim.Millis   // revokes tokens that were issued before, At at the latest; those without an iat count as older than all

	Block, Unblock bool // the user is let in with no token at all, until unblocked
}

// Check returns why a can't be done, a *pim.Error of KindInvalid, or nil.
func (a *Act) Check() error {
	if err := a.User.Validate(); err != nil {
		return pim.Errorf(pim.KindInvalid, "the user: %w", err)
	}
	if a.Device != "" {
		if err := a.Device.Validate(); err != nil {
			return pim.Errorf(pim.KindInvalid, "the device: %w", err)
		}
	}
	switch {
	case a.At <= 0:
		return pim.Errorf(pim.KindInvalid, "it does not say when it is done")
	case a.Block && a.Unblock, (a.Block || a.Unblock) && (a.Device != "" || a.Token != ""):
		return pim.Errorf(pim.KindInvalid, "a user is either blocked or unblocked, as a whole")
	case a.Device != "" && a.Token != "":
		return pim.Errorf(pim.KindInvalid, "either a device is revoked or a token")
	case len(a.Token) > MaxTokenID:
		return pim.Errorf(pim.KindInvalid, "the token's ID has %d bytes, at most %d are possible", len(a.Token), MaxTokenID)
	case !a.Block && !a.Unblock && a.Token == "" && (a.Before <= 0 || a.Before > a.At):
		return pim.Errorf(pim.KindInvalid, "tokens can be revoked that were issued before now, not later ones")
	}
	return nil
}

// cell returns the cell that a writes.
func (a *Act) cell() store.Cell {
	switch {
	case a.Block:
		return store.Cell{Key: keyBlocked, Version: uint64(a.At), Value: []byte{1}}
	case a.Unblock:
		return store.Cell{Key: keyBlocked, Version: uint64(a.At), Value: []byte{0}}
	case a.Token != "":
		return store.Cell{Key: keyToken + a.Token, Version: uint64(a.At)}
	case a.Device != "":
		return store.Cell{Key: keyDevice + string(a.Device), Version: uint64(a.Before)}
	}
	return store.Cell{Key: keyUser, Version: uint64(a.Before)}
}

// Standing is what was done about a user's access, all acts together. It does not change. nil is that
// of a user about whom nothing was done.
type Standing struct {
	Blocked bool
	Before  pim.Millis                  // tokens issued before are refused; 0: none
	Devices map[pim.DeviceID]pim.Millis // the same, of what comes with these
	Tokens  []string                    // the IDs of tokens that are refused, ascending
	hashes  map[uint64]struct{}         // of Tokens
}

// Refuses returns why t lets nobody in, a *pim.Error of KindRevoked, or nil.
func (s *Standing) Refuses(t Token) error {
	if s == nil {
		return nil
	}
	if s.Blocked {
		return pim.Errorf(pim.KindRevoked, "the user is blocked")
	}
	if t.Issued < s.Before {
		return pim.Errorf(pim.KindRevoked, "the user's tokens that were issued before %s are revoked", s.Before.Time().UTC().Format(time.RFC3339))
	}
	if before := s.Devices[t.Device]; t.Issued < before {
		return pim.Errorf(pim.KindRevoked, "this device was signed out at %s, and needs a newer token", before.Time().UTC().Format(time.RFC3339))
	}
	if _, is := s.hashes[t.ID]; is && t.ID != 0 {
		return pim.Errorf(pim.KindRevoked, "the token is revoked")
	}
	return nil
}

// Book reads and writes who is not let in, and when devices have come. It may be used concurrently.
type Book struct {
	store store.Store

	mu   sync.Mutex
	used map[deviceKey]pim.Millis // waits for Flush; usedWaits of them at most
}

// New returns the Book of a store. It writes nothing by itself, see Flush.
func New(s store.Store) *Book { return &Book{store: s} }

// Standing returns what was done about user's access. Errors are those of the store.
func (b *Book) Standing(ctx context.Context, user pim.UserID) (*Standing, error) {
	if _, is, err := store.Lookup(ctx, b.store, Revoked(user), keyAny); err != nil || !is {
		return nil, err
	}
	s := &Standing{Devices: make(map[pim.DeviceID]pim.Millis), hashes: make(map[uint64]struct{})}
	err := b.each(ctx, user, func(c store.Cell) {
		at := pim.Millis(c.Version)
		if d, is := strings.CutPrefix(c.Key, keyDevice); is {
			s.Devices[pim.DeviceID(d)] = at
		} else if id, is := strings.CutPrefix(c.Key, keyToken); is {
			s.Tokens = append(s.Tokens, id)
			s.hashes[HashOf(id)] = struct{}{}
		} else if c.Key == keyUser {
			s.Before = at
		} else if c.Key == keyBlocked {
			s.Blocked = len(c.Value) > 0 && c.Value[0] != 0
		}
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Last returns when something was done about user's access last; 0: never.
func (b *Book) Last(ctx context.Context, user pim.UserID) (pim.Millis, error) {
	c, _, err := store.Lookup(ctx, b.store, Revoked(user), keyAny)
	return pim.Millis(c.Version), err
}

// pageCells is how many cells are listed at a time.
const pageCells = 256

// each calls f with all cells of user.
func (b *Book) each(ctx context.Context, user pim.UserID, f func(store.Cell)) error {
	for after := ""; ; {
		cells, err := b.store.List(ctx, Revoked(user), after, pageCells)
		if err != nil {
			return err
		}
		for _, c := range cells {
			f(c)
		}
		if len(cells) < pageCells {
			return nil
		}
		after = cells[len(cells)-1].Key
	}
}

// Do carries out a. When it returns nil, every Standing that is read later shows it, on all nodes and
// after a crash. After an error it may have been carried out or not, and may be done again. Errors:
// those of Check, KindTooLarge above MaxActs, and those of the store.
func (b *Book) Do(ctx context.Context, a Act) error {
	if err := a.Check(); err != nil {
		return err
	}
	cell := a.cell()
	if a.Block || a.Unblock {
		last, _, err := store.Lookup(ctx, b.store, Revoked(a.User), keyBlocked)
		if err != nil {
			return err
		}
		cell.Version = max(cell.Version, last.Version+1) // the node of the last act may have a clock that is ahead
	}
	if a.Device != "" || a.Token != "" {
		if err := b.room(ctx, a.User, cell.Key); err != nil {
			return err
		}
	}
	// Whoever sees that there is something must see what: so these are two commits.
	if err := b.commit(ctx, store.CellWrite{Partition: Revoked(a.User), Cell: cell}); err != nil {
		return err
	}
	return b.commit(
		ctx,
		store.CellWrite{Partition: Revoked(a.User), Cell: store.Cell{Key: keyAny, Version: uint64(a.At)}},
		store.CellWrite{Partition: journal, Cell: store.Cell{Key: journalKey(a.At, a.User), Version: uint64(a.At)}},
	)
}

// room returns an error if there is no room for one more cell of user, unless key is there already.
func (b *Book) room(ctx context.Context, user pim.UserID, key string) error {
	acts, known := 0, false
	err := b.each(ctx, user, func(c store.Cell) {
		known = known || c.Key == key
		if strings.HasPrefix(c.Key, keyDevice) || strings.HasPrefix(c.Key, keyToken) {
			acts++
		}
	})
	if err == nil && acts >= MaxActs && !known {
		return pim.Errorf(pim.KindTooLarge, "%d devices and tokens of the user are revoked one by one; revoke the user", acts)
	}
	return err
}

func (b *Book) commit(ctx context.Context, cells ...store.CellWrite) error {
	return store.Commit(ctx, b.store, []*store.Write{{Cells: cells}}, store.Durable)
}
