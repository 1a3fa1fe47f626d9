package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/process"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/server"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// realLog returns the first lines of a real log.
func realLog(t *testing.T, lines int) *strings.Reader {
	log, err := os.ReadFile("testdata/ubuntu-irc-2016-11-02.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.SplitAfterN(string(log), "\n", lines+1)
	return strings.NewReader(strings.Join(all[:lines], ""))
}

func sound(t *testing.T, report Report, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Errorf("%v: %v", err, report.Findings)
	}
	if report.Deliveries != report.ExpectedDeliveries || report.Deliveries == 0 {
		t.Errorf("%+v", report)
	}
}

// serverCommand builds pim and returns the command that serves.
func serverCommand(t *testing.T) []string {
	bin := filepath.Join(t.TempDir(), "pim")
	if err := process.Build(bin); err != nil {
		t.Fatal(err)
	}
	return []string{bin, "serve", "--no-consent"}
}

// A real log, real connections, and a server that is killed: nothing is lost,
// doubled or misordered.
//
// The server must live for longer than the second after which a client takes a
// connection for good. Otherwise the clients' backoff grows, and on a slow machine
// hardly any of them finds the server running.
func TestReplayRealLog(t *testing.T) {
	command := serverCommand(t)
	for name, tcp := range map[string]bool{"WebSocket": false, "TCP": true} {
		t.Run(name, func(t *testing.T) {
			report, err := Run(t.Context(), Config{
				Log: realLog(t, 600), Lurkers: 20, TCP: tcp,
				ServerCommand: command, KillEvery: 2 * time.Second,
			})
			sound(t, report, err)
			if report.Kills == 0 {
				t.Error("the server was never killed")
			}
		})
	}
}

// The server runs already, and the second replay finds the entries of the first on it.
func TestReplayToARunningServer(t *testing.T) {
	s, token := running(t, server.Options{})
	for _, url := range []string{"http://" + s.Addr(), "tcp://" + s.TCPAddr()} {
		report, err := Run(t.Context(), Config{Log: realLog(t, 300), Lurkers: 5, Server: url, Token: token})
		sound(t, report, err)
	}
}

// No user of a log is taken for a member that replay adds, whatever the user's name is.
func TestReplayOfItsOwnNames(t *testing.T) {
	s, token := running(t, server.Options{})
	var log strings.Builder
	for _, name := range []string{"pim-replay", "pim-lurker-001", string(owner), string(lurker(0))} {
		fmt.Fprintf(&log, `{"kind": "message", "user": %q, "text": "I am %[1]s"}`+"\n", name)
		fmt.Fprintf(&log, `{"kind": "leave", "user": %q}`+"\n", name)
	}
	report, err := Run(t.Context(), Config{Log: strings.NewReader(log.String()), Lurkers: 1, Server: "http://" + s.Addr(), Token: token})
	sound(t, report, err)
}

// If the server does not start, the error says what the server wrote.
func TestReplaySaysWhyNoServerStarts(t *testing.T) {
	_, err := Run(t.Context(), Config{Log: realLog(t, 5), ServerCommand: []string{"sh", "-c", "echo no room left >&2; exit 3"}})
	if pim.KindOf(err) != pim.KindUnavailable || !strings.Contains(err.Error(), "exit status 3: no room left") {
		t.Error(err)
	}
}

// If there is no server, or the server refuses the token, replay does not try for ever.
func TestReplayGivesUp(t *testing.T) {
	s, _ := running(t, server.Options{})
	token := func(pim.UserID) (string, error) { return "forged", nil }
	for url, is := range map[string]func(error) bool{
		"http://127.0.0.1:1": func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) },
		"http://" + s.Addr(): func(err error) bool { return pim.KindOf(err) == pim.KindUnauthorized },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		_, err := Run(ctx, Config{Log: realLog(t, 5), Server: url, Token: token})
		if !is(err) || ctx.Err() != nil {
			t.Errorf("%s: %v", url, err)
		}
		cancel()
	}
}

// Replay notices a server that leaves an entry out of every pull.
func TestReplayNoticesABrokenServer(t *testing.T) {
	s, token := running(t, server.Options{WrapReader: func(r gateway.Reader) gateway.Reader { return hiding{r} }})
	report, err := Run(t.Context(), Config{Log: realLog(t, 100), Lurkers: 5, Server: "http://" + s.Addr(), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if report.Err() == nil || report.Lost == 0 || len(report.Findings) == 0 {
		t.Errorf("%+v", report)
	}
}

// hiding leaves seq 2 out of every page.
type hiding struct{ gateway.Reader }

func (r hiding) Pull(ctx context.Context, u pim.UserID, req inbox.PullRequest) (inbox.Page, error) {
	page, err := r.Reader.Pull(ctx, u, req)
	page.Entries = slices.DeleteFunc(page.Entries, func(e inbox.Encoded) bool { return e.Seq == 2 })
	return page, err
}

// running starts a server in this process, and returns it with a way to get
// tokens for it.
func running(t *testing.T, o server.Options) (*server.Server, func(pim.UserID) (string, error)) {
	config := server.Defaults()
	config.Consent = false // people here are strangers
	config.Data, config.Listen, config.ListenTCP = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	config.ShedTarget = 0 // the machine may be too busy
	o.Logger = slog.New(slog.DiscardHandler)
	s, err := server.New(config, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // no grace: nobody is connected
		_ = s.Shutdown(ctx)
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, err := account.LoadKeys(config.KeysPath())
	if err != nil {
		t.Fatal(err)
	}
	return s, func(u pim.UserID) (string, error) { return keys.Issue(u, time.Hour, time.Now()) }
}

// watch keeps the lines that are written to it.
type watch struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *watch) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(line)
}

// Progress lines say how far a replay has come.
func TestReplayTellsHowFarItIs(t *testing.T) {
	s, token := running(t, server.Options{})
	var w watch
	report, err := Run(t.Context(), Config{
		Log: realLog(t, 60), Lurkers: 2, Server: "http://" + s.Addr(), Token: token,
		Speed: 2000, Progress: &w, ProgressEvery: time.Millisecond,
	})
	sound(t, report, err)
	for _, want := range []string{"s: connecting members, ", "s: playing events, "} {
		if !strings.Contains(w.text.String(), want) {
			t.Errorf("%q was never told: %.400s", want, w.text.String())
		}
	}
}
