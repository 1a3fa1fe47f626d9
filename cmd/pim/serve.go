package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/web"
)

type serveCmd struct {
	server.Config
	JSON bool `name:"json" help:"Print where the server listens as one JSON object."`
}

// listening is what serve prints once clients can connect.
type listening struct {
	URL  string `json:"url"`            // for --server; empty if clients connect to other nodes
	HTTP string `json:"http"`           // HOST:PORT
	TCP  string `json:"tcp"`            // HOST:PORT; empty if off
	QUIC string `json:"quic,omitempty"` // HOST:PORT of UDP, if there is QUIC
	Data string `json:"data"`
	PID  int    `json:"pid"`
	Pin  string `json:"tls_pin,omitempty"` // for --tls-pin, with tls-self-signed
}

// Run serves until ctx ends, then stops gracefully.
func (c *serveCmd) Run(ctx context.Context, s streams) error {
	if err := c.Validate(); err != nil {
		return err
	}
	outliveReaders()
	lines := newLogWriter(s.err)
	defer lines.close()
	log := newLogger(c.LogLevel, c.LogFormat, lines)
	// SIGHUP asks the server to read the keys and the certificate again, unless it means
	// that the terminal was closed. It is caught from here on, so that it does not end the
	// process before the server has started or while the server stops.
	term := findTerminal()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // until the process ends: while it stops, SIGHUP ends nothing either
	listeners, err := server.Listen(ctx, c.Config)
	if err != nil {
		return startHint(err)
	}
	srv, err := server.New(c.Config, server.Options{Logger: log, Version: version(), Listeners: listeners})
	if err != nil {
		listeners.Close()
		return dataHint(err)
	}
	if err := srv.Start(ctx); err != nil {
		return errors.Join(err, c.stop(ctx, srv))
	}
	if err := c.announce(srv.Addr(), srv.TCPAddr(), srv.QUICAddr(), srv.Pin(), s.out); err != nil {
		log.Warn("cannot print where the server listens", "error", err)
	}
	c.serve(ctx, srv, hangup, term, log)
	return errors.Join(srv.Err(), c.stop(ctx, srv))
}

// serve waits until the server has ended or must be stopped.
func (c *serveCmd) serve(ctx context.Context, srv *server.Server, hangup <-chan os.Signal, term *ownTerminal, log *slog.Logger) {
	look := time.NewTicker(terminalLook)
	defer look.Stop()
	for {
		closed := false
		select {
		case <-srv.Done():
			return
		case <-ctx.Done():
			log.Info("stopping; a second signal stops at once", "timeout", c.ShutdownTimeout)
			return
		case <-look.C:
			closed = term.closed(time.Now())
		case <-hangup:
			if closed = term.hungUp(time.Now()); closed {
				break
			}
			if srv.Reload(ctx) == nil { // what is wrong is in the log
				log.Info("SIGHUP: the keys and the certificate in use are those of the files")
			}
		}
		if closed {
			log.Info("stopping, since the terminal was closed; nohup lets a server outlive it", "timeout", c.ShutdownTimeout)
			return
		}
		if !term.there {
			look.Stop()
		}
	}
}

// stop ends the server. ctx has usually ended already: what remains of the work
// gets a time limit of its own.
func (c *serveCmd) stop(ctx context.Context, srv *server.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
	defer cancel()
	return srv.Shutdown(ctx)
}

// dataHint says what to do about files that a server cannot work with.
func dataHint(err error) error {
	kind := pim.KindOf(err)
	switch {
	case kind == pim.KindCorrupt, kind == pim.KindInvalid: // a file of the store, or one that another setting names, is missing
		return err
	case errors.Is(err, syscall.EAGAIN): // its lock is taken
		return &hintedError{err, "another server uses this data; stop it, or name another directory with --data"}
	case errors.Is(err, fs.ErrNotExist), wrongFile(err):
		return &usageError{&hintedError{err, "name files that the server may read and write with --data and --keys"}, "serve"}
	case kind == pim.KindForbidden || kind == pim.KindNotFound:
		return &usageError{err, "serve"}
	}
	return err
}

// wrongFile reports whether err says that a file cannot be used because of what it is or
// where it is, so that trying again does not help.
func wrongFile(err error) bool {
	for _, why := range []error{
		fs.ErrPermission, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EROFS, syscall.ENXIO, syscall.ENODEV, syscall.EINVAL,
	} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

// startHint says what to do about addresses that a server cannot listen on.
func startHint(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &hintedError{err, "another server may be running; stop it, or name other addresses with --listen and --listen-tcp"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &hintedError{err, "this machine has no such address; name others with --listen and --listen-tcp"}
	case errors.Is(err, fs.ErrPermission):
		return &hintedError{err, "ports below 1024 take a privilege; name others with --listen and --listen-tcp"}
	}
	return err
}

func newLogger(level, format string, w io.Writer) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo // Validate has let only known levels through
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// announce prints where the server listens and what to do next.
func (c *serveCmd) announce(addr, tcp, quic, pin string, w io.Writer) error {
	l := listening{URL: c.url(addr), HTTP: addr, TCP: tcp, QUIC: quic, Data: c.Data, PID: os.Getpid(), Pin: pin}
	pages := l.URL
	if !c.TakesConnections() {
		l.URL = ""
	}
	if c.JSON {
		return json.NewEncoder(w).Encode(l)
	}
	if l.URL == "" {
		_, err := fmt.Fprintf(w, "pim serves other nodes as %s; its pages are at %s, its data is in %s\nUsers connect to nodes with the role gateway.\n\n", c.Roles, pages, c.kept())
		return err
	}
	where := l.URL
	if tcp != "" {
		where += " and, for raw TCP, " + tcp
	}
	flags, trust := c.clientFlags(l.URL), ""
	if pin != "" {
		flags += " --tls-pin " + quote(pin)
		trust = "It has signed its certificate itself: clients trust its key by --tls-pin " + quote(pin) + "; browsers cannot be told, and warn.\n"
	}
	if c.verifiesOnly() {
		_, err := fmt.Fprintf(w, `pim serves %s; its data is in %s
%sUsers come in with tokens that somebody else issues: no key in %s has a private part.

`, where, c.kept(), trust, c.KeysPath())
		return err
	}
	inBrowser := ""
	if c.Page && c.PicksNames() && web.Built() {
		inBrowser = "open " + l.URL + " in a browser, or "
	}
	_, err := fmt.Fprintf(w, `pim serves %s; its data is in %s
%sTo chat, %spaste each of these lines into a terminal of its own:

  %s chat --as alice --to bob%s
  %s chat --as bob --to alice%s

`, where, c.kept(), trust, inBrowser, program(), flags, program(), flags)
	return err
}

// kept returns where messages are kept.
func (c *serveCmd) kept() string {
	if c.Store != "" {
		return c.Store
	}
	return c.Data
}

// verifiesOnly reports whether no key in the key file can sign a token.
func (c *serveCmd) verifiesOnly() bool {
	keys, err := account.LoadKeys(c.KeysPath())
	return err == nil && !keys.CanIssue()
}

// url returns the address for clients on this machine.
func (c *serveCmd) url(addr string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
	}
	if c.Encrypts() {
		return "https://" + addr
	}
	return "http://" + addr
}

// clientFlags returns what a client on this machine must be told because it
// differs from the defaults, each flag with a space before it.
func (c *serveCmd) clientFlags(url string) string {
	defaults := server.Defaults()
	var b strings.Builder
	if filepath.Clean(c.Data) != filepath.Clean(defaults.Data) { // with --keys too: chats keep their stores there
		b.WriteString(" --data " + quote(c.Data))
	}
	if c.Keys != "" {
		b.WriteString(" --keys " + quote(c.Keys))
	}
	if url != defaultServer {
		b.WriteString(" --server " + quote(url))
	}
	return b.String()
}

// quote writes s as one word of a POSIX shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/.:-_", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
