package real

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/server"
)

// host is a server that can be killed. Each time it starts it has other
// addresses.
type host interface {
	addr(tcp bool) string
	token(user pim.UserID) (string, error)
	// kill ends the server without a word, and starts it again after down.
	kill(down time.Duration) error
	// record records what the server's disk has at the end, if it can be read.
	record(users []pim.UserID, conversations []pim.ConversationID)
}

// labHost is a server in this process that loses its power.
type labHost struct{ lab *imtest.Lab }

func (h labHost) addr(tcp bool) string                          { return h.lab.Addr(tcp) }
func (h labHost) token(u pim.UserID) (string, error)            { return h.lab.Token(u) }
func (h labHost) record(u []pim.UserID, c []pim.ConversationID) { h.lab.Record(u, c) }

func (h labHost) kill(down time.Duration) error {
	h.lab.Crash(func() { time.Sleep(down) })
	return nil
}

// processHost is a server in a process of its own, on a real disk.
type processHost struct {
	self func() *exec.Cmd
	dir  string
	keys *account.Keys

	cmd       *exec.Cmd
	in        io.Closer
	addresses addresses
}

// addresses is what a server's process prints when it is ready.
type addresses struct{ HTTP, TCP string }

// startHost starts a server. self makes a command that calls serveHost.
func startHost(self func() *exec.Cmd, dir string) (*processHost, error) {
	h := &processHost{self: self, dir: dir}
	if err := h.start(); err != nil {
		return nil, err
	}
	config := server.Config{Data: dir}
	var err error
	if h.keys, err = account.LoadKeys(config.KeysPath()); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

func (h *processHost) start() error {
	h.cmd = h.self()
	in, err := h.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	h.cmd.Stderr, h.in = os.Stderr, in
	if err := h.cmd.Start(); err != nil {
		return err
	}
	if err := json.NewEncoder(in).Encode(h.dir); err != nil {
		h.stop()
		return err
	}
	if err := json.NewDecoder(out).Decode(&h.addresses); err != nil {
		h.stop()
		return pim.Errorf(pim.KindUnavailable, "the server's process: %w", err)
	}
	return nil
}

// stop ends the process with SIGKILL.
func (h *processHost) stop() {
	_ = h.cmd.Process.Kill() // fails if it has ended
	_ = h.cmd.Wait()         // it was killed
	h.in.Close()
}

func (h *processHost) addr(tcp bool) string {
	if tcp {
		return h.addresses.TCP
	}
	return h.addresses.HTTP
}

func (h *processHost) token(u pim.UserID) (string, error) {
	return h.keys.Issue(u, time.Hour, time.Now())
}

func (h *processHost) kill(down time.Duration) error {
	h.stop()
	time.Sleep(down)
	return h.start()
}

func (h *processHost) record([]pim.UserID, []pim.ConversationID) {}

// serveHost is the other end of startHost. It serves until in ends.
func serveHost(in io.Reader, out io.Writer) error {
	config := server.Defaults()
	config.Consent = false // people here are strangers
	if err := json.NewDecoder(in).Decode(&config.Data); err != nil {
		return err
	}
	config.Listen = net.JoinHostPort(loopback.Own(), "0")
	config.ListenTCP = config.Listen
	config.IdleTimeout, config.MaxHeartbeat, config.DrainWindow = 2*time.Second, 0, 0
	config.UserLogins, config.DeviceLogins = 0, 0 // the devices come back after some milliseconds
	config.ShedTarget = 0                         // the machine may be too busy
	s, err := server.New(config, server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := s.Start(context.Background()); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(addresses{s.Addr(), s.TCPAddr()}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in) // until the parent is gone, if it has not killed this process before
	return nil
}
