package imtest

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/wire"
)

// LabOptions configure a Lab. The zero value is a sound server that pushes everything.
type LabOptions struct {
	Seed       uint64
	DropPushes float64 // share of the pushes that is withheld, 0 to 1
	// Break are wrappers to put between the server's parts, see server.Options. The
	// wrappers that record into the History lie between these and the disk or the
	// connections.
	Break server.Options
	// NoLog leaves the stored logs out of the History, as if the server's disk could
	// not be read. Check then knows a log only from what users pull.
	NoLog bool
	// Moves gives the server another port each time it starts again.
	Moves bool
	// Nodes is how many nodes the server has, over one store; 0: one. A device connects to any of
	// them, and knows all of them.
	Nodes int
	// Roles are those of each node, in place of Nodes. The first one has the role gateway. Devices
	// connect to those that have it.
	Roles []bus.Role
}

// T is the part of *testing.T that a Lab needs. It is an interface so that programs
// that use the checker do not link package testing.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
	TempDir() string
}

// Lab is a server in this process, of one node or several, on a disk in memory, with users that follow a
// script. Everything that the users see goes into a History. If the lab can't do what
// the script says, the test ends.
type Lab struct {
	// Network is what is between the nodes, to be broken on purpose; nil if there is one node.
	Network *bustest.Network

	// Used by the script's goroutine.
	t       T
	o       LabOptions
	history *History
	rng     *rand.Rand // for crashes, and the seeds of what drops pushes
	places  *rand.Rand // for the nodes that devices connect to
	nodes   []*node
	keys    *account.Keys
	actors  []*Actor

	fs     *vfs.MemFS
	engine *pebble.Store
	closed bool

	// Guarded by mu.
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when something here or in an Actor changes
	sent     []pim.ClientMessageID
	answered map[pim.ClientMessageID]answered
	known    map[pim.ConversationID]bool
}

// answered is what became of a message: sent, or refused for good.
type answered struct {
	sent client.Sent
	err  *pim.Error
}

// patience is how long a script waits for an event that must come. It measures nothing:
// even on the slowest machine every event comes sooner.
const patience = 5 * time.Minute

// heartbeat is how often the lab's clients look for what they missed.
const heartbeat = time.Second

// NewLab starts a server. The lab ends with the test at the latest.
func NewLab(t T, o LabOptions) *Lab {
	t.Helper()
	l := &Lab{
		t: t, o: o, history: NewHistory(), rng: rand.New(rand.NewPCG(o.Seed, 1)), places: rand.New(rand.NewPCG(o.Seed, 3)),
		fs: vfs.NewCrashableMem(), changed: make(chan struct{}),
		answered: make(map[pim.ClientMessageID]answered), known: make(map[pim.ConversationID]bool),
	}
	roles := o.Roles
	if roles == nil {
		roles = slices.Repeat([]bus.Role{bus.AllRoles}, max(1, o.Nodes))
	}
	if len(roles) > 1 {
		l.Network = bustest.NewNetwork()
	}
	for _, r := range roles {
		l.nodes = append(l.nodes, l.newNode(r))
	}
	t.Cleanup(l.close)
	l.start()
	var err error
	if l.keys, err = account.LoadKeys(l.nodes[0].config.KeysPath()); err != nil {
		t.Fatal(err)
	}
	return l
}

// start opens the disk as it is now and starts the nodes.
func (l *Lab) start() {
	l.t.Helper()
	engine, err := pebble.Open("store", pebble.Options{FS: l.fs, Logger: quiet, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		l.t.Fatal(err)
	}
	l.engine = engine
	for _, n := range l.nodes {
		l.startNode(n)
	}
}

// Restart stops the server, as an operator would, and starts it again.
func (l *Lab) Restart() {
	l.t.Helper()
	for _, n := range l.nodes {
		n.stop(l.t)
	}
	if err := l.engine.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.start()
	l.online()
}

// online waits until every device that has its SDK open is connected again.
func (l *Lab) online() {
	l.t.Helper()
	for _, a := range l.actors {
		if a.client != nil {
			a.online()
		}
	}
}

// Crash cuts the machine's power and starts the server again on what the disk has kept:
// everything that was synced, and a random part of the rest. Crash calls powerless in
// between, when nothing can be written any more.
func (l *Lab) Crash(powerless ...func()) {
	l.t.Helper()
	l.cut(func() {
		l.history.Crash()
		l.fs = l.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: l.rng.IntN(101), RNG: l.rng})
	})
	for _, f := range powerless {
		f()
	}
	l.end()
	l.start()
	l.online()
}

// cut ends the life of all nodes' stores, see observer.cut, and then calls f, when no call of any
// node can be recorded any more.
func (l *Lab) cut(f func()) {
	for _, n := range l.nodes {
		then := f
		f = func() { n.observer.cut(then) }
	}
	f()
}

// end ends the server without grace.
func (l *Lab) end() {
	for _, n := range l.nodes {
		n.end()
	}
	_ = l.engine.Close()
}

// Addr returns where the first node listens now, for WebSockets or for raw TCP.
func (l *Lab) Addr(tcp bool) string { return l.nodes[0].addr(tcp) }

// Token returns a token for user, for devices that are not the lab's own.
func (l *Lab) Token(user pim.UserID) (string, error) {
	return l.keys.Issue(user, time.Hour, time.Now())
}

// Trims removes the entries of c up to the seq upTo, if there are any, as retention does. It waits
// until every message has been answered: what may be sent again is too young to be trimmed. All
// actors must be connected.
func (l *Lab) Trims(c pim.ConversationID, upTo pim.Seq) {
	l.t.Helper()
	l.Settled()
	entries := l.readLog(c)
	gone, _ := slices.BinarySearchFunc(entries, upTo+1, func(e pim.Entry, seq pim.Seq) int { return cmp.Compare(e.Seq, seq) })
	if gone == 0 {
		return
	}
	upTo = entries[gone-1].Seq
	l.history.Trimmed(c, upTo+1, entries[:gone])
	observer := l.nodes[0].observer
	writers := conv.New(observer, conv.Options{Shards: 1, Name: "retention", Logger: slog.New(slog.DiscardHandler)})
	defer writers.Close()
	if err := writers.Trim(context.Background(), c, upTo); err != nil {
		l.t.Fatal(err)
	}
	// A crash may take what was told to devices. Some process tells it again, but only a minute later.
	durable := &store.Write{Log: inbox.Entries(c), Raise: true}
	if err := store.Commit(context.Background(), observer, []*store.Write{durable}, store.Durable); err != nil {
		l.t.Fatal(err)
	}
}

// History returns what has been recorded so far, to record more.
func (l *Lab) History() *History { return l.history }

// Record records the logs of conversations and the offline lists of users as they are
// now. It is for conversations of devices that are not the lab's own.
func (l *Lab) Record(users []pim.UserID, conversations []pim.ConversationID) {
	l.t.Helper()
	l.change(func() {
		for _, c := range conversations {
			l.known[c] = true
		}
	})
	for _, u := range users {
		l.recordLines(u)
	}
	for _, c := range l.conversations() {
		l.recordLog(c)
	}
}

// close disconnects every actor and ends the server, if it still runs.
func (l *Lab) close() {
	for _, a := range l.actors {
		a.Disconnects()
	}
	if l.closed {
		return
	}
	l.end()
	l.closed = true
}

// Settled waits until every message has been answered. All actors must be
// connected.
func (l *Lab) Settled() {
	l.t.Helper()
	l.await("an answer to every message", func() bool {
		for _, id := range l.sent {
			if _, ok := l.answered[id]; !ok {
				return false
			}
		}
		return true
	})
}

// Finish waits for every answer, lets every device reconnect and catch up,
// records what there is at the end, and stops the server.
func (l *Lab) Finish() *History {
	l.t.Helper()
	for _, a := range l.actors {
		a.Connects()
	}
	l.Settled()
	pulled := make(map[pim.UserID]bool)
	for _, a := range l.actors {
		a.Reconnects()
		a.CatchesUp()
		a.show()
		if !pulled[a.id.User] {
			pulled[a.id.User] = true
			a.pullAll()
		}
		a.Disconnects()
	}
	for user := range pulled {
		l.recordLines(user)
	}
	if !l.o.NoLog {
		for _, c := range l.conversations() {
			l.recordLog(c)
		}
	}
	l.close()
	return l.history
}

// conversations returns, sorted, every conversation in which a message was acknowledged
// or that was given to Record.
func (l *Lab) conversations() []pim.ConversationID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Keys(l.known), cmp.Compare)
}

func (l *Lab) recordLines(user pim.UserID) {
	for _, c := range l.conversations() {
		line, listed, err := inbox.New(l.engine).Line(context.Background(), user, c)
		if err != nil {
			l.t.Fatal(err)
		}
		if !listed && c.IsGroup() { // a group that was left leaves the list when all devices have acknowledged that
			line.Newest = l.leftAt(user, c)
		}
		l.history.Line(user, c, line.Newest)
	}
}

// leftAt returns the last seq of c that user reads, who has left; 0 of a member, or if the user never was one.
func (l *Lab) leftAt(user pim.UserID, c pim.ConversationID) pim.Seq {
	l.t.Helper()
	cell, ok, err := store.Lookup(context.Background(), l.engine, inbox.Members(c), string(user))
	if err != nil {
		l.t.Fatal(err)
	}
	if !ok {
		return 0
	}
	m, err := inbox.ParseMembership(cell.Value)
	if err != nil {
		l.t.Fatal(err)
	}
	if m.Present() {
		return 0
	}
	return m.LastUpTo(math.MaxUint64)
}

func (l *Lab) recordLog(c pim.ConversationID) { l.history.Log(c, l.readLog(c)) }

// readLog returns the entries of c that are stored now.
func (l *Lab) readLog(c pim.ConversationID) (entries []pim.Entry) {
	l.t.Helper()
	for from := pim.Seq(1); ; {
		r := []store.Read{{Log: inbox.Entries(c), From: from, Limit: store.Limit{Records: 1000, Bytes: 1 << 20}}}
		if err := l.engine.Read(context.Background(), r); err != nil || r[0].Err != nil {
			l.t.Fatal(err, r[0].Err)
		}
		for _, data := range r[0].Records {
			e, err := wire.ParseEntry(c, data)
			if err != nil {
				l.t.Fatal(err)
			}
			entries = append(entries, e)
		}
		if len(r[0].Records) == 0 {
			return entries
		}
		from = r[0].First + pim.Seq(len(r[0].Records))
	}
}

// await waits until cond, which it calls with l.mu held, returns true.
func (l *Lab) await(what string, cond func() bool) {
	l.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		ok, changed := cond(), l.changed
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			l.t.Fatalf("waited %s in vain for %s", patience, what)
		}
	}
}

// change calls f with l.mu held and wakes await.
func (l *Lab) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}
