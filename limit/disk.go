package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
)

// Disk bounds how many bytes each user has stored in a day. A whole day's worth may come at once. Its methods may be called at
// the same time. now is a monotonic time.
//
// Every message asks, so asking takes no lock: mostly it reads one cell. What is being stored counts when it is: a user
// goes beyond the bound by what is under way, which others bound.
type Disk struct {
	pace
	seed maphash.Seed

	mu    sync.Mutex // held while cells are raised
	cells [rows][cells]atomic.Int64
}

// NewDisk returns a Disk that lets each user store perDay bytes in a day; nil, which bounds nothing, if perDay is 0 or less. It takes
// 256 KiB.
func NewDisk(perDay int) *Disk {
	if perDay <= 0 {
		return nil
	}
	const day = 24 * time.Hour
	every := max(day/time.Duration(perDay), 1) // more than 86 TB a day count as that
	return &Disk{pace: pace{every: every, burst: every * min(time.Duration(perDay), day)}, seed: maphash.MakeSeed()}
}

// cell returns the cell of the key with this hash in a row.
func (d *Disk) cell(row int, hash uint64) *atomic.Int64 { return &d.cells[row][(hash>>(16*row))%cells] }

// state returns the state of the key with this hash. It looks no further when it is enough at most.
func (d *Disk) state(hash uint64, enough time.Duration) time.Duration {
	whole := time.Duration(d.cell(0, hash).Load())
	for row := 1; row < rows && whole > enough; row++ {
		whole = min(whole, time.Duration(d.cell(row, hash).Load()))
	}
	return whole
}

// Ask asks whether user may have something stored: whether anything of a day's worth is left.
func (d *Disk) Ask(now time.Duration, user pim.UserID) Verdict {
	if d == nil {
		return Verdict{}
	}
	room := now + d.burst // the state at which nothing is left
	if whole := d.state(maphash.String(d.seed, string(user)), room-1); whole >= room {
		return Verdict{UserBytes, whole - room + d.every}
	}
	return Verdict{}
}

// Add notes that so many bytes of user's are stored.
func (d *Disk) Add(now time.Duration, user pim.UserID, bytes int) {
	if d == nil || bytes <= 0 {
		return
	}
	hash := maphash.String(d.seed, string(user))
	d.mu.Lock()
	defer d.mu.Unlock()
	whole := int64(d.nextOf(d.state(hash, 0), now, bytes))
	for row := range rows {
		if c := d.cell(row, hash); c.Load() < whole {
			c.Store(whole)
		}
	}
}
