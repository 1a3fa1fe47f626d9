//go:build unix

package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// screen is a client command on a terminal of 24 lines.
type screen struct {
	t      *testing.T
	keys   *os.File // what a person types goes in here
	status chan int

	mu      sync.Mutex
	changed *sync.Cond
	picture *vt.Emulator
	over    bool // the command has ended
}

// opens starts a client command on a terminal of its own, of 80 columns.
func (n *node) opens(args ...string) *screen {
	n.t.Helper()
	return n.opensWide(80, args...)
}

// opensWide is opens with another width.
func (n *node) opensWide(width int, args ...string) *screen {
	n.t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := pty.Setsize(theirs, &pty.Winsize{Cols: uint16(width), Rows: 24}); err != nil {
		n.t.Fatal(err)
	}
	s := &screen{t: n.t, keys: ours, status: make(chan int, 1), picture: vt.NewEmulator(width, 24)}
	s.changed = sync.NewCond(&s.mu)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.draw(ours) })
	wg.Go(func() { io.Copy(ours, s.picture) }) // what a terminal answers when it is asked
	wg.Go(func() {
		s.status <- run(ctx, args, streams{theirs, theirs, theirs})
		theirs.Close() // ends draw
	})
	n.t.Cleanup(func() {
		cancel()
		io.WriteString(ours, "\n") // ends a read that is under way: closing a terminal waits for it
		wg.Wait()
		ours.Close()
	})
	return s
}

// draw keeps the picture up to date until the command has ended.
func (s *screen) draw(from io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		s.mu.Lock()
		s.picture.Write(buf[:n])
		s.over = err != nil
		s.changed.Broadcast()
		s.mu.Unlock()
		if err != nil {
			s.picture.InputPipe().(io.Closer).Close() // ends the terminal's answers; Close itself is not safe beside Read
			return
		}
	}
}

func (s *screen) types(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, text); err != nil {
		s.t.Fatal(err)
	}
}

// sees waits until all of want are on the screen.
func (s *screen) sees(want ...string) {
	s.t.Helper()
	s.waits("%q was never on the screen", func(picture string) string {
		for _, w := range want {
			if !strings.Contains(picture, w) {
				return w
			}
		}
		return ""
	})
}

// lacks waits until text is not on the screen.
func (s *screen) lacks(text string) {
	s.t.Helper()
	s.waits("%q has stayed on the screen", func(picture string) string {
		if strings.Contains(picture, text) {
			return text
		}
		return ""
	})
}

// waits waits until wrong finds nothing wrong with the picture.
func (s *screen) waits(complaint string, wrong func(picture string) string) {
	s.t.Helper()
	late := false
	limit := time.AfterFunc(5*time.Minute, func() {
		s.mu.Lock()
		late = true
		s.changed.Broadcast()
		s.mu.Unlock()
	})
	defer limit.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		picture := s.picture.String()
		what := wrong(picture)
		if what == "" {
			return
		}
		if s.over || late {
			s.t.Fatalf(complaint+", which is\n%s", what, picture)
		}
		s.changed.Wait()
	}
}

// ends presses Ctrl-C.
func (s *screen) ends() {
	s.t.Helper()
	s.types("\x03")
	if status := <-s.status; status != exitOK {
		s.t.Errorf("status %d", status)
	}
}

func TestChatOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	n := serve(t)
	args := n.args([]string{"chat", "--as", "alice", "--to", "bob"})
	alice := n.opens(args...)
	alice.sees(" connected · alice@")
	alice.types("one\r")
	alice.sees("✓ alice: one")
	// How much the outbox holds depends on whether the command that marks a message as
	// read was answered before the connection went.
	alice.types("/offline\r")
	alice.sees(" offline · ")
	alice.types("two\r")
	alice.sees("… alice: two", " offline · outbox ")
	alice.types("/online\r")
	alice.sees("✓ alice: two", " connected · alice@")
	second := n.opens(args...) // a device of its own: the first stays
	second.sees("✓ alice: one", "✓ alice: two")
	alice.types("/offline\r")
	alice.sees(" offline · ")
	alice.types("three\r")
	alice.sees("… alice: three")
	alice.ends()

	// Without a server, the screen shows what the local store has, and Alice can write.
	nowhere := []string{"chat", "--as", "alice", "--to", "bob", "--data", n.data, "--server", "http://127.0.0.1:1"}
	alice = n.opens(nowhere...)
	alice.sees("✓ alice: two", "… alice: three", "no server answers")
	alice.types("//four\r")
	alice.sees("… alice: /four", " · outbox ")
	alice.ends()
	alice = n.opens(args...)
	alice.sees("✓ alice: three", "✓ alice: /four")
	second.sees("✓ alice: three", "✓ alice: /four")
	alice.ends()
	second.ends()

	// Bob has not read them; then he has.
	bob := n.opens(n.args([]string{"chat", "--as", "bob", "--to", "carol"})...)
	bob.sees(" 4 │", "/four")
	bob.types("\t")
	bob.sees("alice: one")
	bob.types("\x1b[Z")
	bob.sees("▸ carol")
	bob.ends()
	bob = n.opens(n.args([]string{"chat", "--as", "bob", "--memory"})...)
	bob.sees("▸ alice", "alice: one", "/four")
	bob.ends()
}

// What is done to a message on the keys is seen by the other user.
func TestChangesOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	n := serve(t)
	alice := n.opens(n.args([]string{"chat", "--as", "alice", "--to", "bob", "--memory"})...)
	alice.sees(" connected · alice@")
	alice.types("helo\r")
	alice.sees("✓ alice: helo")
	alice.types("oops\r")
	alice.sees("✓ alice: oops")
	bob := n.opens(n.args([]string{"chat", "--as", "bob", "--to", "alice", "--memory"})...)
	bob.sees("alice: helo", "alice: oops")
	alice.sees("✓✓ alice: helo", "✓✓ alice: oops · read ")

	alice.types("\x1b[A\x1b[A")
	alice.sees("> helo")
	alice.types("\x15hello\r")
	bob.sees("alice: hello (edited)", "edited: hello")
	bob.types("\x0c")
	bob.sees("· alice: oops")
	bob.types("\x122\r")
	alice.sees("❤ 1", "❤ to: hello")
	alice.types("\x18")
	alice.sees("Enter recalls it")
	alice.types("\r")
	bob.sees("alice: (recalled)", "alice recalled")
	bob.types("\x12\x10\r")
	alice.sees("hello (edited) (pinned)", "bob pinned: hello")
	bob.types("\x14")
	bob.sees("is marked as unread", "●")
	alice.ends()
	bob.ends()
}

// What was stored, delivered and read is seen as it comes, and who has read a message of a group.
func TestReceiptsOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	n := serve(t)
	alice := n.opens(n.args([]string{"chat", "--as", "alice", "--to", "bob", "--memory"})...)
	alice.sees(" connected · alice@")
	alice.types("one\r")
	alice.sees(" ✓ alice: one")
	bob := n.opens(n.args([]string{"chat", "--as", "bob", "--memory"})...)
	alice.sees("✓✓ alice: one · read ")
	bob.types("/receipts off\r")
	bob.sees("bob gives and gets no receipts")
	bob.types("two\r")
	alice.sees("bob: two")
	alice.types("three\r")
	alice.sees("✓✓ alice: three")
	bob.types("/receipts on\r")
	bob.sees("bob gives and gets receipts")

	alice.types("/group bob carol\r")
	alice.sees("│ g:")
	bob.sees("  g:")
	alice.types("all?\r")
	alice.sees("✓ alice: all?")
	bob.types("\x1b[Z")
	bob.sees("alice: all?", "▸ g:")
	alice.sees("✓✓ alice: all? · read by 1 of 2")
	alice.types("\x0f")
	alice.sees("✓ bob has read it by", "carol has not read it")
	alice.ends()
	bob.ends()
}

// What comes is read while somebody looks at it. What was marked as unread stays so until something
// new comes, also if the person looks away meanwhile.
func TestReadOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	for _, width := range []int{80, 120} {
		n := serve(t)
		alice := n.opensWide(width, n.args([]string{"chat", "--as", "alice", "--to", "bob", "--memory"})...)
		alice.sees(" connected · alice@")
		alice.types("one\r")
		alice.sees("✓ alice: one")
		bob := n.opensWide(width, n.args([]string{"chat", "--as", "bob", "--memory"})...)
		alice.sees("✓✓ alice: one · read ")
		bob.types("\x1b[O") // the window has lost the focus
		bob.types("\x14")   // the answer to a key after that says that it was noticed
		bob.sees("is marked as unread", " ●")
		alice.types("two\r")
		bob.sees("alice: two", " 1 │")
		bob.types("\x1b[I") // and has it again
		bob.lacks(" 1 │")
		bob.lacks("●")
		alice.sees("✓✓ alice: two · read ")
		bob.types("\x14")
		bob.sees(" ● │")
		bob.types("\x1b[O\x1b[Ix")
		bob.sees(" ● │", "> x")
		alice.types("three\r")
		bob.sees("alice: three")
		bob.lacks("●")
		alice.sees("✓✓ alice: three · read ")
		alice.ends()
		bob.ends()
	}
}

// A text mentions members of the group whom it names, and the list counts that until it is read.
func TestMentionsOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	for _, width := range []int{80, 120} {
		n := serve(t)
		alice := n.opensWide(width, n.args([]string{"chat", "--as", "alice", "--to", "carol", "--memory"})...)
		bob := n.opensWide(width, n.args([]string{"chat", "--as", "bob", "--to", "carol", "--memory"})...)
		alice.sees(" connected · alice@")
		bob.sees(" connected · bob@")
		alice.types("/group bob carol\r")
		alice.sees("│ g:")
		alice.types("@bob, lunch?\r@carol?\r@all: now\r")
		alice.sees("✓ alice: @bob, lunch?", "✓ alice: @carol?", "✓ alice: @all: now")
		bob.sees("▸ carol", " @2 3 │")
		alice.types("/to carol\r")
		alice.sees("▸ carol", "  g:")
		bob.types("\t")
		bob.sees("▸ g:", "alice: @all: now")
		bob.lacks(" @2")
		bob.types("\x12")
		bob.sees("reply to alice: @all: now")
		bob.types("yes @alice\r")
		alice.sees("bob: yes @alice", " @1 1 │")
		alice.ends()
		bob.ends()
	}
}

// Users who have written to each other see when the other one is there, and writes.
func TestPresenceOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	n := serve(t)
	alice := n.opens(n.args([]string{"chat", "--as", "alice", "--to", "bob", "--memory"})...)
	alice.sees(" connected · alice@")
	alice.types("one\r")
	bob := n.opens(n.args([]string{"chat", "--as", "bob", "--memory"})...)
	bob.sees("│ alice · online", "alice: one")
	bob.types("two\r")
	alice.sees("bob: two", "│ bob · online")
	// What is told is a hint: a key within a second of the last one is not told.
	var hands sync.WaitGroup
	rests := make(chan struct{})
	hands.Go(func() {
		for {
			select {
			case <-rests:
				return
			case <-time.After(100 * time.Millisecond):
				io.WriteString(bob.keys, "x")
			}
		}
	})
	alice.sees("│ bob is typing")
	close(rests)
	hands.Wait()
	bob.types("x\r") // alice may have seen that bob was typing before
	alice.sees("bob: x", "│ bob · online")
	bob.ends()
	alice.sees("│ bob · last seen ")
	alice.ends()
}

// Package term drops the part of a line that it has no room for. The rest of such a line
// is not sent.
func TestALineThatATerminalCuts(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	n := serve(t)
	alice := n.opens(n.args([]string{"chat", "--plain", "--as", "alice", "--to", "bob"})...)
	alice.sees("alice>")
	alice.types(strings.Repeat("x", terminalLine+1) + "\r")
	alice.sees("✗ line 1 — the line is longer than 4096 characters")
	alice.types(strings.Repeat("y", terminalLine) + "\r")
	alice.types("after\r")
	alice.sees("✓ after")
	alice.types("/quit\r")
	if status := <-alice.status; status != exitUsage {
		t.Errorf("status %d", status)
	}
	if got := n.texts(); len(got) != 2 || len(got[0]) != terminalLine {
		t.Errorf("%d messages have come", len(got))
	}
}

// A paste into the terminal comes as a whole: its line breaks send nothing.
func TestPasteOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	n := serve(t)
	alice := n.opens(n.args([]string{"chat", "--as", "alice", "--to", "bob"})...)
	alice.sees(" connected · alice@")
	alice.types("\x1b[200~one\rtwo\nمی\u200cخواهم\x1b[201~")
	alice.sees("> one⏎two⏎")
	alice.types("\x1b[200~" + strings.Repeat("x", 70_000) + "\x1b[201~")
	alice.sees("too long: 70025 bytes, a message holds at most 65536", "> one⏎two⏎")
	alice.types("\r")
	alice.sees("✓ alice: one ⏎ two ⏎ ")
	const flag = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
	alice.types("\x1b[200~[co\u00adop " + flag + "]\x1b[201~")
	alice.sees("> [coop " + flag + "]")
	alice.types("\r")
	alice.sees("✓ alice: [coop " + flag + "]")
	alice.ends()
	if got, want := n.texts(), []string{"one\ntwo\nمی\u200cخواهم", "[co\u00adop " + flag + "]"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}
