package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pim-im/pim"
)

// readLines reads all lines of in, a line that is too long as "!". It returns them and the
// error that ended them.
func readLines(in io.Reader, most int) (all []string, err error) {
	r := newLineReader(in, most)
	for {
		l, err := r.next()
		if err != nil {
			return all, err
		}
		if l.number != len(all)+1 {
			return all, fmt.Errorf("line %d has number %d", len(all)+1, l.number)
		}
		if pim.KindOf(l.err) == pim.KindTooLarge {
			l.text += "!"
		}
		all = append(all, l.text)
	}
}

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 40<<10) // more than a buffer
	for in, want := range map[string][]string{
		"":                                nil,
		"\n":                              {""},
		"a":                               {"a"},
		"a\n\nb":                          {"a", "", "b"},
		"a\r\nb\r\n":                      {"a", "b"},
		"a\rb\r":                          {"a\rb"},
		"\xff\x00\n":                      {"\xff\x00"},
		long + "\n" + long:                {long, long},
		long + "\r\n":                     {long},
		long + "x\na":                     {"!", "a"},
		long + "x":                        {"!"},
		long + "\r\r\nb":                  {"!", "b"},
		long + long + long + "\nb":        {"!", "b"},
		"a\n" + long + long + "\r\n\nb\n": {"a", "!", "", "b"},
	} {
		for name, in := range map[string]io.Reader{
			"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in)), "with EOF": iotest.DataErrReader(strings.NewReader(in)),
		} {
			if got, err := readLines(in, len(long)); !slices.Equal(got, want) || err != io.EOF {
				t.Errorf("%s: %d lines, want %d; %v", name, len(got), len(want), err)
			}
		}
	}
}

// A line whose end cannot be read is dropped: half a line must not be sent.
func TestLineReaderNamesTheLineThatCannotBeRead(t *testing.T) {
	broken := errors.New("broken")
	got, err := readLines(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), 10)
	if !slices.Equal(got, []string{"a"}) || !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%q, %v", got, err)
	}
}

// endless is a line of n bytes, without a line end.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n := min(len(b), e.n)
	for i := range b[:n] {
		b[i] = 'x'
	}
	e.n -= n
	return n, nil
}

func TestALongLineTakesNoMemory(t *testing.T) {
	const size = 100 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := readLines(&endless{size}, pim.MaxPayload)
	runtime.ReadMemStats(&after)
	if !slices.Equal(got, []string{"!"}) || err != io.EOF {
		t.Errorf("%d lines, %v", len(got), err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > size/50 {
		t.Errorf("%d bytes were allocated", used)
	}
}

// texts returns the payloads that bob has in his conversation with alice, as strings even
// if they are not text.
func (n *node) texts() (all []string) {
	n.t.Helper()
	for _, e := range entries(n.t, n.ok("", "tail", "--as", "bob", "--with", "alice", "--no-follow", "--json")) {
		if e.Text != nil {
			all = append(all, *e.Text)
		} else {
			all = append(all, string(e.Payload))
		}
	}
	return all
}

// A line that no message can hold is refused with its number, in a chat and by
// send; all others are sent, whatever bytes they have.
func TestLinesThatAreTooLong(t *testing.T) {
	longest, tooLong := strings.Repeat("y", pim.MaxPayload), strings.Repeat("x", pim.MaxPayload+1)
	input := "first\n" + tooLong + "\n\xff\x00 bytes\r\n" + longest + "\r\n" + strings.Repeat(tooLong, 20) + "\nlast"
	want := []string{"first", "\xff\x00 bytes", longest, "last"}
	for name, args := range map[string][]string{
		"send":      {"send", "-"},
		"send JSON": {"send", "-", "--json"},
		"chat":      {"chat"},
		"chat JSON": {"chat", "--json"},
	} {
		t.Run(name, func(t *testing.T) {
			n := serve(t)
			n.t = t
			stdout, stderr, status := n.pim(input, append(args, "--as", "alice", "--to", "bob")...)
			if status != exitUsage || !strings.Contains(stderr, "2 of 6 lines were refused, the first: line 2: the line is longer than 65536 bytes") {
				t.Errorf("status %d, %q", status, stderr)
			}
			told := stdout
			if name == "send" {
				told = stderr
			}
			for _, line := range []string{"2", "5"} {
				if !strings.Contains(told, "line "+line) && !strings.Contains(told, `"line":`+line+`,"error_kind":"too_large","error":"the line is longer`) {
					t.Errorf("line %s is not named: %q", line, stderr)
				}
			}
			if got := n.texts(); !slices.Equal(got, want) {
				t.Errorf("%d messages have come, want %d", len(got), len(want))
			}
		})
	}
}

// A line that the server refuses is reported with its number; the other lines are sent.
func TestLinesThatTheServerRefuses(t *testing.T) {
	n := serve(t)
	group := n.ok("", "group", "create", "--as", "alice", "bob")[0]
	_, stderr, status := n.pim("one\ntwo\n", "send", "-", "--as", "carol", "--conversation", group)
	if status != exitRefused || !strings.Contains(stderr, "pim: line 2: ") || !strings.Contains(stderr, "2 of 2 lines were refused, the first: line 1: ") {
		t.Errorf("send: status %d, %q", status, stderr)
	}
	n.ok("/block\n", "chat", "--as", "bob", "--to", "alice")
	var stdout string
	stdout, stderr, status = n.pim("one\n\ntwo\n", "chat", "--as", "alice", "--to", "bob")
	if status != exitRefused || !strings.Contains(stderr, "2 of 3 lines were refused, the first: line 1: user alice is blocked") || strings.Count(stdout, "✗") != 2 {
		t.Errorf("chat: status %d, %q, %q", status, stdout, stderr)
	}
}

// If messages have no answer at the timeout, the error says how many. The next chat waits
// for their answers.
func TestInputEndsWithoutAServer(t *testing.T) {
	n := serve(t)
	lines := []string{"/offline"}
	for i := range 2 * chatAhead { // a chat goes on reading though none of them is answered
		lines = append(lines, fmt.Sprint("message ", i))
	}
	var stderr string
	var status int
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		_, stderr, status = n.pim(strings.Join(lines, "\n"), "chat", "--as", "alice", "--to", "bob", "--timeout", wait.String())
		if wait > time.Minute || !strings.Contains(stderr, " within "+wait.String()) {
			break // else a busy machine: there was no connection in time, or no answer, and nothing was read
		}
	}
	if want := fmt.Sprintf("%d messages have no answer; the next chat goes on sending", 2*chatAhead); status != exitUnavailable || !strings.Contains(stderr, want) {
		t.Errorf("status %d, %q", status, stderr)
	}
	n.ok("", "chat", "--as", "alice", "--to", "bob", "--history", "0", "--timeout", "5m")
	if got := n.texts(); !slices.Equal(got, func() (want []string) {
		for i := range 2 * chatAhead {
			want = append(want, fmt.Sprint("message ", i))
		}
		return want
	}()) {
		t.Errorf("%d messages have come: %.100q", len(got), got)
	}
}

// Lines that the outbox has no room for are refused; those that it holds are sent.
func TestMoreThanTheOutboxHolds(t *testing.T) {
	const room, more = 10_000, 20
	n := serve(t)
	lines := []string{"/offline"}
	for i := range room + more {
		lines = append(lines, fmt.Sprint(i))
	}
	stdout, stderr, status := n.pim(strings.Join(append(lines, "/online"), "\n"), "chat", "--as", "alice", "--to", "bob", "--memory", "--timeout", "5m")
	if want := fmt.Sprintf("%d of %d lines were refused, the first: line %d: ", more, room+more+2, room+2); status != exitUnavailable || !strings.Contains(stderr, want) {
		t.Errorf("status %d, %q, want %q", status, stderr, want)
	}
	if sent := strings.Count(stdout, "✓ "); sent != room {
		t.Errorf("%d lines are shown as sent", sent)
	}
	if got := n.texts(); len(got) != room || got[room-1] != fmt.Sprint(room-1) {
		t.Errorf("%d messages have come", len(got))
	}
}

// A line that is held because the outbox is full is sent when there is room.
func TestALineIsHeldWhileTheOutboxIsFull(t *testing.T) {
	const room = 10_000
	n := serve(t)
	alice := n.open("chat", "--as", "alice", "--to", "bob", "--memory")
	alice.types("/offline")
	alice.sees("* offline")
	go func() {
		for i := range room {
			io.WriteString(alice.in, fmt.Sprintln(i))
		}
		io.WriteString(alice.in, "/online\n")
		for i := range 100 {
			io.WriteString(alice.in, fmt.Sprintln(room+i))
		}
		alice.in.Close()
	}()
	alice.sees(fmt.Sprint("✓ ", room+99))
	if status := alice.ends(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// A chat that ends with an error says what became of the lines.
func TestChatSaysWhatWasNotSent(t *testing.T) {
	ch := &lineChat{waiting: map[pim.ClientMessageID]inputLine{{1}: {number: 3}}, lines: 3}
	ch.refused.add(2, lineTooLong(pim.MaxPayload))
	err := ch.broken(context.DeadlineExceeded, false)
	for _, want := range []string{"1 message has no answer; it may have been stored all the same", "what follows line 3 was not read", "1 of 3 lines was refused: line 2: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

// Scripts get a line that is no text as its bytes.
func TestChatTellsScriptsOfBytes(t *testing.T) {
	n := serve(t)
	var told struct {
		Payload []byte
		Text    *string
	}
	if err := json.Unmarshal([]byte(n.ok("a\xff\x00b", "chat", "--as", "alice", "--to", "bob", "--json")[0]), &told); err != nil || !bytes.Equal(told.Payload, []byte("a\xff\x00b")) || told.Text != nil {
		t.Errorf("%+v, %v", told, err)
	}
}

// A line of a script that looks like a command but is none is refused, not lost in silence.
func TestChatRefusesALineThatIsNoCommand(t *testing.T) {
	n := serve(t)
	stdout, stderr, status := n.pim("hello\n/etc/passwd\n/add\nbye\n", "chat", "--as", "alice", "--to", "bob")
	if status != exitUsage || !strings.Contains(stderr, "2 of 4 lines were refused, the first: line 2: ") {
		t.Errorf("status %d, %q", status, stderr)
	}
	for _, want := range []string{"✓ hello", "✗ line 2 — there is no command /etc/passwd", "✗ line 3 — ", "✓ bye"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in %q", want, stdout)
		}
	}
}
