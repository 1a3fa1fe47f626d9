package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pim-im/pim"
)

// maxOrigins is how many origins may be allowed.
const maxOrigins = 256

// origins are the origins whose pages may open a WebSocket, besides the server's own; none: all.
type origins []string

// parseOrigins reads a list of origins with commas between them. Errors are of KindInvalid.
func parseOrigins(list string) (origins, error) {
	var all origins
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.ToLower(strings.TrimSpace(text)); text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || text != u.Scheme+"://"+u.Host {
			return nil, pim.Errorf(pim.KindInvalid, "%q is no origin like https://app.example.org, without a path", text)
		}
		all = append(all, text)
	}
	if len(all) > maxOrigins {
		return nil, pim.Errorf(pim.KindInvalid, "there are %d origins, at most %d are allowed", len(all), maxOrigins)
	}
	return all, nil
}

// allow reports whether a request comes from a page that may open a WebSocket, or from no page: then it
// has no Origin.
func (o origins) allow(r *http.Request) bool {
	from, said := r.Header["Origin"]
	if len(o) == 0 || !said {
		return true
	}
	if len(from) != 1 {
		return false
	}
	origin := strings.ToLower(from[0])
	_, host, _ := strings.Cut(origin, "://")
	return slices.Contains(o, origin) || host != "" && strings.EqualFold(host, r.Host)
}

// only has h answer requests from pages that are allowed.
func (o origins) only(h http.Handler) http.Handler {
	if len(o) == 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !o.allow(r) {
			http.Error(w, "pages of this origin are not allowed here", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
