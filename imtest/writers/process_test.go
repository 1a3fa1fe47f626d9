package writers

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store/storetest"
)

// role makes a process of this test program a writer over the store behind the socket that
// it names.
const role = "PIM_WRITERS_STORE"

// Two processes write to one store behind a socket. One of them is killed now and then, and
// started again.
//
// PIM_SEED repeats the choices of a schedule, but not how the processes meet;
// PIM_WRITERS_PROCESSES says how many schedules are played.
func TestTwoProcesses(t *testing.T) {
	first, n := seeds.Schedules(t, 4, "PIM_WRITERS_PROCESSES")
	for seed := first; seed < first+n; seed++ {
		wrong, err := playTwo(seed)
		if err != nil {
			t.Fatalf("PIM_SEED=%d: %v", seed, err)
		}
		if len(wrong) > 0 {
			t.Errorf("PIM_SEED=%d:\n%s", seed, strings.Join(wrong, "\n"))
		}
	}
}

// playTwo plays the schedule of a seed, and returns what was wrong in it.
func playTwo(seed uint64) (wrong []string, err error) {
	dir, err := os.MkdirTemp("", "pim") // t.TempDir is too long for the name of a socket
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "store"))
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	mem := storetest.NewMemory()
	loose := storetest.Loose(mem, seed)
	loose.FailRate(float64(rng.IntN(3)) * 0.05)
	var served sync.WaitGroup
	served.Go(func() { storetest.Serve(l, loose) })
	b := newBook()
	p := &pair{book: b, plan: &plan{book: b, rng: rng}, socket: l.Addr().String()}
	err = p.run(seed, func() { loose.FailRate(0) })
	l.Close()
	served.Wait() // what a dead writer had under way is over
	if err != nil {
		return nil, err
	}
	j := &judge{book: b, store: mem}
	return j.check(p.plan.conversations()), nil
}

// pair is a writer in this process and one in another.
type pair struct {
	book   *book
	plan   *plan
	socket string
	here   *conv.Writers

	mu    sync.Mutex
	there *process // the process of the present life
	life  int
	err   error // why the next life could not begin
}

// run sends what the plan says, and, when heal has been called, again whatever has no answer.
func (p *pair) run(seed uint64, heal func()) (err error) {
	s, err := storetest.Dial("unix", p.socket)
	if err != nil {
		return err
	}
	defer s.Close()
	p.here = conv.New(s, options())
	defer p.here.Close()
	if p.there, err = start(p.socket); err != nil {
		return err
	}
	defer func() { p.there.end() }()
	var senders sync.WaitGroup
	for i := range 6 {
		rng := rand.New(rand.NewPCG(seed, uint64(i+1)))
		senders.Go(func() {
			for range 20 {
				p.send(p.plan.next(), rng.IntN(2))
				if rng.IntN(50) == 0 {
					p.kill()
				}
			}
		})
	}
	senders.Wait()
	heal()
	if p.err != nil {
		return p.err
	}
	for i, r := range p.book.requests {
		for try := 0; !r.settled(); try++ {
			if try == 100 {
				return fmt.Errorf("%s has no answer", r)
			}
			p.send(r, (i+try)%2)
		}
	}
	return nil
}

// send sends r to a writer and waits for the answer.
func (p *pair) send(r *request, to int) {
	p.mu.Lock()
	there, life := p.there, p.life
	p.mu.Unlock()
	t := p.book.send(r, to, life)
	c := r.Request
	c.Attempt = t.says()
	if to == 0 {
		p.book.answered(t, submit(p.here, &c))
		return
	}
	var a Told
	if err := there.Call("Writer.Submit", &c, &a); err != nil {
		p.book.died(t)
		return
	}
	p.book.answered(t, a)
}

// kill kills the other process, and starts the next one.
func (p *pair) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	if p.err = p.there.cmd.Process.Kill(); p.err != nil {
		return
	}
	p.there.end()
	var next *process
	if next, p.err = start(p.socket); p.err == nil {
		p.there = next
		p.life++
	}
}

// process is a writer in another process.
type process struct {
	*rpc.Client
	cmd *exec.Cmd
}

func start(socket string) (*process, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+socket)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{rpc.NewClient(pipes{out, in}), cmd}, nil
}

// end waits until the process has ended. If it was not killed, it ends because nobody asks it
// anything any more.
func (p *process) end() {
	p.Close()
	p.cmd.Wait() // fails if it was killed
}

// pipes are the two directions of a connection.
type pipes struct {
	io.ReadCloser
	out io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.out.Write(b) }

// Close closes the way out. The other side then ends, and the way in with it.
func (p pipes) Close() error { return p.out.Close() }

// serveWriter is what the other process does.
func serveWriter() error {
	s, err := storetest.Dial("unix", os.Getenv(role))
	if err != nil {
		return err
	}
	w := conv.New(s, options())
	server := rpc.NewServer()
	if err := server.RegisterName("Writer", clerk{w}); err != nil {
		return err
	}
	server.ServeConn(pipes{os.Stdin, os.Stdout})
	w.Close()
	return s.Close()
}

// clerk takes requests from another process.
type clerk struct{ w *conv.Writers }

// Submit answers r.
func (c clerk) Submit(r *conv.Request, a *Told) error {
	*a = submit(c.w, r)
	return nil
}

// submit submits r, and waits for the answer.
func submit(w *conv.Writers, r *conv.Request) Told {
	answer := make(chan Told, 1)
	r.Origin = answer
	w.Submit([]*conv.Request{r})
	return <-answer
}

func options() conv.Options {
	return conv.Options{Outlet: mailboxes{}, EditWindow: window, RecallWindow: window, Shards: 2, Members: groupMembers, Logger: slog.New(slog.DiscardHandler)}
}

// mailboxes is an Outlet that hands each answer to the goroutine that waits for it.
type mailboxes struct{}

// Deliver implements conv.Outlet.
func (mailboxes) Deliver(answers []conv.Answer, _ []conv.Published) {
	for i := range answers {
		answers[i].Request.Origin.(chan Told) <- toldBy(&answers[i])
	}
}
