// Package process runs a server in a process of its own, which can be killed with
// SIGKILL and started again on the same data directory and the same addresses.
package process

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/loopback"
)

// Process is a running server. Its methods may be called concurrently.
type Process struct {
	command   []string
	http, tcp string // addresses
	said      tail   // what the server wrote to its standard error

	killing sync.Mutex // one kill and restart at a time

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	kills int
	over  bool // Stop was called
}

const startPatience = 5 * time.Minute

// Start runs command, which starts a server, and waits until the server is ready. It adds
// --listen, --listen-tcp, --data and --log-level to command: the server gets free ports on
// a loopback address, and the data directory dir.
func Start(ctx context.Context, command []string, dir string) (*Process, error) {
	// Nobody else takes them while the server is dead between a kill and its restart, see loopback.Own.
	addresses, err := loopback.Addresses(2)
	if err != nil {
		return nil, pim.Errorf(pim.KindUnavailable, "%w", err)
	}
	return StartAt(ctx, command, dir, addresses[0], addresses[1])
}

// StartAt is Start for a server whose addresses, for HTTP and for raw TCP, others have to know before it starts.
func StartAt(ctx context.Context, command []string, dir, http, tcp string) (*Process, error) {
	if len(command) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "neither a server nor a command that starts one")
	}
	p := &Process{http: http, tcp: tcp}
	p.command = append(append([]string{}, command...),
		"--listen", p.http, "--listen-tcp", p.tcp, "--data", dir, "--log-level", "error")
	if err := p.start(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// URL returns the server's address: raw TCP, or HTTP for WebSocket.
func (p *Process) URL(tcp bool) string {
	if tcp {
		return "tcp://" + p.tcp
	}
	return "http://" + p.http
}

// start runs the command and waits until it is ready.
func (p *Process) start(ctx context.Context) error {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return nil
	}
	cmd := exec.Command(p.command[0], p.command[1:]...)
	// The server has the command's settings only: PIM_ variables of the caller are left out. It sheds nothing unless
	// the command says so: a machine that runs tests is often too busy for all of it.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PIM_") })
	cmd.Env = append(cmd.Env, "PIM_SHED_TARGET=0s")
	cmd.SysProcAttr = diesWithParent()
	cmd.Stderr = &p.said
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return pim.Errorf(pim.KindUnavailable, "start %s: %w", p.command[0], err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process, which Stop kills
		cmd.Wait()
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		if p.ready(ctx) {
			return nil
		}
		select {
		case <-ended:
			return pim.Errorf(pim.KindUnavailable, "%s ended at once, %s: %s", p.command[0], cmd.ProcessState, p.Said())
		case <-ctx.Done():
			return pim.Errorf(pim.KindTimeout, "%s is not ready after %v", p.command[0], startPatience)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Process) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/readyz", p.http), nil)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Kill ends the server with SIGKILL and starts it again. If between is not nil, it is
// called while the server is not there.
func (p *Process) Kill(ctx context.Context, between func() error) error {
	p.killing.Lock()
	defer p.killing.Unlock()
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return nil
	}
	p.kills++
	p.cmd.Process.Kill()
	ended := p.ended
	p.mu.Unlock()
	<-ended
	if between != nil {
		if err := between(); err != nil {
			return err
		}
	}
	return p.start(ctx)
}

// Replace ends the server with SIGTERM, as an operator does, waits until it has stopped by itself, and starts the
// program in its place, with the same arguments. An error tells of a server that does not end within two
// minutes, ends with an error, or does not start.
func (p *Process) Replace(ctx context.Context, program string) error {
	p.killing.Lock()
	defer p.killing.Unlock()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	timeout := time.NewTimer(startPatience)
	defer timeout.Stop()
	select {
	case <-ended:
	case <-timeout.C:
		return pim.Errorf(pim.KindTimeout, "%s has not ended %v after SIGTERM", p.command[0], startPatience)
	case <-ctx.Done():
		return ctx.Err()
	}
	if !cmd.ProcessState.Success() {
		return pim.Errorf(pim.KindUnavailable, "%s ended with %s: %s", p.command[0], cmd.ProcessState, p.Said())
	}
	p.command[0] = program
	return p.start(ctx)
}

// Signal sends the server a signal, such as SIGSTOP and SIGCONT. Stop ends a server that is
// stopped by a signal as well.
func (p *Process) Signal(signal os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(signal); err != nil {
		return pim.Errorf(pim.KindUnavailable, "%v to %s: %w", signal, p.command[0], err)
	}
	return nil
}

// Said returns the last 2 KiB that the server wrote to its standard error, over all its starts.
func (p *Process) Said() string { return p.said.String() }

// Kills returns how often the server was killed.
func (p *Process) Kills() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kills
}

// Stop ends the server for good.
func (p *Process) Stop() {
	p.mu.Lock()
	p.over = true
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		<-ended
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

const tailBytes = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b...)
	if extra := len(t.data) - tailBytes; extra > 0 {
		t.data = t.data[extra:]
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.data))
}
