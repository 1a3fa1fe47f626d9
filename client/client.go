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
	// Set before the loop starts, and not changed afterwards.
	options Options
	log     *slog.Logger
	dialers map[string]*transport.Dialer // of the configured servers
	store   Store
	key     [16]byte  // the store's secret, for the IDs of answers
	release func()    // gives up the claim on store
	begun   time.Time // origin of engine.Time.Mono

	// Used by every goroutine.
	ctx      context.Context // ends at Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup // the loop, dials, calls of Options.Token, and closing connections
	commands chan command
	dialled  chan dialled
	found    chan found
	asking   chan struct{} // capacity 1; full while the app is asked for a token
	events   chan Event
	state    atomic.Uint32
	beside   beside
	unread   atomic.Bool   // the app has left its events untaken for at least patience
	closed   chan struct{} // closed when the loop has ended

	loop loop // owned by the loop's goroutine

	// mu guards everything below.
	mu       sync.Mutex
	sendings map[pim.ClientMessageID][]*Sending
	answers  map[uint64]chan engine.Pulled
	fills    map[uint64]chan engine.Filled
	settings map[string]pim.Setting // as the app was told, by entity
	user     pim.UserID
	reading  map[pim.ConversationID]bool // a person reads them, if the app is inFront
	inFront  bool
	lastAsk  uint64
	synced   chan struct{} // closed while everything is synced
	isSynced bool
	stopErr  error         // why the client has stopped; nil if it has not
	stopped  chan struct{} // closed while the client has stopped
}

// ErrClosed is the error of every call after Close, and of every call that Close
// interrupts. Its kind is KindUnavailable.
var ErrClosed = pim.Errorf(pim.KindUnavailable, "the client is closed")

// Open checks o, loads the store and starts to connect in the background. ctx
// bounds Open only. The caller must read Events, and Close the client in the end.
//
// Errors: KindInvalid if o is not valid, KindConflict if the store belongs to another
// user or device or another Client uses it, and the store's own.
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
		commands: make(chan command), dialled: make(chan dialled, maxDials), found: make(chan found, maxDials),
		asking: make(chan struct{}, 1), closed: make(chan struct{}),
		sendings: make(map[pim.ClientMessageID][]*Sending),
		answers:  make(map[uint64]chan engine.Pulled),
		fills:    make(map[uint64]chan engine.Filled),
		settings: make(map[string]pim.Setting, len(snapshot.Settings)),
		reading:  make(map[pim.ConversationID]bool),
		user:     cmp.Or(snapshot.Meta.User, o.User),
		synced:   make(chan struct{}), stopped: make(chan struct{}),
	}
	for _, set := range snapshot.Settings {
		c.settings[set.Entity] = set.Setting
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.state.Store(uint32(Connecting))
	c.loop.dialling = make(map[uint64]context.CancelFunc)
	if o.Confirm { // no buffer: entries would fill it, and other events would wait behind them
		c.loop.feed.begin(snapshot.Meta)
		c.loop.room, c.events = o.EventBuffer, make(chan Event)
	} else {
		c.events = make(chan Event, o.EventBuffer)
	}
	c.loop.engine = engine.New(engine.Config{
		User: o.User, Device: o.Device, Agent: o.Agent, Watch: o.Watch, Peek: o.Peek, Confirms: o.Confirm, Servers: o.servers(), LBS: o.lbs(),
		BackoffMin: o.BackoffMin, BackoffMax: o.BackoffMax, RequestTimeout: o.RequestTimeout,
		LazyGap: o.LazyGap, Random: mathrand.Float64,
	}, snapshot)
	return c, nil
}

// Close stops every goroutine of the client and closes Events. Acknowledgements that
// wait to be coalesced are transmitted first, if the connection takes them within
// 250 ms. Messages without an answer stay in the store's outbox. The store stays open.
// Close returns nil, and may be called more than once.
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

// Events returns the channel of what happens, in order. The app must read it. While
// EventBuffer events wait, the client reads nothing from the network, not even the
// answers to its messages. The server then drops pushes, and tells the client later to
// pull: nothing is lost, and memory stays bounded. The log says so, and so does the
// error of a call that waits in vain. Close closes the channel; entries that were not
// read by then are in the store.
func (c *Client) Events() <-chan Event { return c.events }

// State returns what the connection is doing.
func (c *Client) State() State { return State(c.state.Load()) }

// NetworkChanged says that the device is on another network, or has a network again.
// The client then makes a new connection at once, unless the app has called
// SetOnline(false). name tells networks apart, such as "wifi/home" or "mobile/262-01",
// and may be empty. For each of up to 16 names the client finds out how far apart
// heartbeats may be, and stores it.
//
// Errors: KindInvalid if name has more than 128 bytes; the reason why the client has
// stopped, if it has (Reconnect makes it go on); ErrClosed; and the failure of the
// store. After an error nothing has changed.
func (c *Client) NetworkChanged(name string) error {
	if len(name) <= maxNetworkName {
		c.beside.onNetwork(name) // before the dial that follows at once
	}
	return c.do(context.Background(), engine.NetworkChanged{Name: name})
}

// SetOnline says whether the app wants a connection; a new Client assumes so. After
// SetOnline(false) the state is Offline, and everything that needs no connection goes
// on: messages are queued. After SetOnline(true) the client connects at once. Errors:
// those of NetworkChanged, without KindInvalid.
func (c *Client) SetOnline(on bool) error {
	return c.do(context.Background(), engine.Online{On: on})
}

// Reconnect makes a new connection at once, with a new token from Options.Token. An app
// calls it to use a new token without waiting for the next attempt, or before the old
// token runs out. Reconnect is also how a client that has Stopped goes on, once the
// reason is gone or the person wants to: after KindReplaced it replaces the other
// session. After SetOnline(false) it does nothing: SetOnline(true) connects. Within
// 2·BackoffMin (1 s by default) after a token was refused, the attempt is made when
// that time is over; if all servers have said that they are overloaded, when the first of
// them may be asked. Errors: ErrClosed, and the failure of the store.
func (c *Client) Reconnect() error {
	return c.do(context.Background(), engine.Reconnect{})
}

// SetForeground says whether a person looks at the app; a new Client assumes not. If so, the
// client notices a dead connection within about a minute, and what comes in the conversations
// that are open is read (Conversation.Open); if not, heartbeats are rarer, to spare the radio.
// Errors: ErrClosed, and the failure of the store.
func (c *Client) SetForeground(on bool) error {
	return c.inLoop(context.Background(), func() error {
		c.mu.Lock()
		c.inFront = on
		c.mu.Unlock()
		return c.step(engine.Foreground{On: on})
	})
}

// Messages returns the last limit entries of conv in display order, from the
// local store.
func (c *Client) Messages(ctx context.Context, conv pim.ConversationID, limit int) ([]pim.Entry, error) {
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	return c.store.Entries(ctx, conv, nil, limit)
}

// Watch follows conv from the seq after+1 on: its entries come as EntryEvents. If the
// server refuses, since the user is not a member, a RefusedEvent for conv comes. For
// clients with Options.Watch only.
func (c *Client) Watch(ctx context.Context, conv pim.ConversationID, after pim.Seq) error {
	return c.do(ctx, engine.Follow{Conversation: conv, After: after})
}

// Pull returns one page of conv straight from the server: entries from..to, at
// most limit (0: 100, at most pim.MaxPageEntries), the newest of them if
// newestFirst, else the oldest. If to is 0, it stands for the newest seq. Pull neither
// reads nor changes the local store. It waits for a connection as long as ctx allows.
func (c *Client) Pull(ctx context.Context, conv pim.ConversationID, from, to pim.Seq, limit int, newestFirst bool) (Page, error) {
	p, err := c.ask(ctx, func(id uint64) engine.Input {
		return engine.Ask{ID: id, Conversation: conv, From: from, To: to, Limit: limit, NewestFirst: newestFirst}
	})
	return p.Page, err
}

// ask hands the loop the input that in makes for a new ID, an Ask, AskReceipts or AskMembers, and waits for
// its answer.
func (c *Client) ask(ctx context.Context, in func(id uint64) engine.Input) (engine.Pulled, error) {
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
	if err := c.do(ctx, in(id)); err != nil {
		return engine.Pulled{}, err
	}
	select {
	case p := <-answer:
		return p, pulledErr(p)
	case <-ctx.Done():
		// ctx has ended, so the call goes without it; the loop answers at once.
		_ = c.do(context.WithoutCancel(ctx), engine.Unask{ID: id})
		select {
		case p := <-answer: // in the last moment
			return p, pulledErr(p)
		default:
			return engine.Pulled{}, c.inVain(ctx)
		}
	case <-c.closed:
		return engine.Pulled{}, ErrClosed
	}
}

// pulledErr returns p.Err as an error.
func pulledErr(p engine.Pulled) error {
	if p.Err != nil {
		return p.Err
	}
	return nil
}

// Synced waits until all of this has happened since the last connect: the client has
// read the server's list of conversations, has pulled every conversation of the list
// (with Options.Watch: every watched one) up to its newest entry, and has put all events
// of these into Events (with Options.Confirm: all entries into the Store). If the client
// has stopped, Synced returns why.
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

// inVain returns the error of a call that waited until ctx ended, and names the app's
// untaken events if they may be the reason. c is nil for a Sending that no Client has
// made.
func (c *Client) inVain(ctx context.Context) error {
	if c != nil && c.unread.Load() {
		return fmt.Errorf("%w; %s", ctx.Err(), unreadHint)
	}
	return ctx.Err()
}

// do hands in to the loop and waits for its answer. Once the loop has taken in, do waits
// even if ctx ends, so that the caller knows what became of it.
func (c *Client) do(ctx context.Context, in engine.Input) error {
	return c.command(ctx, command{in: in, done: make(chan error, 1)})
}

// inLoop runs f in the loop's goroutine, where the engine can be looked at.
func (c *Client) inLoop(ctx context.Context, f func() error) error {
	return c.command(ctx, command{call: f, done: make(chan error, 1)})
}

// usable returns an error if the client is closed or ctx has ended. Calls check this
// first, because a select would choose at random among all cases that are ready.
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
