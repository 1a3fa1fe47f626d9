package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
)

// The audit log has what operators have a running server do: a line of JSON when an act begins, and one
// when it has ended, in the data directory of the node that was told. An act is carried out even if it
// cannot be noted: a full disk must keep nobody from signing out a stolen phone. Then the
// server's own log has an error. It holds no key and no token.

const (
	auditFile  = "audit.jsonl"
	auditBytes = 8 << 20  // of one file; then it is renamed to audit.jsonl.1, and that to audit.jsonl.2
	auditText  = 1 << 10  // of a path, a node or an error
	auditFiles = 5        // at most, with the one that is written
	auditLine  = 64 << 10 // bytes of a line that are read; none that is written has more
)

// Audit is one line of the audit log. The names in JSON are stable.
type Audit struct {
	At    pim.Millis `json:"at_ms"`
	Time  string     `json:"time"`            // At for people
	Act   string     `json:"act"`             // revoke, block, unblock, drain, undrain, backup, keys, certificate
	ID    string     `json:"id"`              // the same in both lines of an act
	State string     `json:"state"`           // begun, done or failed
	Who   string     `json:"who,omitempty"`   // the operating system's user who gave the order; empty: a file has changed
	UID   *int       `json:"uid,omitempty"`   // that user's number
	Error string     `json:"error,omitempty"` // why it failed

	// What it is about.
	Node   string       `json:"node,omitempty"`
	User   pim.UserID   `json:"user,omitempty"`
	Device pim.DeviceID `json:"device,omitempty"`
	Token  string       `json:"token,omitempty"` // its jti
	Before pim.Millis   `json:"before_ms,omitempty"`
	Path   string       `json:"path,omitempty"`
	Ended  int          `json:"ended,omitempty"` // connections
}

// auditor writes the audit log. It opens the file for each line: acts are rare.
type auditor struct {
	dir string
	now func() time.Time
	log *slog.Logger
	ids atomic.Uint64
	mu  sync.Mutex // one line at a time
}

// begin notes that an act begins. The result notes how it has ended; it may be told how many connections
// were ended.
func (a *auditor) begin(ctx context.Context, line Audit) (end func(err error, ended int)) {
	who, _ := ctx.Value(whoKey{}).(peer)
	line.Who, line.UID = who.name, who.uid
	line.ID = fmt.Sprintf("%x-%d", a.now().UnixMilli(), a.ids.Add(1))
	line.State, line.Node, line.Path = "begun", cutTo(line.Node), cutTo(line.Path)
	a.note(line)
	return func(err error, ended int) {
		line.State, line.Ended = "done", ended
		if err != nil {
			line.State, line.Error = "failed", cutTo(err.Error())
		}
		a.note(line)
	}
}

// cutTo returns the first auditText bytes of text: it may quote what somebody has sent.
func cutTo(text string) string { return text[:min(len(text), auditText)] }

// note writes a line.
func (a *auditor) note(line Audit) {
	at := a.now()
	line.At, line.Time = pim.MillisOf(at), at.UTC().Format(time.RFC3339)
	text, err := json.Marshal(line)
	if err == nil {
		err = a.write(append(text, '\n'))
	}
	if err != nil {
		a.log.Error("the audit log cannot be written", "act", line.Act, "who", line.Who, "state", line.State, "error", err)
	}
}

func (a *auditor) write(line []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := filepath.Join(a.dir, auditFile)
	if info, err := os.Stat(path); err == nil && info.Size()+int64(len(line)) > auditBytes {
		for i := auditFiles - 1; i > 0; i-- {
			older := path
			if i > 1 {
				older = path + "." + strconv.Itoa(i-1)
			}
			if err := os.Rename(older, path+"."+strconv.Itoa(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}

// peer is who gives an order.
type peer struct {
	name string
	uid  *int
}

type whoKey struct{}

// withPeer is for http.Server.ConnContext: it notes who is at the other end of a socket.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uid, ok := uidOf(c)
	if !ok {
		return context.WithValue(ctx, whoKey{}, peer{name: "?"})
	}
	p := peer{name: strconv.Itoa(uid), uid: &uid}
	if u, err := user.LookupId(p.name); err == nil {
		p.name = u.Username
	}
	return context.WithValue(ctx, whoKey{}, p)
}

// ReadAudit calls f with each line of the audit log in the directory data, the oldest first, until f
// returns an error, which it returns. Lines that cannot be read, as one that is being written, are left
// out. If there is no log, f is not called. No server need run.
func ReadAudit(data string, f func(Audit) error) error {
	for i := auditFiles - 1; i >= 0; i-- {
		path := filepath.Join(data, auditFile)
		if i > 0 {
			path += "." + strconv.Itoa(i)
		}
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return pim.Errorf(pim.KindInvalid, "audit log: %w", err)
		}
		err = readLines(file, f)
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func readLines(file *os.File, f func(Audit) error) error {
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, auditLine), auditLine)
	for lines.Scan() {
		var line Audit
		if len(bytes.TrimSpace(lines.Bytes())) == 0 || json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if err := f(line); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return pim.Errorf(pim.KindInvalid, "audit log %s: %w", file.Name(), err)
	}
	return nil
}
