package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
)

// What a reply says of a message is shown while that message is there. It is still in the reply
// when the message is recalled or erased, and nothing that is printed has it then.
func TestExcerptsOfMessagesThatAreGone(t *testing.T) {
	n := serve(t)
	const secret = "SECRETTEXT"
	chat := func(command, as string, args ...string) []string {
		t.Helper()
		return n.ok("", append([]string{command, "--as", as, "--conversation", "d:alice:bob"}, args...)...)
	}
	history := func(args ...string) string {
		t.Helper()
		return strings.Join(n.ok("", append([]string{"tail", "--as", "bob", "--with", "alice", "--no-follow"}, args...)...), "\n")
	}
	chat("send", "alice", secret+" one")
	chat("send", "alice", secret+" two")
	chat("send", "bob", "kept")
	chat("send", "bob", "--reply", "1", "to one")
	chat("send", "bob", "--reply", "2", "to two")
	chat("send", "alice", "--reply", "3", "to kept")
	if got := history("--from", "4"); strings.Count(got, secret) != 2 || !strings.Contains(got, "to one  (reply to 1, alice: "+secret+" one)") {
		t.Fatalf("before the recall tail printed\n%s", got)
	}

	chat("recall", "alice", "1")
	want := "bob: to one  (reply to 1, alice: (erased))"
	if got := history("--from", "4"); !strings.Contains(got, want) || !strings.Contains(got, secret+" two)") {
		t.Errorf("after the recall tail printed\n%s", got)
	}
	chat("erase", "alice", "--up-to", "2")
	for _, from := range []string{"1", "4"} { // with and without the messages themselves
		got := history("--from", from)
		for _, want := range []string{want, "bob: to two  (reply to 2, alice: (erased))", "alice: to kept  (reply to 3, bob: kept)"} {
			if !strings.Contains(got, want+"\n") {
				t.Errorf("after the erase tail printed\n%s\nwant %q", got, want)
			}
		}
		for _, line := range strings.Split(history("--from", from, "--json"), "\n") {
			var e entryJSON
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, secret) || strings.Contains(string(e.Envelope), secret) {
				t.Errorf("tail --json printed %s, with the envelope %q", line, e.Envelope)
			}
			if e.Reply == nil {
				continue
			}
			if gone := e.Reply.Seq < 3; e.Reply.Erased != gone || (e.Reply.Excerpt == "") != gone {
				t.Errorf("tail --json printed %s", line)
			}
			if c, err := content.Parse(e.Envelope); err != nil || c.Text != *e.Text || c.Reply.Seq != e.Reply.Seq {
				t.Errorf("the envelope says %+v (%v), the line %s", c, err, line)
			}
		}
	}
}

// A device that has not heard that a message was recalled answers it, and says what it was. Those
// who follow the conversation don't see that, whether they have met the message or not.
func TestExcerptsOfLateReplies(t *testing.T) {
	n := serve(t)
	alice := []string{"--as", "alice", "--to", "bob"}
	n.ok("", append([]string{"send", "SECRETTEXT one"}, alice...)...)
	n.ok("", append([]string{"send", "SECRETTEXT two"}, alice...)...)
	late, err := client.Open(t.Context(), client.Options{
		Server: n.url, User: "bob", Device: "late", Store: client.NewMemory(client.MemoryOptions{}),
		Token: func(context.Context) (string, error) { return n.token("bob", "1h"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	go func() {
		for range late.Events() {
		}
	}()

	tail := n.open("tail", "--as", "alice", "--to", "bob", "--from", "2", "--json")
	chat := n.open("chat", "--as", "alice", "--to", "bob", "--plain", "--memory", "--history", "1")
	chat.sees("alice: SECRETTEXT two")
	n.ok("", append([]string{"recall", "1"}, alice...)...)
	n.ok("", append([]string{"recall", "2"}, alice...)...)
	for seq := pim.Seq(1); seq <= 2; seq++ {
		say := content.Content{Text: "late", Reply: &content.Reply{Seq: seq, Sender: "alice", Excerpt: "SECRETTEXT"}}
		if _, err := late.SendContent(t.Context(), "d:alice:bob", &say); err != nil {
			t.Fatal(err)
		}
		chat.sees(fmt.Sprintf("bob: late  (reply to %d, alice: (erased))", seq))
	}
	want := map[pim.Seq]string{5: `"reply":{"seq":1,"sender":"alice","excerpt":"","erased":true}`, 6: `"reply":{"seq":2,"sender":"alice","excerpt":"","erased":true}`}
	for len(want) > 0 && tail.lines.Scan() {
		line := tail.lines.Text()
		var e entryJSON
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if !strings.Contains(line, want[e.Seq]) || strings.Contains(string(e.Envelope), "SECRETTEXT") {
			t.Errorf("tail printed %s, want %s", line, want[e.Seq])
		}
		delete(want, e.Seq)
	}
	chat.ends()
	tail.cancel()
	tail.ends()
}

// The screen looks up an answered message that the device holds and that is not loaded.
func TestExcerptsOnTheScreen(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "SECRETTEXT")
	n.ok("", "send", "--as", "alice", "--to", "bob", "kept")
	n.ok(strings.Repeat("line\n", 300), "send", "--as", "alice", "--to", "bob", "-")
	n.ok("", "send", "--as", "bob", "--to", "alice", "--reply", "1", "first")
	n.ok("", "send", "--as", "bob", "--to", "alice", "--reply", "2", "second")
	args := n.args([]string{"chat", "--as", "bob", "--to", "alice"})
	first := n.opens(args...)
	first.sees("┌ alice: SECRETTEXT", "┌ alice: kept")
	first.ends()
	second := n.opens(args...) // loads the end of what the device holds
	second.sees("┌ alice: SECRETTEXT", "┌ alice: kept")
	n.ok("", "recall", "--as", "alice", "--to", "bob", "1")
	second.sees("┌ alice: (erased)", "┌ alice: kept")
	second.lacks("SECRETTEXT")
	second.ends()
}

// The server answers nothing any more. A page of replies waits for it once, and for none of them is an
// excerpt shown. Later the server is asked again.
func TestExcerptsWaitOnceForAServerThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, gone := 0, true
		x := excerpts{pull: func(ctx context.Context, seq pim.Seq) (client.Page, error) {
			if asked++; gone {
				<-ctx.Done()
				return client.Page{}, ctx.Err()
			}
			return client.Page{Entries: []pim.Entry{{Kind: pim.EntryMessage, Seq: seq, Sender: "alice"}}}, nil
		}}
		excerpt := func(seq pim.Seq) string {
			t.Helper()
			say := content.Content{Text: "late", Reply: &content.Reply{Seq: seq, Sender: "alice", Excerpt: "SECRETTEXT"}}
			payload, err := say.Encode()
			if err != nil {
				t.Fatal(err)
			}
			shown, err := x.show(t.Context(), &pim.Entry{Kind: pim.EntryMessage, Seq: 1000, Sender: "bob", Payload: payload})
			if err != nil {
				t.Fatal(err)
			}
			c, err := content.Parse(shown.Payload)
			if err != nil {
				t.Fatal(err)
			}
			return c.Reply.Excerpt
		}
		begun := time.Now()
		for seq := range pim.Seq(500) {
			if got := excerpt(seq + 1); got != "" {
				t.Fatalf("it shows %q", got)
			}
		}
		if took := time.Since(begun); took != answeredWithin || asked != 1 {
			t.Errorf("it took %v, and asked %d times", took, asked)
		}
		gone = false
		time.Sleep(answeredWithin)
		if got := excerpt(7); got != "SECRETTEXT" {
			t.Errorf("it shows %q", got)
		}
	})
}
