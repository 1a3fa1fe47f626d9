package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/strictjson"
)

// maxLogin is how many bytes a request for a token has at most.
const maxLogin = 1 << 10

// pageJSON is what the page must know before it can begin.
type pageJSON struct {
	Login bool `json:"login"` // whether this visitor may pick a name
}

// page tells the page whether its visitor may pick a name.
func (o *Options) page(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, pageJSON{Login: o.issues() && local(r) == nil})
}

func (o *Options) issues() bool {
	return o.Issue != nil && (o.Login == nil || o.Login())
}

// login gives a token for a name. It is for developers: whoever reaches it can be any user.
// So it answers only what comes from a page of this server in a browser on this machine.
func (o *Options) login(w http.ResponseWriter, r *http.Request) {
	if !o.issues() {
		refuse(w, http.StatusNotFound, errors.New("this server gives no tokens: the app that embeds pim does"))
		return
	}
	if err := local(r); err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	if err := sameSite(r); err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, errors.New("the body must be application/json"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogin))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, err)
		return
	}
	var ask struct {
		User pim.UserID `json:"user"`
	}
	if err := strictjson.Unmarshal(body, &ask); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := ask.User.Validate(); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	token, err := o.Issue(ask.User)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Token string `json:"token"`
	}{token})
}

// forwarding are the headers by which proxies say for whom they ask. Behind a proxy on this
// machine everybody has a loopback address.
var forwarding = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"}

// local returns why r does not come from this machine, or nil. The name that it was sent to must
// be one of this machine, too: otherwise a page elsewhere could have its own name lead here.
func local(r *http.Request) error {
	for _, name := range forwarding {
		if len(r.Header.Values(name)) > 0 {
			return fmt.Errorf("a proxy has passed this on (%s): tokens are given on this machine only", name)
		}
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not on this machine: tokens are given here only", r.RemoteAddr)
	}
	if !loopbackHost(r.Host) {
		return fmt.Errorf("%q is no name of this machine: use localhost or 127.0.0.1", r.Host)
	}
	return nil
}

// loopbackHost reports whether host, with a port or without, can only mean this machine.
func loopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// sameSite returns why r does not come from a page of this server, or nil. Browsers send Origin
// with every POST, and no page can choose it.
func sameSite(r *http.Request) error {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return fmt.Errorf("a page of another site has asked for this (%s)", site)
	}
	origins := r.Header.Values("Origin")
	if len(origins) != 1 {
		return errors.New("the request must name its Origin: only the chat page may ask")
	}
	if u, err := url.Parse(origins[0]); err != nil || !strings.EqualFold(u.Host, r.Host) {
		return fmt.Errorf("a page of %s has asked for this", origins[0])
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked may be gone
}

func refuse(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{err.Error()})
}
