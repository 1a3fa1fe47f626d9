package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/strictjson"
)

// A running server takes orders from whoever may use its data directory, on a socket in it: the
// store is the server's alone while it runs. Only the owner of the socket's file, and root, may
// connect.

const (
	adminSocket  = "admin.sock"
	adminRequest = 64 << 10 // bytes of a request, at most
	adminAnswer  = 4 << 20  // bytes of an answer, at most
)

// socketPath returns where the socket of the server on c.Data is.
func (c *Config) socketPath() string { return filepath.Join(c.Data, adminSocket) }

// backupOrder is the body of POST /backup.
type backupOrder struct {
	Dir string `json:"dir"` // absolute
}

// drainOrder is the body of POST /drain.
type drainOrder struct {
	Node  string `json:"node"`
	Drain bool   `json:"drain"` // false: it no longer drains
}

// adminError is the body of an answer that is no success.
type adminError struct {
	Kind pim.Kind `json:"kind"`
	Text string   `json:"text"`
}

// serveAdmin begins to take orders. A server that cannot goes on without: it logs a warning.
func (s *Server) serveAdmin() {
	path := s.config.socketPath()
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		// The lock of an embedded store is this process's, so the socket is of a server that was killed. With
		// a store elsewhere several servers may have one data directory; the first takes the orders.
		if other, err := net.Dial("unix", path); err == nil {
			other.Close()
			s.log.Warn("another server takes the orders on this data directory", "socket", path)
			return
		}
		_ = os.Remove(path)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		if err = os.Chmod(path, 0o600); err != nil {
			listener.Close()
		}
	}
	if err != nil {
		s.log.Warn("the server takes no orders, so pim backup works only while it is stopped", "socket", path, "error", err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /backup", s.orderBackup)
	mux.HandleFunc("POST /status", s.orderStatus)
	mux.HandleFunc("POST /drain", s.orderDrain)
	mux.HandleFunc("POST /revoke", s.orderRevoke)
	mux.HandleFunc("POST /standing", s.orderStanding)
	s.adminL = listener
	s.admin = &http.Server{Handler: mux, ConnContext: withPeer, ReadHeaderTimeout: s.config.HandshakeTimeout, ErrorLog: log.New(httpLog{log: s.log}, "", 0)}
	s.serving.Go(func() { _ = s.admin.Serve(listener) }) // whether orders are taken decides nothing else
}

// readOrder reads the body of an order. If it is wrong, readOrder answers it and returns false.
func readOrder(w http.ResponseWriter, r *http.Request, order any, check func() error) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, adminRequest))
	if err == nil {
		err = strictjson.Unmarshal(body, order)
	}
	if err == nil {
		err = check()
	}
	if err != nil {
		answer(w, nil, pim.Errorf(pim.KindInvalid, "order: %w", err))
	}
	return err == nil
}

func (s *Server) orderStatus(w http.ResponseWriter, r *http.Request) {
	if readOrder(w, r, new(struct{}), func() error { return nil }) {
		answer(w, s.clusterStatus(r.Context()), nil)
	}
}

func (s *Server) orderDrain(w http.ResponseWriter, r *http.Request) {
	var order drainOrder
	if readOrder(w, r, &order, func() error { return nil }) {
		act := "drain"
		if !order.Drain {
			act = "undrain"
		}
		end := s.audit.begin(r.Context(), Audit{Act: act, Node: order.Node})
		err := s.drainNode(r.Context(), order.Node, order.Drain)
		end(err, 0)
		s.log.Info("an order to drain, or to end that", "node", order.Node, "drain", order.Drain, "error", err)
		answer(w, nil, err)
	}
}

func (s *Server) orderRevoke(w http.ResponseWriter, r *http.Request) {
	var order Revoke
	if readOrder(w, r, &order, order.check) {
		end := s.audit.begin(r.Context(), Audit{Act: order.act(), User: order.User, Device: order.Device, Token: order.Token, Before: order.Before})
		done, err := s.revoke(r.Context(), order)
		end(err, done.Ended)
		s.log.Info("an order about a user's access", "act", order.act(), "ended", done.Ended, "missed", done.Missed, "error", err) // the audit log has the user
		answer(w, done, err)
	}
}

func (s *Server) orderStanding(w http.ResponseWriter, r *http.Request) {
	var order standingOrder
	if readOrder(w, r, &order, func() error { return nil }) {
		st, err := s.standing(r.Context(), order.User)
		answer(w, st, err)
	}
}

func (s *Server) orderBackup(w http.ResponseWriter, r *http.Request) {
	var order backupOrder
	if !readOrder(w, r, &order, func() error {
		if !filepath.IsAbs(order.Dir) {
			return errors.New("the directory is not absolute")
		}
		return nil
	}) {
		return
	}
	s.log.Info("a backup begins", "directory", order.Dir)
	end := s.audit.begin(r.Context(), Audit{Act: "backup", Path: order.Dir})
	err := s.backUp(r.Context(), order.Dir)
	end(err, 0)
	if err != nil {
		s.log.Warn("there is no backup", "directory", order.Dir, "error", err)
	} else {
		s.log.Info("a backup is made", "directory", order.Dir)
	}
	answer(w, nil, err)
}

// answer answers an order, with result if err is nil. A nil result is an empty object.
func answer(w http.ResponseWriter, result any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		if result == nil {
			result = struct{}{}
		}
		_ = json.NewEncoder(w).Encode(result) // who asked may have gone
		return
	}
	w.WriteHeader(http.StatusConflict)
	_ = json.NewEncoder(w).Encode(adminError{pim.KindOf(err), err.Error()}) // who asked may have gone
}

// errNotRunning says that no server runs on a data directory.
var errNotRunning = errors.New("no server runs on this data directory")

// order gives the server on c.Data an order, waits until it has carried it out, and fills result, unless that is
// nil. Errors: errNotRunning, those of the server, KindUnavailable if it ends meanwhile, and ctx's.
func (c *Config) order(ctx context.Context, name string, order, result any) error {
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", c.socketPath())
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://pim/"+name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL):
		return errNotRunning
	default:
		return pim.Errorf(pim.KindUnavailable, "order to the server: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, adminAnswer))
	if err != nil {
		return pim.Errorf(pim.KindUnavailable, "answer of the server: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(text, result); err != nil {
			return pim.Errorf(pim.KindUnavailable, "answer of the server: %w", err)
		}
		return nil
	}
	var refused adminError
	if json.Unmarshal(text, &refused) != nil || refused.Text == "" {
		return pim.Errorf(pim.KindUnsupported, "the server does not know the order %q: it is of another version", name)
	}
	return pim.Errorf(refused.Kind, "%s", refused.Text)
}
