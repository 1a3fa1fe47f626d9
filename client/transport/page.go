package transport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// Page is what a server answers to Get.
type Page struct {
	Status     int
	Body       []byte
	RetryAfter time.Duration // of 429 and 503: how long the server wants to be left alone; at most an hour
}

// Get gets a page of a server that is dialled by WebSocket: path stands in the place of
// wire.WebSocketPath. The connection is closed afterwards. No redirect is followed: header
// may be a secret that is for this server only. A body of more than most bytes is an error, and so
// is a server of another transport. If the two sides do not agree about TLS the error has a
// *TLSError in it.
func (d *Dialer) Get(ctx context.Context, path string, query url.Values, header http.Header, most int64) (*Page, error) {
	page, err := d.get(ctx, path, query, header, most)
	if err != nil {
		return nil, d.explain(err)
	}
	return page, nil
}

func (d *Dialer) get(ctx context.Context, path string, query url.Values, header http.Header, most int64) (*Page, error) {
	u, err := url.Parse(d.address)
	if err != nil || !d.web {
		return nil, pim.Errorf(pim.KindInvalid, "%s has no pages", d.address)
	}
	u.Path, u.RawPath, u.RawQuery = strings.TrimSuffix(u.Path, wire.WebSocketPath)+path, "", query.Encode()
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	t := &http.Transport{Proxy: d.proxy, DialContext: d.dial, TLSClientConfig: d.tls, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	page := &Page{Status: resp.StatusCode}
	page.RetryAfter, _ = retryAfter(resp, time.Now())
	if page.Body, err = io.ReadAll(io.LimitReader(resp.Body, most+1)); err != nil {
		return nil, err
	}
	if int64(len(page.Body)) > most {
		return nil, fmt.Errorf("%s answers more than %d bytes", u.Host, most)
	}
	return page, nil
}
