package real

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
)

// running is an app that runs, in this process or in one of its own. Its reports come
// from a goroutine of its own, and none comes after kill or stop has returned.
type running interface {
	do(command) // the result is a report, or nothing if the app dies
	stop()      // the user closes the app
	kill()      // it ends between any two of its actions
}

// inside is an app in this process. kill ends its store: a batch that was stored before
// stays, a batch under way is stored or not, and nothing is stored or reported
// afterwards. Frames that were queued for the network before may still go out, as they
// do from a kernel.
type inside struct {
	commands chan command
	cancel   context.CancelFunc
	store    *mortal
	ended    chan struct{}

	mu   sync.Mutex
	dead bool
}

// startInside starts an app on store. The store is closed when the app ends.
func startInside(s spec, store client.Store, tell func(report)) *inside {
	ctx, cancel := context.WithCancel(context.Background())
	a := &inside{commands: make(chan command), cancel: cancel, store: &mortal{Store: store}, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		runApp(ctx, &s, a.store, a.commands, a.tell(tell))
		store.Close()
	}()
	return a
}

// tell returns a function that calls to as long as the app lives.
func (a *inside) tell(to func(report)) func(report) {
	return func(r report) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.dead {
			to(r)
		}
	}
}

func (a *inside) do(c command) {
	select {
	case a.commands <- c:
	case <-a.ended:
	}
}

func (a *inside) stop() {
	close(a.commands)
	<-a.ended
	a.cancel()
}

func (a *inside) kill() {
	a.mu.Lock()
	a.dead = true // before the store dies, so that errDead is not reported
	a.store.die() // under the same lock: an entry that was not reported must not be confirmed
	a.mu.Unlock()
	a.cancel()
	<-a.ended
}

// mortal is a store that stores nothing any more when its process has died.
type mortal struct {
	client.Store
	mu   sync.Mutex
	dead bool
}

var errDead = pim.Errorf(pim.KindUnavailable, "the process was killed")

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

// Apply implements client.Store.
func (m *mortal) Apply(ctx context.Context, b *client.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return m.Store.Apply(ctx, b)
}

// child is an app in a process of its own: commands go to its standard input,
// reports come from its standard output, a JSON object each. Its kill is SIGKILL.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	mu    sync.Mutex // of in
	ended chan struct{}
}

// startChild starts an app with the file of s. self makes a command that calls
// serveChild.
func startChild(self func() *exec.Cmd, s spec, tell func(report)) (*child, error) {
	c := &child{cmd: self(), ended: make(chan struct{})}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.ended)
		reports := json.NewDecoder(out)
		for {
			var r report
			if reports.Decode(&r) != nil {
				break // the process has ended; a report that was cut off is not told
			}
			tell(r)
		}
		_ = c.cmd.Wait() // it was killed, or has said what is wrong
	}()
	c.write(s)
	return c, nil
}

// write sends v to the process. If the process has died, v is lost.
func (c *child) write(v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = json.NewEncoder(c.in).Encode(v)
}

func (c *child) do(cmd command) { c.write(cmd) }

func (c *child) stop() {
	c.in.Close()
	<-c.ended
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // fails if it has ended
	<-c.ended
	c.in.Close()
}

// serveChild is the other end of startChild. It returns when in ends.
func serveChild(in io.Reader, out io.Writer) error {
	commands := json.NewDecoder(in)
	var s spec
	if err := commands.Decode(&s); err != nil {
		return err
	}
	store, err := sqlite.Open(context.Background(), s.File)
	if err != nil {
		return err
	}
	defer store.Close()
	todo := make(chan command)
	go func() {
		defer close(todo)
		for {
			var c command
			if commands.Decode(&c) != nil {
				return
			}
			todo <- c
		}
	}()
	reports := json.NewEncoder(out)
	runApp(context.Background(), &s, store, todo, func(r report) { _ = reports.Encode(r) }) // an error means that nobody reads, and then the input ends too
	return nil
}
