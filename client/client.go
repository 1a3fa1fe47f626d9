package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/client/transport"
)

// Client is one device of a user. It keeps the connection, the outbox and the
// local store. All methods may be called concurrently. A method whose context has
// ended before the call does nothing, and returns the context's error.
type Client struct {
	options Options
	log     *slog.Logger
	dialers map[string]*transport.Dialer // of the configured servers
	store   Store
	key     [16]byte  // the store's, for the IDs of answers
	release func()    // gives up the claim on store
	begun   time.Time // origin of engine.Time.Mono

	ctx      context.Context // ends at Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup // the loop and the dial
	commands chan command
	dialled  chan dialled
	asking   chan struct{} // capacity 1: the app is asked for a token
	events   chan Event
	state    atomic.Uint32
	unread   atomic.Bool   // the app has left its events untaken for a while
	closed   chan struct{} // the loop has ended

	loop loop // owned by the loop's goroutine

	mu       sync.Mutex
	sendings map[pim.ClientMessageID][]*Sending
	answers  map[uint64]chan engine.Pulled
	fills    map[uint64]chan engine.Filled
	settings map[string]pim.Setting // as the app was told, by entity
	user     pim.UserID
	lastAsk  uint64
	synced   chan struct{} // closed while everything is synced
	isSynced bool
	stopErr  error         // why the client has stopped; nil if it has not
	stopped  chan struct{} // closed when it has
}

// ErrClosed is the error of every method that has one, after Close, and of what was
// under way then. Its kind is KindUnavailable.
var ErrClosed = pim.Errorf(pim.KindUnavailable, "the client is closed")

// Open checks o, loads the store and starts to connect in the background. ctx
// bounds Open only. The errors are of KindInvalid, of KindConflict if the store
// is another user's or device's or another Client uses it, or the store's own. The
// caller must Close the client, and read Events meanwhile.
func Open(ctx context.Context, o Options) (*Client, error) {
	dialers, err := o.check()
	if err != nil {
		return nil, err
	}
	if o.Store == nil {
		o.Store = NewMemory(MemoryOptions{})
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	release, err := o.Store.Claim()
	if err != nil {
		return nil, err
	}
	c, err := open(ctx, o, dialers)
	if err != nil {
		release()
		return nil, err
	}
	c.release = release
	c.wg.Add(1)
	go c.run()
	return c, nil
}

// open makes a client that does not run yet.
func open(ctx context.Context, o Options, dialers map[string]*transport.Dialer) (*Client, error) {
	snapshot, err := o.Store.Load(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.own(snapshot.Meta); err != nil {
		return nil, err
	}
	if o.Confirm && snapshot.Meta.Key == [16]byte{} {
		rand.Read(snapshot.Meta.Key[:]) // it does not fail
	}
	c := &Client{
		key:     snapshot.Meta.Key,
		options: o, log: o.Logger, dialers: dialers, store: o.Store, begun: time.Now(),
		commands: make(chan command), dialled: make(chan dialled, maxDials),
		asking: make(chan struct{}, 1), closed: make(chan struct{}),
		sendings: make(map[pim.ClientMessageID][]*Sending),
		answers:  make(map[uint64]chan engine.Pulled),
		fills:    make(map[uint64]chan engine.Filled),
		settings: make(map[string]pim.Setting, len(snapshot.Settings)),
		user:     cmp.Or(snapshot.Meta.User, o.User),
		synced:   make(chan struct{}), stopped: make(chan struct{}),
	}
	for _, set := range snapshot.Settings {
		c.settings[set.Entity] = set.Setting
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.state.Store(uint32(Connecting))
	c.loop.dialling = make(map[uint64]context.CancelFunc)
	if o.Confirm { // entries must not fill the channel: what else happens would be behind them
		c.loop.feed.begin(snapshot.Meta)
		c.loop.room, c.events = o.EventBuffer, make(chan Event)
	} else {
		c.events = make(chan Event, o.EventBuffer)
	}
	c.loop.engine = engine.New(engine.Config{
		User: o.User, Device: o.Device, Agent: o.Agent, Watch: o.Watch, Confirms: o.Confirm, Servers: o.servers(),
		BackoffMin: o.BackoffMin, BackoffMax: o.BackoffMax, RequestTimeout: o.RequestTimeout,
		LazyGap: o.LazyGap, Random: mathrand.Float64,
	}, snapshot)
	return c, nil
}

// Close stops every goroutine of the client and closes Events. What was to be
// coalesced is transmitted first, if the connection takes it at once. Messages
// without an answer stay in the store's outbox. The store stays open. Close
// returns nil, and may be called more than once.
func (c *Client) Close() error {
	c.cancel()
	c.wg.Wait()
	c.release()
	for {
		select {
		case d := <-c.dialled: // too late for the loop
			if d.conn != nil {
				d.conn.Close()
			}
		default:
			return nil
		}
	}
}

// Events returns what happens, in order; it must be read. When EventBuffer
// events wait, the client stops reading from the network, answers to what is sent
// included, and the server drops pushes that it tells the client to pull later:
// nothing is lost, and memory stays bounded. The log and the errors of what waits in
// vain say so. Events is closed by Close; entries that were not read by then
// are in the store.
func (c *Client) Events() <-chan Event { return c.events }

// State returns what the connection is doing.
func (c *Client) State() State { return State(c.state.Load()) }

// NetworkChanged says that the device is on another network, or again on one: the
// connection is made anew at once, unless SetOnline(false) rules. Name tells
// networks apart, as "wifi/home" or "mobile/262-01": how far apart heartbeats may
// be is found out and stored for each of 16. It may be empty; of more than 128
// bytes the error is of KindInvalid, and nothing has changed. The other errors, of
// this method and the three that follow: the client is closed (KindUnavailable), or
// its store has failed. A client that has stopped returns why, and changes nothing;
// Reconnect makes it go on.
func (c *Client) NetworkChanged(name string) error {
	return c.do(context.Background(), engine.NetworkChanged{Name: name})
}

// SetOnline says whether the app wants a connection; at first it does. Without
// one the state is Offline, and everything that needs none goes on: what is sent
// is queued. With true again the client connects at once.
func (c *Client) SetOnline(on bool) error {
	return c.do(context.Background(), engine.Online{On: on})
}

// Reconnect makes the connection anew at once, with a new token of Options.Token. It
// is for an app that has a new token and does not want to wait for the next attempt,
// or to change to it before the old one runs out; and it is how a client goes on that
// has Stopped, when what stopped it has changed or the person wants it: after
// KindReplaced it takes the place of the other session. Under SetOnline(false) it
// waits for SetOnline(true). Within a second of a token's refusal the attempt is made
// when that is over.
func (c *Client) Reconnect() error {
	return c.do(context.Background(), engine.Reconnect{})
}

// SetForeground says whether a person looks at the app: then a connection that is
// dead is noticed within about a minute, otherwise the radio is spared.
func (c *Client) SetForeground(on bool) error {
	return c.do(context.Background(), engine.Foreground{On: on})
}

// Messages returns the last limit entries of conv in display order, from the
// local store.
func (c *Client) Messages(ctx context.Context, conv pim.ConversationID, limit int) ([]pim.Entry, error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	return c.store.Entries(ctx, conv, nil, limit)
}

// Watch follows conv from the seq after+1 on: its entries come as EntryEvents. A
// server that refuses, since the user is not a member, is a RefusedEvent with
// conv and no ID. For clients with Options.Watch only.
func (c *Client) Watch(ctx context.Context, conv pim.ConversationID, after pim.Seq) error {
	return c.do(ctx, engine.Follow{Conversation: conv, After: after})
}

// Pull returns one page of conv straight from the server: entries from..to, at
// most limit (0: 100, at most pim.MaxPageEntries), the newest of them if
// newestFirst, else the oldest. to 0 is the newest there is. It neither reads
// nor changes the local store. It waits for a connection as long as ctx allows.
func (c *Client) Pull(ctx context.Context, conv pim.ConversationID, from, to pim.Seq, limit int, newestFirst bool) (Page, error) {
	answer := make(chan engine.Pulled, 1)
	c.mu.Lock()
	c.lastAsk++
	id := c.lastAsk
	c.answers[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.answers, id)
		c.mu.Unlock()
	}()
	ask := engine.Ask{ID: id, Conversation: conv, From: from, To: to, Limit: limit, NewestFirst: newestFirst}
	if err := c.do(ctx, ask); err != nil {
		return Page{}, err
	}
	select {
	case p := <-answer:
		return p.Page, pulledErr(p)
	case <-ctx.Done():
		// Without ctx, which is over; the loop answers at once.
		_ = c.do(context.WithoutCancel(ctx), engine.Unask{ID: id})
		select {
		case p := <-answer: // in the last moment
			return p.Page, pulledErr(p)
		default:
			return Page{}, c.inVain(ctx)
		}
	case <-c.closed:
		return Page{}, ErrClosed
	}
}

// pulledErr returns p.Err as an error.
func pulledErr(p engine.Pulled) error {
	if p.Err != nil {
		return p.Err
	}
	return nil
}

// Synced waits until, since the last connect, the server's list of conversations
// has been read, every one of them has been pulled up to its newest entry (with
// Options.Watch: every watched one), and all events of that are in Events (with
// Options.Confirm: all entries of that are in the Store).
func (c *Client) Synced(ctx context.Context) error {
	for {
		if err := c.usable(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		synced, done, err := c.synced, c.isSynced, c.stopErr
		c.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-synced:
		case <-ctx.Done():
			return c.inVain(ctx)
		case <-c.closed:
			return ErrClosed
		}
	}
}

const unreadHint = "the app does not take its events: until it reads Events nothing is read from the network"

// inVain says why nothing came until the end of ctx. A Sending that no Client has
// made has none.
func (c *Client) inVain(ctx context.Context) error {
	if c != nil && c.unread.Load() {
		return fmt.Errorf("%w; %s", ctx.Err(), unreadHint)
	}
	return ctx.Err()
}

// do hands in to the loop and waits for its answer. What the loop has taken is
// not given up any more, so that the caller knows what became of it.
func (c *Client) do(ctx context.Context, in engine.Input) error {
	return c.command(ctx, command{in: in, done: make(chan error, 1)})
}

// inLoop runs f in the loop's goroutine, where the engine can be looked at.
func (c *Client) inLoop(ctx context.Context, f func() error) error {
	return c.command(ctx, command{call: f, done: make(chan error, 1)})
}

// usable says why a call does nothing: the client is closed, or ctx has ended. What
// a select would leave to chance is decided here.
func (c *Client) usable(ctx context.Context) error {
	select {
	case <-c.closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

func (c *Client) command(ctx context.Context, cmd command) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	select {
	case c.commands <- cmd:
		return <-cmd.done
	case <-ctx.Done():
		return ctx.Err()
	case <-c.closed:
		return ErrClosed
	}
}
