// Command clients is a crowd of clients of the Go SDK that have nothing to say, for package storm: it connects them, keeps them
// connected, and says how many are, until its standard input ends.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest/storm"
)

const (
	tellEvery  = 100 * time.Millisecond // the time between two lines
	perAddress = 200                    // how many clients come from one address
)

// crowd counts what its clients live through.
type crowd struct {
	keys        *account.Keys
	servers     []string
	backoff     time.Duration
	sync        bool
	unprotected bool

	connected, tries, welcomed atomic.Int64
	last                       atomic.Pointer[string]
}

func main() {
	keys := flag.String("keys", "", "file with the key that signs tokens")
	servers := flag.String("servers", "", "whom clients ask, or dial")
	first := flag.Int("first", 0, "the first client's number")
	count := flag.Int("count", 1, "how many clients")
	backoff := flag.Duration("backoff", 0, "the longest wait between two tries; 0: the SDK's")
	sync := flag.Bool("sync", false, "sync, as apps do")
	unprotected := flag.Bool("unprotected", false, "ask no LBS, and come back within a second")
	flag.Parse()
	c := &crowd{servers: strings.Split(*servers, ","), backoff: *backoff, sync: *sync, unprotected: *unprotected}
	if err := c.run(*keys, *first, *count); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

func (c *crowd) run(keys string, first, count int) (err error) {
	if c.keys, err = account.LoadKeys(keys); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { // ends with the process
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	failed := make(chan error, 1)
	go func() { // ends with the process, as all clients do
		for n := first; n < first+count; n++ {
			one, err := c.open(n)
			if err != nil {
				failed <- err
				return
			}
			go c.follow(one)
		}
	}()
	out := json.NewEncoder(os.Stdout)
	for tick := time.NewTicker(tellEvery); ; {
		select {
		case <-ended:
			tick.Stop()
			return nil
		case err := <-failed:
			tick.Stop()
			return err
		case <-tick.C:
		}
		says := storm.Crowd{
			Connected: int(c.connected.Load()), Tries: int(c.tries.Load()), Welcomed: int(c.welcomed.Load()),
		}
		if last := c.last.Load(); last != nil {
			says.Last = *last
		}
		if err := out.Encode(says); err != nil { // whoever has started the process is gone
			return nil
		}
	}
}

// open opens the n-th client, which knows the servers in an order of its own.
func (c *crowd) open(n int) (*client.Client, error) {
	user := pim.UserID(fmt.Sprintf("storm-%d", n))
	at := n % len(c.servers)
	// Every question is a connection, whose port stays taken for a minute. One address of this machine has too few for all clients.
	from := &net.Dialer{KeepAlive: -1, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 200, byte(n/perAddress>>8), byte(n/perAddress))}}
	o := client.Options{
		Servers: slices.Concat(c.servers[at:], c.servers[:at]), User: user, Device: "phone", Agent: "pim-storm", EventBuffer: 8, Dial: from.DialContext, Watch: !c.sync, BackoffMax: c.backoff,
		Token: func(context.Context) (string, error) { return c.keys.Issue(user, 24*time.Hour, time.Now()) },
		Store: client.NewMemory(client.MemoryOptions{PositionsOnly: true}),
	}
	if c.unprotected {
		o.Direct, o.BackoffMin, o.BackoffMax = true, time.Second, time.Second
	}
	return client.Open(context.Background(), o)
}

// follow counts what happens to a client until it is closed.
func (c *crowd) follow(one *client.Client) {
	in := false
	for ev := range one.Events() {
		state, ok := ev.(client.StateEvent)
		if !ok {
			continue
		}
		if now := state.State == client.Connected; now != in {
			in = now
			if in {
				c.connected.Add(1)
				c.welcomed.Add(1)
			} else {
				c.connected.Add(-1)
			}
		}
		if state.State == client.Connecting {
			c.tries.Add(1)
		}
		if state.Err != nil {
			text := state.Err.Error()
			c.last.Store(&text)
		}
	}
	if in {
		c.connected.Add(-1)
	}
}
