package account

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"sync"
	"sync/atomic"
	"time"
)

// Keyring holds a server's keys, and reads them from their file again. It may be used
// concurrently.
type Keyring struct {
	keys atomic.Pointer[Keys]
	load sync.Mutex // one Reload at a time
}

// NewKeyring returns a keyring that uses keys until Reload finds others in their file.
func NewKeyring(keys *Keys) *Keyring {
	r := new(Keyring)
	r.keys.Store(keys)
	return r
}

// Keys returns the keys that the keyring uses now.
func (r *Keyring) Keys() *Keys { return r.keys.Load() }

// Verify is Keys.Verify with the keys that the keyring uses now.
func (r *Keyring) Verify(token string, now time.Time) (Claims, error) {
	return r.keys.Load().Verify(token, now)
}

// Reload reads the key file, and uses the keys in it from then on if the file has
// changed. A key that is gone, or whose ID another key has taken, is withdrawn, see
// Claims. If the file cannot be read or is refused, nothing changes; the error is that
// of LoadKeys.
func (r *Keyring) Reload() (changed bool, err error) {
	r.load.Lock()
	defer r.load.Unlock()
	old := r.keys.Load()
	keys, err := LoadKeys(old.path)
	if err != nil || bytes.Equal(keys.content, old.content) {
		return false, err
	}
	var gone []*key
	for id, k := range old.byID {
		if now := keys.byID[id]; now != nil && now.checksLike(k) {
			now.withdrawn = k.withdrawn
		} else {
			gone = append(gone, k)
		}
	}
	r.keys.Store(keys)
	// The Claims of a token that is being verified with the old keys have the same flag.
	for _, k := range gone {
		k.withdrawn.Store(true)
	}
	return true, nil
}

// checksLike reports whether k accepts the same tokens as other.
func (k *key) checksLike(other *key) bool {
	if k.method != other.method || k.issuer != other.issuer || k.audience != other.audience {
		return false
	}
	switch mine := k.verify.(type) {
	case []byte:
		theirs, ok := other.verify.([]byte)
		return ok && subtle.ConstantTimeCompare(mine, theirs) == 1
	case interface{ Equal(crypto.PublicKey) bool }:
		return mine.Equal(other.verify)
	}
	return false
}
