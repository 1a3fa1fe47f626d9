package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/content"
	"github.com/pim-im/pim/server"
)

func TestEntryForms(t *testing.T) {
	for _, c := range []struct {
		e    pim.Entry
		line string
		json string
	}{
		{pim.Entry{Kind: pim.EntryMessage, Sender: "bob", Payload: []byte("hi")}, "bob: hi", `"text":"hi"`},
		{pim.Entry{Kind: pim.EntryMessage, Sender: "bob"}, "bob: ", `"text":""`},
		{pim.Entry{Kind: pim.EntryMessage, Sender: "b\u202eo", Payload: []byte("h\u202ei")}, "b\ufffdo: h\ufffdi", "\"text\":\"h\u202ei\""},
		{pim.Entry{Kind: pim.EntryMessage, Sender: "bob", Payload: []byte{0xff, 0}}, "bob: (2 bytes that are not text)", `"payload":"/wA="`},
		{pim.Entry{Kind: pim.EntryMessage, Sender: "bob", Payload: []byte("\xff\x01\x0a\x02hi")}, "bob: hi", `"text":"hi","envelope":"/wEKAmhp"`},
		{pim.Entry{Kind: pim.EntryMessage, Sender: "bob", Payload: []byte("\xff\x01\x0a\x03hi")}, "bob: hi", `"payload":"/wEKA2hp"`},
		{pim.Entry{Kind: pim.EntryCommand, Sender: "bob", Payload: []byte("\x08\x01")}, "* bob changed a setting", `"payload":"CAE="`},
		{pim.Entry{Kind: pim.EntryCreate, Sender: "bob", Members: []pim.UserID{"bob", "al"}}, "* bob created the group: bob, al", `"members":["bob","al"]`},
		{pim.Entry{Kind: pim.EntryCreate, Sender: "bob", Members: []pim.UserID{"bob"}, Invited: []pim.UserID{"al"}}, "* bob created the group: bob, and invited al", `"invited":["al"]`},
		{pim.Entry{Kind: pim.EntryJoin, Sender: "bob", Invited: []pim.UserID{"al"}}, "* bob invited al", `"invited":["al"]`},
		{pim.Entry{Kind: pim.EntryJoin, Sender: "bob", Members: []pim.UserID{"cy"}, Invited: []pim.UserID{"al"}}, "* bob added cy, and invited al", `"invited":["al"]`},
		{pim.Entry{Kind: pim.EntryLeave, Sender: "al", Invited: []pim.UserID{"al"}}, "* al declined the invitation", `"invited":["al"]`},
		{pim.Entry{Kind: pim.EntryLeave, Sender: "bob", Members: []pim.UserID{"cy"}, Invited: []pim.UserID{"al"}}, "* bob removed cy, and took back the invitation of al", `"invited":["al"]`},
		{pim.Entry{Kind: pim.EntryJoin, Sender: "bob", Members: []pim.UserID{"bob"}}, "* bob joined", `"kind":"join"`},
		{pim.Entry{Kind: pim.EntryJoin, Sender: "bob", Members: []pim.UserID{"al"}}, "* bob added al", `"kind":"join"`},
		{pim.Entry{Kind: pim.EntryLeave, Sender: "bob", Members: []pim.UserID{"bob"}}, "* bob left", `"kind":"leave"`},
		{pim.Entry{Kind: 99, Sender: "bob"}, "* bob wrote something that this version does not know", `"kind":"unknown"`},
	} {
		if got := chat.Line(&c.e); got != c.line {
			t.Errorf("line %q, want %q", got, c.line)
		}
		got, err := json.Marshal(jsonOf(&c.e))
		if err != nil || !strings.Contains(string(got), c.json) {
			t.Errorf("JSON %s (%v), want %s in it", got, err, c.json)
		}
		if strings.Contains(string(got), `"text"`) && strings.Contains(string(got), `"payload"`) {
			t.Errorf("JSON %s has text and payload", got)
		}
	}
}

// What a message says is there for scripts, and what it refers to for people.
func TestEnvelopeForms(t *testing.T) {
	lunch := &content.Reply{Seq: 3, Sender: "al", Excerpt: "Lunch\x1b?"}
	for _, c := range []struct {
		say         content.Content
		about, json string
	}{
		{content.Content{Text: "hi"}, "", `{"text":"hi"}`},
		{
			content.Content{Text: "yes @al", Reply: lunch, Thread: 1, Mentions: []content.Mention{{User: "al", Offset: 4, Length: 3}}},
			"reply to 3, al: Lunch\ufffd?",
			`"reply":{"seq":3,"sender":"al","excerpt":"Lunch\u001b?"},"thread":1,"mentions":[{"user":"al","offset":4,"length":3}]}`,
		},
		{
			content.Content{Forward: &content.Forward{Content: []byte("hi"), Sender: "al", Conversation: "g:x", Seq: 4, Time: 5}},
			"forwarded from al",
			`"forward":{"text":"hi","sender":"al","conversation":"g:x","seq":4,"time_ms":5}}`,
		},
		{content.Content{Text: "see", Forward: &content.Forward{Content: []byte("hi")}}, "forwarded: hi", `"text":"see","envelope":"/wEKA3NlZRIECgJoaQ==","forward":{"text":"hi"}}`},
	} {
		payload, err := c.say.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := chat.About(&pim.Entry{Kind: pim.EntryMessage, Payload: payload}); got != c.about {
			t.Errorf("%q, want %q", got, c.about)
		}
		if got, err := json.Marshal(contentOf(payload)); err != nil || !strings.HasSuffix(string(got), c.json) {
			t.Errorf("JSON %s (%v), want %s at its end", got, err, c.json)
		}
	}
}

func TestAnnounce(t *testing.T) {
	for _, c := range []struct {
		change    func(*server.Config)
		addr, tcp string
		want      string // the lines to paste end with it
		pin       string
	}{
		{func(*server.Config) {}, "127.0.0.1:7400", "127.0.0.1:7401", "--to bob\n", ""},
		{func(c *server.Config) { c.Data = "pim-data/" }, "127.0.0.1:7400", "", "--to bob\n", ""},
		{func(c *server.Config) { c.Data = "/tmp/my data" }, "127.0.0.1:7400", "", "--to bob --data '/tmp/my data'\n", ""},
		{func(c *server.Config) { c.Keys = "k.json" }, "127.0.0.1:7400", "", "--to bob --keys k.json\n", ""},
		{func(c *server.Config) { c.Data, c.Keys = "d", "k.json" }, "127.0.0.1:7400", "", "--to bob --data d --keys k.json\n", ""},
		{func(*server.Config) {}, "127.0.0.1:9", "", "--to bob --server http://127.0.0.1:9\n", ""},
		{func(c *server.Config) { c.Insecure = true }, "[::]:9", "", "--to bob --server http://127.0.0.1:9\n", ""},
		{func(c *server.Config) { c.TLSCert = []string{"c"} }, "192.0.2.1:9", "", "--to bob --server https://192.0.2.1:9\n", ""},
		{func(c *server.Config) { c.TLSSelfSigned = true }, "127.0.0.1:7400", "", "--to bob --server https://127.0.0.1:7400 --tls-pin 'a+b='\n", "a+b="},
	} {
		cmd := serveCmd{Config: server.Defaults()}
		c.change(&cmd.Config)
		var out bytes.Buffer
		if err := cmd.announce(c.addr, c.tcp, "", c.pin, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), " chat --as alice "+c.want) || strings.Count(out.String(), " chat ") != 2 {
			t.Errorf("announced:\n%s\nwant lines ending in %q", &out, c.want)
		}
		if strings.Contains(out.String(), "TCP") != (c.tcp != "") {
			t.Errorf("announced TCP wrongly:\n%s", &out)
		}
	}
}

// If no key can sign, the announcement has no lines to paste that would need such a key.
func TestAnnounceWithoutAPrivateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if _, err := account.CreateDevelopmentKey(path); err != nil {
		t.Fatal(err)
	}
	for _, private := range []bool{true, false} {
		if !private {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = regexp.MustCompile(`"private": "[^"]*",`).ReplaceAll(data, nil)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := serveCmd{Config: server.Defaults()}
		cmd.Keys = path
		var out bytes.Buffer
		if err := cmd.announce("127.0.0.1:7400", "", "", "", &out); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "--as") != private || strings.Contains(out.String(), "no key in "+path+" has a private part") == private {
			t.Errorf("with a private part: %v; announced:\n%s", private, &out)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"": "''", "./pim-data": "./pim-data", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{nil, exitOK, ""},
		{errHelp, exitOK, ""},
		{context.Canceled, exitInterrupted, ""},
		{errors.New("x"), exitFailed, "pim: x\n"},
		{&usageError{errors.New("x"), "send"}, exitUsage, "pim: x\nSee: pim send --help\n"},
		{pim.Errorf(pim.KindInvalid, "x"), exitUsage, "pim: x\n"},
		{fmt.Errorf("y: %w", pim.Errorf(pim.KindNotMember, "x")), exitRefused, "pim: y: x\n"},
		{&hintedError{pim.Errorf(pim.KindUnavailable, "x"), "do y"}, exitUnavailable, "pim: x: do y\n"},
		{errors.Join(errBroken, pim.Errorf(pim.KindInternal, "1 lost")), exitBroken, "pim: " + errBroken.Error() + "\npim: 1 lost\n"},
		{pim.Errorf(pim.KindInternal, "x"), exitFailed, "pim: x\n"},
		{errors.New("a\x1b[2J\u202eb"), exitFailed, "pim: a\ufffd[2J\ufffdb\n"},
	} {
		var out bytes.Buffer
		if got := report(c.err, &out, false); got != c.status || out.String() != c.text {
			t.Errorf("%v: status %d, %q; want %d, %q", c.err, got, out.String(), c.status, c.text)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"send", "--help"}, {"group", "create", "--help"}} {
		stdout, stderr, status := pimWith(t.Context(), "", args...)
		if status != exitOK || !strings.HasPrefix(stdout, "Usage: pim") || stderr != "" {
			t.Errorf("pim %v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	stdout, _, status := pimWith(t.Context(), "", "version", "--json")
	var v map[string]any
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || status != exitOK || v["protocol"] != 1.0 || v["version"] == "" {
		t.Errorf("status %d, %q", status, stdout)
	}
}

// A server that is busy is named as the reason, and when it is asked again.
func TestStateLine(t *testing.T) {
	busy := &pim.Error{Op: "connect", Kind: pim.KindOverloaded, Text: "this node takes no more connections at this moment"}
	for want, e := range map[string]client.StateEvent{
		"* connected again": {State: client.Connected},
		"* the server is busy (connect: this node takes no more connections at this moment); trying again in 13 s": {State: client.Waiting, Err: busy, RetryIn: 12_001 * time.Millisecond},
		"* not connected (cut); trying again": {State: client.Waiting, Err: errors.New("cut"), RetryIn: time.Second},
	} {
		if got := stateLine(e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
