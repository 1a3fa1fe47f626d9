package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Every upgrade that RFC 6455 and RFC 9110 allow is taken, and the connection works. Any
// other request is refused with the status that says why.
func TestUpgradeRequests(t *testing.T) {
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	const version = "Sec-WebSocket-Version: 13"
	plain := []string{"Connection: Upgrade", "Upgrade: websocket", key, version}
	with := func(lines ...string) []string { return append(lines, key, version) }
	for name, c := range map[string]struct {
		lines []string
		want  int
	}{
		"plain":                         {plain, 101},
		"two Connection lines":          {with("Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket"), 101},
		"two, the other way":            {with("Connection: UPGRADE", "Upgrade: WebSocket", "Connection: close"), 101},
		"tabs":                          {with("Connection:\tkeep-alive\t,\tuPGRADE\t", "Upgrade: \twebsocket\t"), 101},
		"empty elements":                {with("Connection: , ,keep-alive,,Upgrade,", "Upgrade: ,websocket"), 101},
		"no spaces":                     {with("Connection: keep-alive,Upgrade", "Upgrade: websocket"), 101},
		"capitals":                      {with("CONNECTION: UPGRADE", "UPGRADE: WEBSOCKET"), 101},
		"Upgrade list":                  {with("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c, websocket"), 101},
		"two Upgrade lines":             {with("Connection: upgrade", "Upgrade: h2c", "Upgrade: websocket"), 101},
		"key with spaces around":        {[]string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZQ== \t", "Sec-WebSocket-Version:\t13 "}, 101},
		"extension and protocol":        {append(plain, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "Sec-WebSocket-Protocol: a, b"), 101},
		"no body":                       {append(plain, "Content-Length: 0"), 101},
		"a body":                        {append(plain, "Content-Length: 5"), 400},
		"a body in chunks":              {append(plain, "Transfer-Encoding: chunked"), 400},
		"no Connection":                 {with("Upgrade: websocket"), 426},
		"no Upgrade":                    {with("Connection: Upgrade"), 426},
		"only as a part":                {with("Connection: Upgrader, no-upgrade", "Upgrade: websocket"), 426},
		"another protocol":              {with("Connection: Upgrade", "Upgrade: websocket2, h2c"), 426},
		"a letter that folds":           {with("Connection: Upgrade", "Upgrade: web\u017focket"), 426},
		"another version":               {append(plain[:3:3], "Sec-WebSocket-Version: 8"), 426},
		"two versions":                  {append(plain, "Sec-WebSocket-Version: 8"), 426},
		"no version":                    {plain[:3], 426},
		"no key":                        {[]string{plain[0], plain[1], version}, 400},
		"two keys":                      {append(plain, key), 400},
		"key of 24 that are not base64": {[]string{plain[0], plain[1], version, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="}, 400},
		"key of 18 bytes":               {[]string{plain[0], plain[1], version, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"}, 400},
		"key of 15 bytes":               {[]string{plain[0], plain[1], version, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"}, 400},
		"key without padding":           {[]string{plain[0], plain[1], version, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"}, 400},
		"key in base64url":              {[]string{plain[0], plain[1], version, "Sec-WebSocket-Key: __________________8="}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			x := newLab(t, nil)
			resp, _, nc := x.upgrades(t, http.MethodGet, c.lines...)
			if resp.StatusCode != c.want {
				t.Fatalf("answered %s, want %d", resp.Status, c.want)
			}
			if c.want == 426 && (resp.Header.Get("Sec-WebSocket-Version") != "13" || !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket")) {
				t.Errorf("426 with %v", resp.Header)
			}
			if c.want != 101 {
				return
			}
			if resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Sec-WebSocket-Extensions")+resp.Header.Get("Sec-WebSocket-Protocol") != "" {
				t.Errorf("upgraded with %v", resp.Header)
			}
			p := &peer{t: t, nc: nc, websocket: true}
			p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "phone"})
			expect[*wirepb.Welcome](p)
		})
	}
}

// The refusal of an upgrade by HEAD has no body: a proxy that keeps the connection would take
// a body for the beginning of the next answer.
func TestUpgradeByHead(t *testing.T) {
	x := newLab(t, nil)
	resp, in, _ := x.upgrades(t, http.MethodHead, "Connection: Upgrade, close", "Upgrade: websocket",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != http.MethodGet {
		t.Errorf("answered %s with %v", resp.Status, resp.Header)
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("behind the answer to HEAD: %q, %v", rest, err)
	}
}

// upgrades asks for a WebSocket with the header lines, and returns the answer and what comes
// behind it. The connection is closed when t ends.
func (x *lab) upgrades(t *testing.T, method string, lines ...string) (*http.Response, *bufio.Reader, net.Conn) {
	t.Helper()
	nc, err := net.Dial("tcp", x.h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(5 * time.Minute))
	io.WriteString(nc, method+" "+wire.WebSocketPath+" HTTP/1.1\r\nHost: x\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n")
	in := bufio.NewReader(nc)
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return resp, in, nc
}
