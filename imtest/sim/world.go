package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	epoch     = pim.Millis(1_795_000_000_000)
	maxEvents = 200_000 // of a world: more are an endless loop
	storyEnd  = 60      // events that are told of a world that fails
)

// World is a server and devices. Nothing in it runs by itself: Run lets time pass.
type World struct {
	Server *clienttest.Server

	rng      *rand.Rand
	now      time.Duration
	order    uint64
	queue    events
	happened int
	skew     pim.Millis          // of the server's clock
	backs    int                 // how often it was set back
	down     bool                // the server is down
	busy     map[string]overload // gateways that turn clients away, by their names
	names    map[string]string   // other names of gateways
	healed   bool                // no more faults
	devices  []*Device
	ids      uint64

	history *imtest.History
	queued  map[pim.ClientMessageID]*Device // messages whose device still has the store that they were queued in
	refused map[pim.ClientMessageID]bool    // by the server, for good
	groups  []pim.ConversationID
	about   map[pim.ConversationID]pim.Seq   // the message that was referred to last
	fronts  map[pim.ConversationID][]pim.Seq // that there were, ascending
	trimmed bool                             // since the last backup
	dials   []time.Duration                  // when each attempt to connect began
	sentAt  map[pim.ClientMessageID]time.Duration
	shownAt map[pim.ClientMessageID]time.Duration // when the last device showed it

	before   *clienttest.Backup // the last backup of the server; nil: none
	stores   int                // how often the server's store got another identity
	wentBack bool
	sends    []imtest.Send

	looked  bool // what a person reads is checked at every step
	failure string
	early   []string // what was unread wrongly before lazy holes were filled
	story   []string
}

// NewWorld returns a world without devices. The seed decides everything.
func NewWorld(seed uint64) *World {
	w := &World{
		rng: rand.New(rand.NewPCG(seed, 1)), now: time.Hour,
		history: imtest.NewHistory(), queued: make(map[pim.ClientMessageID]*Device), refused: make(map[pim.ClientMessageID]bool),
		about:  make(map[pim.ConversationID]pim.Seq),
		fronts: make(map[pim.ConversationID][]pim.Seq),
		sentAt: make(map[pim.ClientMessageID]time.Duration), shownAt: make(map[pim.ClientMessageID]time.Duration),
	}
	w.Server = clienttest.NewServer(func() pim.Millis { return epoch + pim.Millis(w.now/time.Millisecond) + w.skew })
	w.Server.Store = "store 0"
	w.Server.Limits = wirepb.Limits{InFlight: 32, IdleMs: 300_000, HeartbeatMs: 600_000}
	return w
}

// Now returns the world's clock.
func (w *World) Now() time.Duration { return w.now }

// Failf ends the world with a defect.
func (w *World) Failf(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
	}
}

// tell notes what happens, for whoever has to find out why a world failed.
func (w *World) tell(d *Device, format string, args ...any) {
	who := "server"
	if d != nil {
		who = fmt.Sprint(d.User, "/", d.ID)
	}
	if len(w.story) >= 2*storyEnd {
		w.story = append(w.story[:0], w.story[len(w.story)-storyEnd:]...)
	}
	w.story = append(w.story, fmt.Sprintf("%10s %-14s %s", (w.now-time.Hour).Round(time.Millisecond), who, fmt.Sprintf(format, args...)))
}

// Story returns the last things that happened, one a line.
func (w *World) Story() string {
	return strings.Join(w.story[max(0, len(w.story)-storyEnd):], "\n")
}

// id returns the next client message ID.
func (w *World) id() (id pim.ClientMessageID) {
	w.ids++
	copy(id[:], fmt.Sprintf("%016d", w.ids))
	return id
}

// push hands over the pushes that the server has.
func (w *World) push() {
	for _, d := range w.devices {
		for _, c := range d.conns {
			if c.session != nil && !c.gone {
				for _, m := range c.session.Pushes() {
					c.toDevice(m)
				}
			}
		}
	}
}

// noteAnswer notes which messages the server has refused for good.
func (w *World) noteAnswer(m wire.Message) {
	if e, ok := m.(*wirepb.PIMError); ok && !e.Retryable {
		if id, ok := wire.ClientID(e.ClientMessageId); ok {
			w.refused[id] = true
			w.tell(nil, "refuses %s: %s", id, e.Text)
		}
	}
}

// StopServer takes the server down for a while. Its connections end, and everything
// that it has acknowledged stays.
func (w *World) StopServer(down time.Duration) {
	w.tell(nil, "stops for %v", down)
	w.down = true
	for _, d := range w.devices {
		if d.net.Silent || d.net.Deaf {
			for _, c := range d.conns {
				c.vanishes = true // nobody tells the device
			}
			continue
		}
		d.Cut()
	}
	w.After(down, func() {
		w.tell(nil, "is back")
		w.down = false
	})
}

// JumpServer moves the server's clock.
func (w *World) JumpServer(by time.Duration) {
	w.tell(nil, "clock jumps by %v", by)
	w.skew += pim.Millis(by / time.Millisecond)
	set, until := w.Server.Now(), w.now+time.Duration(pim.SetWindow)*time.Millisecond
	w.Server.Set = func() pim.Millis {
		if w.now > until {
			return 0
		}
		return set
	}
	if by < 0 {
		w.backs++
	}
}
