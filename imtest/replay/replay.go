// Package replay plays a real chat log through real connections and then checks
// that every member got exactly the entries of its membership, once, in one
// order. It is what `pim replay` runs; it can kill the server meanwhile.
package replay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest/process"
)

// Config says what to play, and against which server. The zero value of a field
// is its default.
type Config struct {
	File    string    // the chat log; if Log is set, only its name in errors
	Log     io.Reader // read instead of File
	Lurkers int       // silent members besides the log's
	Speed   float64   // times as fast as the log; 0: as fast as possible

	Readers int    // members who read on two devices, and are compared with a model
	Seed    uint64 // decides who they are and what they do; 0: a random one

	// Server is the URL of a server that runs. If it is empty, Run starts its own
	// server with ServerCommand, followed by --listen, --listen-tcp, --data and
	// --log-level, on free ports of the loopback and a fresh directory.
	Server        string
	Insecure      bool // Server may be on another machine and not encrypted
	ServerCommand []string
	TCP           bool // Run's own server is reached over raw TCP instead of WebSocket
	// KillEvery, if not 0, kills Run's own server with SIGKILL that often, and at least
	// once, and starts it again on the same data. A server that has got nothing done is
	// left alone for longer.
	KillEvery time.Duration

	Token         func(user pim.UserID) (string, error) // needed with Server
	Progress      io.Writer                             // gets a line for people every ProgressEvery; nil: none
	ProgressEvery time.Duration                         // 0: none
	Logger        *slog.Logger                          // nil: none

	impatient bool // tests wait less for what a broken server withholds
}

// patience is how long a device may take to show what it should, after the log has come to rest.
func (c *Config) patience() time.Duration {
	if c.impatient {
		return time.Second
	}
	return patience
}

// Report is the result of a replay. The JSON names are stable.
type Report struct {
	Conversation       pim.ConversationID `json:"conversation"`
	Messages           int                `json:"messages"`            // of the chat log
	Deliveries         int                `json:"deliveries"`          // entries handed to a member's app, the member's own included
	ExpectedDeliveries int                `json:"expected_deliveries"` // entries of all memberships
	Lost               int                `json:"lost"`                // expected, and not handed over or not pulled
	Doubled            int                `json:"doubled"`             // handed over or pulled twice, or twice in the log
	Misordered         int                `json:"misordered"`          // at another place than the rule gives
	Kills              int                `json:"kills"`
	AckP50             float64            `json:"ack_p50_ms"`
	AckP99             float64            `json:"ack_p99_ms"`
	DeliveryP50        float64            `json:"delivery_p50_ms"`
	DeliveryP99        float64            `json:"delivery_p99_ms"`
	Seconds            float64            `json:"seconds"` // of playing, without the check

	Reading *Reading `json:"reading,omitempty"` // nil without readers

	// Findings describes the first ten of what was lost, doubled, misordered or different.
	Findings []string `json:"-"`
}

// Err is not nil if anything was lost, doubled or misordered, or differs from the model.
func (r *Report) Err() error {
	different := r.Reading != nil && r.Reading.Different > 0
	switch {
	case r.Lost != 0 || r.Doubled != 0 || r.Misordered != 0:
		return pim.Errorf(pim.KindInternal, "lost %d, doubled %d, misordered %d", r.Lost, r.Doubled, r.Misordered)
	case different:
		return pim.Errorf(pim.KindInternal, "what readers see differs from the model")
	}
	return nil
}

// Run plays the chat log and checks the outcome. An error means that the replay could
// not be done. What was lost, doubled or misordered is in the report, see Report.Err.
func Run(ctx context.Context, c Config) (Report, error) {
	s, err := c.script()
	if err != nil {
		return Report{}, err
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Server != "" {
		if c.KillEvery != 0 {
			return Report{}, pim.Errorf(pim.KindInvalid, "only a server that replay started itself is killed: leave out its address")
		}
		if c.Token == nil {
			return Report{}, pim.Errorf(pim.KindInvalid, "no way to get tokens")
		}
		return play(ctx, &c, s, nil)
	}
	dir, err := os.MkdirTemp("", "pim-replay-")
	if err != nil {
		return Report{}, pim.Errorf(pim.KindUnavailable, "data directory: %w", err)
	}
	defer os.RemoveAll(dir)
	keys, err := account.CreateDevelopmentKey(filepath.Join(dir, "keys.json"))
	if err != nil {
		return Report{}, err
	}
	c.Token = func(u pim.UserID) (string, error) { return keys.Issue(u, 24*time.Hour, time.Now()) }
	p, err := process.Start(ctx, c.ServerCommand, dir)
	if err != nil {
		return Report{}, err
	}
	defer p.Stop()
	c.Server = p.URL(c.TCP)
	return play(ctx, &c, s, p)
}

func (c *Config) script() (*script, error) {
	if c.Lurkers < 0 || c.KillEvery < 0 || c.Speed != 0 && !(c.Speed >= slowest && c.Speed <= fastest) {
		return nil, pim.Errorf(pim.KindInvalid, "lurkers %d, speed %g, kills every %v: none can be negative, and a speed is 0 or from %g to %g",
			c.Lurkers, c.Speed, c.KillEvery, slowest, fastest)
	}
	r := c.Log
	if r == nil {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, pim.Errorf(pim.KindInvalid, "chat log: %w", err)
		}
		defer f.Close()
		r = f
	}
	s, err := readScript(r)
	if err != nil {
		return nil, pim.Errorf(pim.KindInvalid, "chat log %s: %w", c.File, err)
	}
	if members := 1 + len(s.first) + len(s.later) + c.Lurkers; c.Readers < 0 || c.Readers >= members {
		return nil, pim.Errorf(pim.KindInvalid, "%d readers: from 0 to %d can be, the number of speakers and lurkers", c.Readers, members-1)
	}
	if n := 1 + len(s.first) + c.Lurkers; n > pim.MaxGroupMembers {
		return nil, pim.Errorf(pim.KindTooLarge, "%d members at the start, a group has at most %d", n, pim.MaxGroupMembers)
	}
	return s, nil
}

// The bounds of a speed. At the slowest, the longest log still ends at a time that
// a time.Duration holds.
const slowest, fastest = 0.01, 1e9

// owner makes the group and does the joins and leaves. No user of a log has its name or
// a lurker's, because userID writes '%' as %25.
const owner pim.UserID = "%replay"

func lurker(n int) pim.UserID { return pim.UserID(fmt.Sprintf("%%lurker-%03d", n+1)) }
