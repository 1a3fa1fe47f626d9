package gateway

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
)

// The library that upgrades looks only at the first line of a header, and parses lists
// with fewer separators than RFC 9110 allows. So a request is judged here, and the library
// gets it in the one form that it takes.

// judgeUpgrade returns nil if r is an upgrade to WebSocket as RFC 6455 section 4.2.1
// describes it, and has then put r's headers into their plainest form. Else it returns
// the status of the answer and what is wrong.
func judgeUpgrade(r *http.Request) (status int, err error) {
	switch {
	case r.Method != http.MethodGet: // HEAD, too, comes here: the mux routes it as GET
		return http.StatusMethodNotAllowed, pim.Errorf(pim.KindInvalid, "a WebSocket begins with GET")
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor > 1:
		return http.StatusHTTPVersionNotSupported, pim.Errorf(pim.KindInvalid, "a WebSocket begins with HTTP/1.1")
	case !hasToken(r.Header["Connection"], "upgrade") || !hasToken(r.Header["Upgrade"], "websocket"):
		return http.StatusUpgradeRequired, pim.Errorf(pim.KindInvalid, "this is a WebSocket: the request needs Connection: Upgrade and Upgrade: websocket")
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return http.StatusBadRequest, pim.Errorf(pim.KindInvalid, "an upgrade has no body: it would be read as frames")
	}
	if version := only(r.Header["Sec-Websocket-Version"]); version != "13" {
		return http.StatusUpgradeRequired, pim.Errorf(pim.KindUnsupported, "Sec-WebSocket-Version must be 13")
	}
	key := only(r.Header["Sec-Websocket-Key"])
	if nonce, err := base64.StdEncoding.DecodeString(key); err != nil || len(nonce) != 16 {
		return http.StatusBadRequest, pim.Errorf(pim.KindInvalid, "Sec-WebSocket-Key must be 16 bytes in base64, once")
	}
	r.Header["Connection"], r.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	r.Header["Sec-Websocket-Key"], r.Header["Sec-Websocket-Version"] = []string{key}, []string{"13"}
	return 0, nil
}

// hasToken reports whether a header, which may come in several lines, lists token. Case
// does not matter.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for _, element := range strings.Split(line, ",") {
			// Of equal length: EqualFold also takes longer letters for k and s.
			if element = strings.Trim(element, " \t"); len(element) == len(token) && strings.EqualFold(element, token) {
				return true
			}
		}
	}
	return false
}

// only returns the value of a header that comes in one line, "" if it comes in none or
// several.
func only(lines []string) string {
	if len(lines) != 1 {
		return ""
	}
	return strings.Trim(lines[0], " \t")
}

// ServeHTTP upgrades a request to WebSocket and serves the connection in a goroutine of
// the gateway. Close could not wait for the HTTP server's own.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	remote := g.Proxies.client(r)
	if status, err := judgeUpgrade(r); err != nil {
		g.Logger.Debug("upgrade failed", "remote", remote, "err", err)
		switch status {
		case http.StatusBadRequest:
			w.Header().Set("Connection", "close") // do not wait for a body that was announced
		case http.StatusMethodNotAllowed:
			w.Header().Set("Allow", http.MethodGet)
		case http.StatusUpgradeRequired:
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Sec-WebSocket-Version", "13")
		}
		http.Error(w, err.Error(), status)
		return
	}
	if v := g.admit(); v.Refused() {
		g.answerRefused(w, v)
		return
	}
	if v := g.enterUpgrade(r); v.Refused() {
		g.open.Add(-1)
		g.answerRefused(w, v)
		return
	}
	nc, rw, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		g.open.Add(-1)
		if nc != nil {
			nc.Close()
		}
		g.Logger.Debug("upgrade failed", "remote", remote, "err", err)
		return
	}
	early := make([]byte, rw.Reader.Buffered()) // sent right after the upgrade
	if _, err := rw.Reader.Read(early); len(early) > 0 && err != nil {
		g.open.Add(-1)
		nc.Close()
		return
	}
	if remote == r.RemoteAddr {
		remote = "" // nc knows it
	}
	if !g.start(func() { g.serve(nc, remote, webSocket, early) }) {
		g.open.Add(-1)
		nc.Close()
	}
}
