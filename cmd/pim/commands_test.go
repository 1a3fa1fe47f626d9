package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// entries reads what tail --json printed.
func entries(t *testing.T, lines []string) []entryJSON {
	t.Helper()
	var all []entryJSON
	for _, line := range lines {
		if line == "" {
			continue
		}
		var e entryJSON
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

func TestSendAndTail(t *testing.T) {
	n := serve(t)
	alice, bob := "[]\\`_^{|}", "王小明"
	conv := string(pim.Direct(pim.UserID(alice), pim.UserID(bob)))

	if got := n.ok("", "send", "--as", alice, "--to", bob, "hi", "there"); got[0] != "stored: "+conv+" #1" {
		t.Errorf("send printed %q", got)
	}
	var sent sentJSON
	if err := json.Unmarshal([]byte(n.ok("", "send", "--as", bob, "--conversation", conv, "--device", "phone", "--json", "hello")[0]), &sent); err != nil {
		t.Fatal(err)
	}
	if sent.Seq != 2 || string(sent.Conversation) != conv || sent.Duplicate {
		t.Errorf("send --json printed %+v", sent)
	}

	got := entries(t, n.ok("", "tail", "--as", alice, "--with", bob, "--no-follow", "--json"))
	if len(got) != 2 || *got[0].Text != "hi there" || *got[1].Text != "hello" {
		t.Fatalf("tail printed %+v", got)
	}
	e := got[1]
	if string(e.Conversation) != conv || e.Seq != 2 || e.Anchor != 2 || string(e.Sender) != bob || e.Device != "phone" ||
		e.ClientMessageID != sent.ClientMessageID || e.ServerMS != sent.ServerMS || e.LocalMS == 0 || e.Kind != "message" {
		t.Errorf("entry %+v for %+v", e, sent)
	}
	if got := entries(t, n.ok("", "tail", "--as", alice, "--with", bob, "--no-follow", "--json", "--from", "2")); len(got) != 1 || got[0].Seq != 2 {
		t.Errorf("from 2: %+v", got)
	}
	if got := entries(t, n.ok("", "tail", "--as", alice, "--with", bob, "--no-follow", "--json", "--from", "3")); len(got) != 0 {
		t.Errorf("from 3: %+v", got)
	}
	if got := n.ok("", "tail", "--as", alice, "--with", bob, "--no-follow"); len(got) != 2 || !strings.HasSuffix(got[1], bob+": hello") {
		t.Errorf("for people: %q", got)
	}
}

func TestSendReply(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "Lunch at noon?")
	n.ok("", "send", "--as", "bob", "--to", "alice", "--reply", "1", "Yes")
	n.ok("one\ntwo", "send", "--as", "alice", "--to", "bob", "--reply", "2", "-")
	got := entries(t, n.ok("", "tail", "--as", "alice", "--with", "bob", "--no-follow", "--json", "--from", "2"))
	if len(got) != 3 || *got[0].Text != "Yes" || *got[0].Reply != (replyJSON{1, "alice", "Lunch at noon?", false}) ||
		*got[2].Text != "two" || *got[2].Reply != (replyJSON{2, "bob", "Yes", false}) {
		t.Errorf("tail printed %+v", got)
	}
	people := n.ok("", "tail", "--as", "alice", "--with", "bob", "--no-follow")
	if !strings.HasSuffix(people[1], "bob: Yes  (reply to 1, alice: Lunch at noon?)") {
		t.Errorf("for people: %q", people)
	}
	n.refuses("seq 9 of d:alice:bob is no message", exitRefused, "send", "--as", "alice", "--to", "bob", "--reply", "9", "to nothing")
	n.ok("", "edit", "--as", "alice", "--to", "bob", "1", "Lunch at one?")
	n.ok("", "send", "--as", "bob", "--to", "alice", "--reply", "1", "No")
	got = entries(t, n.ok("", "tail", "--as", "alice", "--with", "bob", "--no-follow", "--json", "--from", "6"))
	if len(got) != 1 || *got[0].Reply != (replyJSON{1, "alice", "Lunch at one?", false}) {
		t.Errorf("a reply to an edited message: %+v", got)
	}
}

func TestSendMentions(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "--mention", "bob", "--mention", "eve", "lunch?")
	n.ok("one\ntwo", "send", "--as", "alice", "--to", "bob", "--mention-all", "-")
	got := entries(t, n.ok("", "tail", "--as", "alice", "--with", "bob", "--no-follow", "--json"))
	if len(got) != 3 || fmt.Sprint(got[0].Mentioned) != "[bob eve]" || got[0].MentionAll || !got[1].MentionAll || !got[2].MentionAll {
		t.Errorf("tail printed %+v", got)
	}
	people := n.ok("", "tail", "--as", "alice", "--with", "bob", "--no-follow")
	if !strings.HasSuffix(people[0], "alice: lunch? (@bob @eve)") || !strings.HasSuffix(people[1], "alice: one (@all)") {
		t.Errorf("for people: %q", people)
	}
}

func TestSendLines(t *testing.T) {
	n := serve(t)
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	acks := n.ok(strings.Join(lines, "\n"), "send", "--as", "alice", "--to", "bob", "-")
	if len(acks) != len(lines) || acks[199] != "stored: d:alice:bob #200" {
		t.Errorf("%d answers, the last %q", len(acks), acks[len(acks)-1])
	}
	var got []string
	for _, e := range entries(t, n.ok("", "tail", "--as", "bob", "--with", "alice", "--no-follow", "--json")) {
		got = append(got, *e.Text)
	}
	if !slices.Equal(got, lines) {
		t.Errorf("the log holds %q", got)
	}
}

func TestTailFollows(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "before")
	tail := n.open("tail", "--as", "bob", "--with", "alice", "--json")
	if !tail.lines.Scan() || !strings.Contains(tail.lines.Text(), `"text":"before"`) {
		t.Fatalf("first line %q", tail.lines.Text())
	}
	n.ok("", "send", "--as", "alice", "--to", "bob", "after")
	if !tail.lines.Scan() || !strings.Contains(tail.lines.Text(), `"text":"after"`) {
		t.Fatalf("second line %q", tail.lines.Text())
	}
	tail.cancel()
	if status := tail.ends(); status != exitInterrupted {
		t.Errorf("interrupted, it ended with status %d", status)
	}
}

func TestChat(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "bob", "--to", "alice", "from yesterday")
	alice := n.open("chat", "--as", "alice", "--to", "bob")
	bob := n.open("chat", "--as", "bob", "--to", "alice")
	alice.sees("bob: from yesterday")
	bob.sees("bob: from yesterday")
	alice.types("hi")
	alice.sees("✓ hi")
	bob.sees("alice: hi")
	bob.types("hello \x1b[2J")
	bob.sees("✓ hello \ufffd[2J")
	alice.sees("bob: hello \ufffd[2J")
	if a, b := alice.ends(), bob.ends(); a != exitOK || b != exitOK {
		t.Errorf("statuses %d and %d", a, b)
	}
}

func TestChatWithPipedInput(t *testing.T) {
	n := serve(t)
	got := n.ok("one\n\ntwo\n", "chat", "--as", "alice", "--to", "bob")
	if want := []string{"✓ one", "✓ two"}; !slices.Equal(got, want) {
		t.Errorf("printed %q, want %q", got, want)
	}
	got = n.ok("three", "chat", "--as", "alice", "--to", "bob", "--json", "--history", "0")
	if len(got) != 1 || !strings.Contains(got[0], `"event":"sent"`) || !strings.Contains(got[0], `"seq":3`) {
		t.Errorf("printed %q", got)
	}
}

func TestChatCommandsLineByLine(t *testing.T) {
	n := serve(t)
	alice := n.open("chat", "--as", "alice", "--to", "bob")
	alice.types("/offline")
	alice.sees("* offline")
	alice.types("hi")
	alice.sees("… hi")
	alice.types("/online")
	alice.sees("* connected again")
	alice.sees("✓ hi")
	alice.types("//hi")
	alice.sees("✓ /hi")
	alice.types("/dance")
	alice.sees("✗ line 5 — there is no command /dance; /help lists them, //dance sends it as a text")
	alice.types("/mute")
	alice.sees("* d:alice:bob is muted")
	alice.types("/resend")
	alice.sees("* no message here has failed")
	alice.types("/to carol")
	alice.sees("* this chat keeps to d:alice:bob")
	alice.types("/help")
	alice.sees("* /quit — end")
	bob := n.open("chat", "--as", "bob", "--to", "alice", "--json", "--history", "0")
	bob.types("/block")
	bob.sees(`{"event":"notice","text":"alice is blocked"}`)
	if status := bob.ends(); status != exitOK {
		t.Errorf("bob's status %d", status)
	}
	alice.types("are you there?")
	alice.sees("✗ are you there? — user alice is blocked")
	alice.types("/resend")
	alice.sees("✗ are you there? — user alice is blocked")
	alice.types("/discard")
	alice.types("/quit")
	if status := alice.ends(); status != exitUsage { // /dance was neither a command nor sent
		t.Errorf("after what failed was discarded: status %d", status)
	}
	if got := n.ok("/resend", "chat", "--as", "alice", "--to", "bob", "--history", "1"); !slices.Equal(got, []string{"alice: /hi", "* no message here has failed"}) {
		t.Errorf("later: %q", got)
	}
}

func TestGroup(t *testing.T) {
	n := serve(t)
	id := n.ok("", "group", "create", "--as", "alice", "bob", "a,b")[0]
	if !strings.HasPrefix(id, "g:") {
		t.Fatalf("created %q", id)
	}
	n.ok("", "send", "--as", "a,b", "--conversation", id, "hi")
	n.refuses("", exitRefused, "send", "--as", "carol", "--conversation", id, "hi")
	n.refuses("", exitRefused, "tail", "--as", "carol", "--conversation", id, "--no-follow")
	n.ok("", "group", "join", "--as", "bob", id, "carol")
	n.ok("", "send", "--as", "carol", "--conversation", id, "hello")
	n.ok("", "group", "leave", "--as", "bob", id)
	n.refuses("", exitRefused, "send", "--as", "bob", "--conversation", id, "late")

	kinds := func(user string) (all []string) {
		for _, e := range entries(t, n.ok("", "tail", "--as", user, "--conversation", id, "--no-follow", "--json")) {
			all = append(all, e.Kind)
		}
		return all
	}
	if got, want := kinds("alice"), []string{"create", "message", "join", "message", "leave"}; !slices.Equal(got, want) {
		t.Errorf("alice sees %q, want %q", got, want)
	}
	if got, want := kinds("carol"), []string{"join", "message", "leave"}; !slices.Equal(got, want) {
		t.Errorf("carol, who came later, sees %q, want %q", got, want)
	}
}

func TestOverTCPWithToken(t *testing.T) {
	n := serve(t)
	token, stderr, status := pimWith(t.Context(), "", "token", "--data", n.data, "--user", "alice", "--ttl", "1h")
	if status != exitOK {
		t.Fatalf("token: status %d: %s", status, stderr)
	}
	stdout, stderr, status := pimWith(t.Context(), "", "send", "--server", n.tcp, "--token", strings.TrimSpace(token), "--to", "bob", "hi")
	if status != exitOK || stdout != "stored: d:alice:bob #1\n" {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	n := serve(t)
	other := filepath.Join(t.TempDir(), "keys.json")
	if _, err := account.CreateDevelopmentKey(other); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		status int
		args   []string
	}{
		{"say who you are", exitUsage, []string{"send", "--to", "bob", "hi"}},
		{"give one", exitUsage, []string{"send", "--as", "alice", "--token", "x.y.z", "--to", "bob", "hi"}},
		{"name one conversation", exitUsage, []string{"send", "--as", "alice", "hi"}},
		{"name one conversation", exitUsage, []string{"tail", "--as", "alice", "--with", "bob", "--conversation", "d:alice:bob", "--no-follow"}},
		{"not allowed", exitUsage, []string{"send", "--as", "a b", "--to", "bob", "hi"}},
		{"not allowed", exitUsage, []string{"send", "--as", "alice", "--to", "b/c", "hi"}},
		{"has none of the forms", exitUsage, []string{"tail", "--as", "alice", "--conversation", "bob", "--no-follow"}},
		{"expected", exitUsage, []string{"send", "--as", "alice", "--to", "bob"}},
		{"See: pim send --help", exitUsage, []string{"send", "--colour", "hi"}},
		{"is not this server's; name its data directory", exitRefused, []string{"send", "--as", "alice", "--keys", other, "--to", "bob", "hi"}},
		{"get one with", exitUsage, []string{"send", "--token", "secret", "--to", "bob", "hi"}},
		{`"a\xff" is not UTF-8; pim send - takes`, exitUsage, []string{"send", "--as", "alice", "--to", "bob", "a\xff"}},
		{"the text has 65539 bytes, a message holds at most 65536", exitUsage, []string{"send", "--as", "alice", "--to", "bob", strings.Repeat("x", pim.MaxPayload+3)}},
	} {
		n.refuses(c.want, c.status, c.args...)
	}
	_, stderr, status := pimWith(t.Context(), "", "send", "--server", "http://127.0.0.1:1", "--data", n.data, "--as", "alice", "--to", "bob", "hi")
	if status != exitUnavailable || !strings.Contains(stderr, "no server answers at http://127.0.0.1:1: start one with `make run`") {
		t.Errorf("no server: status %d, %q", status, stderr)
	}
	http, tcp := strings.TrimPrefix(n.url, "http://"), strings.TrimPrefix(n.tcp, "tcp://")
	for server, want := range map[string]struct {
		text   string
		status int
	}{
		http:                   {"write --server http://HOST:PORT", exitUsage},
		"localhost":            {"write --server http://HOST:PORT", exitUsage},
		"http://[::1":          {"is not a URL", exitUsage},
		"http://" + tcp:        {"check --server: http:// is for WebSocket", exitUnavailable},
		"https://" + http:      {"check --server: http:// is for WebSocket", exitUnavailable},
		"tcp://" + http:        {"check --server: http:// is for WebSocket", exitUnavailable},
		"tls://" + tcp:         {"check --server: http:// is for WebSocket", exitUnavailable},
		"tcp://127.0.0.1:1":    {"start one with `make run`", exitUnavailable},
		"tls://pim..invalid:1": {"there is no such host", exitUnavailable}, // not a valid name: no DNS server is asked
		"tcp://pim..invalid:1": {"or allow that with --insecure", exitUsage},
		"ws://192.0.2.1":       {"the token would cross the network unencrypted", exitUsage},
	} {
		_, stderr, status := pimWith(t.Context(), "", "send", "--server", server, "--data", n.data, "--as", "alice", "--to", "bob", "hi")
		if status != want.status || !strings.Contains(stderr, want.text) {
			t.Errorf("--server %s: status %d, %q; want %d with %q", server, status, stderr, want.status, want.text)
		}
	}
	for _, command := range [][]string{
		{"send", "--as", "alice", "--to", "bob", "hi"},
		{"tail", "--as", "alice", "--with", "bob"},
		{"chat", "--as", "alice", "--to", "bob", "--memory"},
		{"group", "create", "--as", "alice", "bob"},
		{"bench", "idle"},
		{"replay", "../../imtest/replay/testdata/none.jsonl"},
	} {
		_, stderr, status := pimWith(t.Context(), "", append(command, "--server", "tcp://pim..invalid:1", "--data", n.data)...)
		if status != exitUsage || !strings.Contains(stderr, "allow that with --insecure") {
			t.Errorf("%v to another machine: status %d, %q", command, status, stderr)
		}
	}
	_, stderr, status = pimWith(t.Context(), "", "send", "--insecure", "--server", "tcp://pim..invalid:1", "--data", n.data, "--as", "alice", "--to", "bob", "hi")
	if status != exitUnavailable || !strings.Contains(stderr, "there is no such host") {
		t.Errorf("--insecure: status %d, %q", status, stderr)
	}
	_, stderr, status = pimWith(t.Context(), "", "token", "--user", "alice", "--data", t.TempDir())
	if status != exitUsage || !strings.Contains(stderr, "start a server there first") {
		t.Errorf("no key: status %d, %q", status, stderr)
	}
	_, stderr, status = pimWith(t.Context(), "", "serve", "--data", t.TempDir(), "--listen", strings.TrimPrefix(n.url, "http://"), "--listen-tcp", "")
	if status != exitUsage || !strings.Contains(stderr, "another server may be running") {
		t.Errorf("a taken address: status %d, %q", status, stderr)
	}
	for _, keys := range []string{"", other} {
		_, stderr, status = pimWith(t.Context(), "", "serve", "--data", filepath.Join(other, "data"), "--keys", keys, "--listen", "127.0.0.1:0", "--listen-tcp", "")
		if status != exitUsage || !strings.Contains(stderr, "not a directory") || !strings.Contains(stderr, "with --data and --keys") {
			t.Errorf("a data directory that cannot be, keys %q: status %d, %q", keys, status, stderr)
		}
	}
	_, stderr, status = pimWith(t.Context(), "", "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--listen-tcp", "", "--tls-cert", "gone.pem", "--tls-key", "gone.pem")
	if status != exitUsage || !strings.Contains(stderr, "TLS certificate: open gone.pem") || strings.Contains(stderr, "--data") {
		t.Errorf("a certificate that is not there: status %d, %q", status, stderr)
	}
	_, stderr, status = pimWith(t.Context(), "", "serve", "--listen", ":0", "--listen-tcp", "")
	if status != exitUsage || !strings.Contains(stderr, "nothing would be encrypted") {
		t.Errorf("listening in the clear: status %d, %q", status, stderr)
	}
}

// TestWithoutTLS talks without TLS to a server that has TLS.
func TestWithoutTLS(t *testing.T) {
	cert, key := certificate(t)
	n := serve(t, "--tls-cert", cert, "--tls-key", key)
	for _, server := range []string{n.tcp, strings.Replace(n.url, "https://", "http://", 1)} {
		_, stderr, status := pimWith(t.Context(), "", "send", "--server", server, "--data", n.data, "--as", "alice", "--to", "bob", "hi")
		if status != exitUnavailable || !strings.Contains(stderr, "speaks TLS at this address: name it with https://, wss:// or tls://") && !strings.Contains(stderr, "this address speaks TLS: name it with tls://") {
			t.Errorf("--server %s: status %d, %q", server, status, stderr)
		}
	}
}

// certificate writes a self-signed certificate and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestNotStoredInTime: if the reason of a delay is known, the error tells it, and does not
// say that there was no answer.
func TestNotStoredInTime(t *testing.T) {
	s, m := &session{timeout: time.Millisecond}, &client.Sending{}
	for _, c := range []struct {
		e    client.Event
		want string
	}{
		{client.SendEvent{State: client.Queued}, "no answer within 1ms; the message may"},
		{client.SendEvent{State: client.Delayed, Err: pim.Errorf(pim.KindDiskFull, "no room")}, "not stored within 1ms: no room (disk_full); it may"},
		{client.SendEvent{State: client.InFlight}, "no room"},
		{client.StateEvent{State: client.Waiting, Err: pim.Errorf(pim.KindUnauthorized, "expired")}, "not stored within 1ms: expired (unauthorized); it may"},
		{client.StateEvent{State: client.Connecting}, "expired"},
		{client.StateEvent{State: client.Connected}, "no room"},
		{client.SendEvent{State: client.Delivered}, "no answer"},
	} {
		switch e := c.e.(type) {
		case client.SendEvent:
			s.delays.note(e)
		case client.StateEvent:
			s.delays.noteLink(e)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errLate)
		_, err := s.waitFor(ctx, m)
		cancel()
		if pim.KindOf(err) != pim.KindTimeout || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.e, err, c.want)
		}
	}
}

// TestChatOfADeviceInUse: only one chat can open the local store of a device.
func TestChatOfADeviceInUse(t *testing.T) {
	n := serve(t)
	alice := n.open("chat", "--as", "alice", "--to", "bob", "--device", "phone")
	alice.types("hi")
	alice.sees("✓ hi")
	n.refuses("end the other chat, leave out --device", exitUnavailable, "chat", "--as", "alice", "--to", "bob", "--device", "phone")
}

func TestLook(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "bob", "--to", "alice", "hi")
	look := n.open("look", "--as", "alice", "--with", "bob", "--json")
	sees := func(prefix string) {
		t.Helper()
		var seen []string
		for look.lines.Scan() {
			if strings.HasPrefix(look.lines.Text(), prefix) {
				return
			}
			seen = append(seen, look.lines.Text())
		}
		t.Fatalf("never saw %q, only %q", prefix, seen)
	}
	sees(`{"user":"bob","online":false`)
	n.open("tail", "--as", "bob", "--with", "alice")
	sees(`{"user":"bob","online":true}`)
	n.ok("", "send", "--as", "bob", "--to", "alice", "hi again")
	sees(`{"conversation":"d:alice:bob","delivered":2,"read":2,`)
	n.ok("", "look", "--as", "bob", "--switch", "off")
	sees(`{"user":"bob","online":false,"unknown":true}`)
	n.refuses("name what to look at", 2, "look", "--as", "bob")
	n.refuses("bob is who looks", 2, "look", "--as", "bob", "--to", "bob")
	n.refuses("nobody else reads u:bob", 2, "look", "--as", "bob", "--conversation", "u:bob")
	n.refuses("not a member", 4, "look", "--as", "bob", "--conversation", "g:nope")
	n.refuses("not a member", 4, "look", "--as", "bob", "--conversation", "d:alice:carl")
}

func TestReceipts(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	if got := n.ok("", "receipts", "--as", "alice", "--with", "bob"); len(got) < 2 || got[0] != "delivered: not known" || got[1] != "read: not known" {
		t.Errorf("receipts printed %q", got)
	}
	group := n.ok("", "group", "create", "--as", "alice", "bob", "carl")[0]
	n.ok("", "send", "--as", "alice", "--conversation", group, "hi")
	n.ok("", "send", "--as", "bob", "--conversation", group, "hello")
	receipts := func(want string, args ...string) {
		t.Helper()
		got := n.ok("", append([]string{"receipts", "--conversation", group}, args...)...)
		if printed := strings.TrimSpace(strings.Join(got, "\n")); printed != want {
			t.Errorf("%q printed %q, want %q", args, printed, want)
		}
	}
	receipts("#2: read by 1 of 2\n#3: read by 0 of 2", "--as", "alice")
	receipts(`{"user":"alice","read":false}`+"\n"+`{"user":"carl","read":false}`, "--as", "carl", "--seq", "3", "--json")
	n.ok("", "receipts", "--as", "bob", "--switch", "off")
	receipts("#2: read by 0 of 1\n#3: read by 0 of 2", "--as", "alice")
	n.refuses("user bob gives no receipts", 4, "receipts", "--as", "bob", "--conversation", group)
	n.ok("", "receipts", "--as", "bob", "--switch", "on")
	receipts(`{"seq":2,"read":1,"members":2}`+"\n"+`{"seq":3,"read":0,"members":2}`, "--as", "bob", "--json")
}

// What is read and marked is the same for every device, of which each command is one.
func TestRead(t *testing.T) {
	n := serve(t)
	for _, text := range []string{"one", "two", "three"} {
		n.ok("", "send", "--as", "alice", "--to", "bob", text)
	}
	prints := func(want string, args ...string) {
		t.Helper()
		if got := strings.TrimSpace(strings.Join(n.ok("", append(args, "--as", "bob", "--with", "alice")...), "\n")); got != want {
			t.Errorf("%q printed %q, want %q", args, got, want)
		}
	}
	prints("d:alice:bob: read up to #2, 1 unread", "read", "2")
	prints("d:alice:bob: read up to #2, 1 unread, marked as unread", "unread")
	prints("d:alice:bob: read up to #2, 1 unread", "unread", "--remove")
	prints(`{"conversation":"d:alice:bob","read":2,"unread":1,"mentions":0,"marked":true}`, "unread", "--json")
	prints("d:alice:bob: read up to #3, 0 unread", "read")
	prints("d:alice:bob: read up to #3, 0 unread", "read", "1")
	n.refuses("there is no entry #9", 4, "read", "--as", "bob", "--with", "alice", "9")
	n.refuses("", 4, "read", "--as", "bob", "--with", "carl")
}

// A tail from beyond the end says where the end is, and goes on from there.
func TestTailFromBeyondTheEnd(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "one")
	term := n.open("tail", "--as", "bob", "--with", "alice", "--json", "--from", "99")
	term.sees("d:alice:bob ends at #1; what comes is shown")
	n.ok("", "send", "--as", "alice", "--to", "bob", "two")
	if !term.lines.Scan() || !strings.Contains(term.lines.Text(), `"seq":2`) {
		t.Errorf("tail printed %q", term.lines.Text())
	}
	term.cancel()
	term.ends()
}

// What was taken back can be set again: a command knows what the commands before it did.
func TestSettingAgain(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "hello")
	for _, set := range [][]string{
		{"block", "--as", "bob", "alice"}, {"mute", "--as", "bob", "--with", "alice"}, {"pin", "--as", "bob", "--with", "alice"},
	} {
		n.ok("", set...)
		n.ok("", append(set, "--remove")...)
		n.ok("", set...)
	}
	n.refuses("", 4, "send", "--as", "alice", "--to", "bob", "blocked again")
	for _, command := range []string{"receipts", "look"} {
		for _, to := range []string{"off", "on", "off"} {
			n.ok("", command, "--as", "bob", "--switch", to)
		}
	}
	n.refuses("", 4, "receipts", "--as", "bob", "--with", "alice")
	n.refuses("", 2, "read", "--as", "bob", "--with", "alice", "0")
	n.refuses("", 2, "erase", "--as", "alice", "--with", "bob", "--up-to", "0")
}

// Each of these is a command in the user's own log.
func TestSettings(t *testing.T) {
	n := serve(t)
	n.ok("", "send", "--as", "alice", "--to", "bob", "hi")
	var known pim.Command
	set := func(want pim.Command, args ...string) {
		t.Helper()
		sent := n.ok("", append(args, "--as", "alice", "--json")...)[0]
		if !strings.Contains(sent, `"conversation":"u:alice"`) {
			t.Errorf("%q printed %s", args, sent)
		}
		entries := n.ok("", "tail", "--as", "alice", "--conversation", "u:alice", "--no-follow", "--json")
		var last struct{ Payload []byte }
		if err := json.Unmarshal([]byte(entries[len(entries)-1]), &last); err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeCommand(last.Payload)
		if until := got.Until.Time(); want.Until != 0 && until.After(time.Now()) && until.Before(time.Now().Add(time.Hour)) {
			want.Until = got.Until
		}
		known, want.Known = got, got.Known
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q wrote %+v, %v; want %+v", args, got, err, want)
		}
	}
	set(pim.Command{Kind: pim.CommandMute, Subject: "d:alice:bob"}, "mute", "--with", "bob")
	set(pim.Command{Kind: pim.CommandMute, Subject: "d:alice:bob", Until: 1}, "mute", "--with", "bob", "--for", "1h")
	set(pim.Command{Kind: pim.CommandMute, Subject: "d:alice:bob", Removed: true}, "mute", "--with", "bob", "--remove")
	set(pim.Command{Kind: pim.CommandPin, Subject: "d:alice:bob"}, "pin", "--conversation", "d:alice:bob")
	set(pim.Command{Kind: pim.CommandPin, Subject: "d:alice:bob", Removed: true}, "pin", "--with", "bob", "--remove")
	set(pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bob B.")}, "contact", "bob", "Bob", "B.")
	set(pim.Command{Kind: pim.CommandContact, Subject: "carl"}, "contact", "carl")
	set(pim.Command{Kind: pim.CommandContact, Subject: "bob", Removed: true}, "contact", "bob", "--remove")
	set(pim.Command{Kind: pim.CommandContact, Subject: "bob"}, "contact", "bob")
	if known.Known == 0 {
		t.Error("the name is given without knowing that the contact was removed")
	}
	set(pim.Command{Kind: pim.CommandBlock, Subject: "bob"}, "block", "bob")
	n.refuses("", exitRefused, "send", "--as", "bob", "--to", "alice", "hi")
	set(pim.Command{Kind: pim.CommandBlock, Subject: "bob", Removed: true}, "block", "bob", "--remove")
	n.ok("", "send", "--as", "bob", "--to", "alice", "hi")
	n.refuses("name one conversation", exitUsage, "mute", "--as", "alice")
	n.refuses("not allowed", exitUsage, "block", "--as", "alice", "a:b")
	n.refuses("in the past", exitUsage, "mute", "--as", "alice", "--with", "bob", "--for=-1h")
}
