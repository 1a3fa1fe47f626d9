package main

import (
	"bytes"
	"context"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// logged is what the bot has logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) holds(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// until waits for what must come; the deadline only ends a test that hangs.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begun := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 5*time.Minute {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// A bot whose token is refused says so, and goes on with a new token. When another
// process has taken its place, the bot ends and says why.
func TestBotWhoseTokenIsRefused(t *testing.T) {
	var said logged
	log.SetOutput(&said)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	file := filepath.Join(t.TempDir(), "token")
	gives := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PIM_TOKEN_FILE", file)
	gives("bogus")
	s := clienttest.NewServer(func() pim.Millis { return pim.MillisOf(time.Now()) })
	s.Admit = func(m *wirepb.Hello) *pim.Error {
		if m.Token != "echobot" {
			return pim.Errorf(pim.KindUnauthorized, "the token has expired")
		}
		return nil
	}
	on, err := clienttest.Listen(s)
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- run(t.Context(), client.Options{
			Server: on.URL, Device: "echobot", Store: client.NewMemory(client.MemoryOptions{}), Confirm: true,
			Token: token, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
		}, echo)
	}()
	until(t, "it says that its token is refused", func() bool { return said.holds("the token has expired") })
	chat := pim.Direct("alice", "echobot")
	if err := s.Append(chat, "alice", pim.NewClientMessageID(time.Now()), []byte("hi")); err != nil {
		t.Fatal(err)
	}
	gives("echobot")
	until(t, "it answers", func() bool { return len(s.Log(chat)) == 2 })
	until(t, "it ends", func() bool {
		on.Tell(&wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced), Text: "another bot"})
		select {
		case err = <-ended:
			return true
		default:
			return false
		}
	})
	if pim.KindOf(err) != pim.KindReplaced {
		t.Errorf("it ends with %v", err)
	}
	if _, err := token(context.Background()); err != nil {
		t.Error(err)
	}
}
