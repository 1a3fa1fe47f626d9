package transport

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/pim-im/pim"
)

// Exposed reports whether others may read what is sent to server, a URL that NewDialer
// takes: it leaves this machine without encryption. A host name other than localhost is
// not looked up, and counts as another machine.
func Exposed(server string) bool {
	u, err := url.Parse(server)
	return err == nil && exposed(u)
}

func exposed(u *url.URL) bool {
	switch u.Scheme {
	case "http", "ws", "tcp":
	default:
		return false
	}
	if strings.EqualFold(u.Hostname(), "localhost") {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err != nil || !ip.Unmap().IsLoopback()
}

// guarded refuses a redirect to an exposed URL if the dial began at one that is not. It
// is an http.Client's CheckRedirect.
func guarded(req *http.Request, via []*http.Request) error {
	if exposed(req.URL) && !exposed(via[0].URL) {
		return pim.Errorf(pim.KindInvalid, "%s redirects to %s, which is not encrypted", via[0].URL, req.URL)
	}
	if len(via) >= 10 { // as net/http does
		return pim.Errorf(pim.KindUnavailable, "%s redirects ten times", via[0].URL)
	}
	return nil
}
