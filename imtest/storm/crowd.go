package storm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/pim-im/pim"
)

// Crowd is what a process of clients says of itself, one JSON object a line, some times a second.
type Crowd struct {
	Connected int    // now
	Tries     int    // times that a client has begun to connect: by a question to an LBS, or by dialling
	Welcomed  int    // times that a client was let in
	Last      string // the last error
}

// crowd is the processes of clients.
type crowd struct {
	procs []*clientProcess
}

type clientProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer // held open: when it is closed, as when this process has died, the clients end
	read  chan struct{}

	mu   sync.Mutex
	says Crowd
}

// BuildClients compiles the program of the clients to the file to. It needs the Go command and must be called within the module.
func BuildClients(to string) error {
	out, err := exec.Command("go", "build", "-o", to, "github.com/pim-im/pim/imtest/storm/clients").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// startCrowd starts the processes. Their clients connect at once.
func startCrowd(ctx context.Context, cfg *Config, keys string, urls []string) (*crowd, error) {
	processes := max(3, (cfg.Connections+clientsEach-1)/clientsEach)
	c := &crowd{}
	for i := range processes {
		first, end := cfg.Connections*i/processes, cfg.Connections*(i+1)/processes
		p := &clientProcess{read: make(chan struct{})}
		p.cmd = exec.CommandContext(ctx, cfg.Clients, "-keys", keys, "-servers", strings.Join(urls, ","),
			"-first", strconv.Itoa(first), "-count", strconv.Itoa(end-first), "-backoff", cfg.BackoffMax.String(), "-sync="+strconv.FormatBool(cfg.Sync), "-unprotected="+strconv.FormatBool(cfg.Unprotected))
		var said strings.Builder
		p.cmd.Stderr = &said
		stdin, err := p.cmd.StdinPipe()
		if err == nil {
			p.stdin = stdin
			var stdout io.Reader
			if stdout, err = p.cmd.StdoutPipe(); err == nil {
				if err = p.cmd.Start(); err == nil {
					go p.listen(stdout, &said)
				}
			}
		}
		if err != nil {
			c.stop()
			return nil, pim.Errorf(pim.KindUnavailable, "clients: %w", err)
		}
		c.procs = append(c.procs, p)
	}
	return c, nil
}

// listen takes what the process says until it ends.
func (p *clientProcess) listen(stdout io.Reader, said *strings.Builder) {
	defer close(p.read)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var says Crowd
		err := json.Unmarshal(lines.Bytes(), &says)
		p.mu.Lock()
		if p.says = says; err != nil {
			p.says.Last = err.Error()
		}
		p.mu.Unlock()
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.says = Crowd{Last: fmt.Sprintf("the process has ended, %v: %s", err, said)}
}

// stop ends the clients.
func (c *crowd) stop() {
	for _, p := range c.procs {
		p.cmd.Process.Kill()
	}
	for _, p := range c.procs {
		<-p.read
	}
}

// all returns the sums over all processes.
func (c *crowd) all() (sum Crowd) {
	for _, p := range c.procs {
		p.mu.Lock()
		says := p.says
		p.mu.Unlock()
		sum.Connected += says.Connected
		sum.Welcomed += says.Welcomed
		sum.Tries += says.Tries
		if says.Last != "" {
			sum.Last = says.Last
		}
	}
	return sum
}

func (c *crowd) connected() int { return c.all().Connected }

func (c *crowd) said() string {
	if last := c.all().Last; last != "" {
		return "a client's last error: " + last
	}
	return "the clients said nothing"
}
