package web

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pim-im/pim"
)

// built is a bundle as the page's build leaves it.
func built() fs.FS {
	return fstest.MapFS{
		"dist/index.html":              {Data: []byte("<!doctype html>the page")},
		"dist/index.html.br":           {Data: []byte("br of the page")},
		"dist/index.html.gz":           {Data: []byte("gz of the page")},
		"dist/assets/page-1a2b3c.js":   {Data: []byte("script")},
		"dist/assets/style-1a2b3c.css": {Data: []byte("style")},
		"dist-missing.html":            {Data: []byte("make build")},
	}
}

func handler(files fs.FS, o Options) http.Handler {
	mux := http.NewServeMux()
	serve(mux, files, o)
	return mux
}

// ask sends a request from this machine, as a browser does that has the page open.
func ask(h http.Handler, method, target, body string, header map[string]string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:50000", "127.0.0.1:7400"
	for name, value := range header {
		switch name {
		case "RemoteAddr":
			r.RemoteAddr = value
		case "Host":
			r.Host = value
		default:
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func read(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCodings(t *testing.T) {
	h := handler(built(), Options{})
	tags := make(map[string]string)
	for accept, want := range map[string]struct{ coding, body string }{
		"":                     {"", "<!doctype html>the page"},
		"identity":             {"", "<!doctype html>the page"},
		"gzip":                 {"gzip", "gz of the page"},
		"gzip, deflate, br":    {"br", "br of the page"},
		"GZIP;q=0.5 , Br;q=0":  {"gzip", "gz of the page"},
		"gzip;q=0.0, br;q=oft": {"", "<!doctype html>the page"},
		"*":                    {"", "<!doctype html>the page"},
	} {
		r := ask(h, "GET", "/", "", map[string]string{"Accept-Encoding": accept})
		if got := read(t, r); r.StatusCode != 200 || got != want.body || r.Header.Get("Content-Encoding") != want.coding {
			t.Errorf("Accept-Encoding %q: %d %q in coding %q; want %q in %q", accept, r.StatusCode, got, r.Header.Get("Content-Encoding"), want.body, want.coding)
		}
		if r.Header.Get("Vary") != "Accept-Encoding" || r.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("Accept-Encoding %q: Vary %q, Content-Type %q", accept, r.Header.Get("Vary"), r.Header.Get("Content-Type"))
		}
		tag := r.Header.Get("ETag")
		if coding, ok := tags[tag]; ok && coding != want.coding {
			t.Errorf("codings %q and %q have the ETag %s both", coding, want.coding, tag)
		}
		tags[tag] = want.coding

		for _, known := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			r := ask(h, "GET", "/", "", map[string]string{"Accept-Encoding": accept, "If-None-Match": known})
			if body := read(t, r); r.StatusCode != http.StatusNotModified || body != "" || r.Header.Get("ETag") != tag {
				t.Errorf("If-None-Match %s: %d %q, ETag %s", known, r.StatusCode, body, r.Header.Get("ETag"))
			}
		}
		if r := ask(h, "GET", "/", "", map[string]string{"Accept-Encoding": accept, "If-None-Match": `"other"`}); r.StatusCode != 200 {
			t.Errorf("If-None-Match of another page: %d", r.StatusCode)
		}
	}
	if r := ask(h, "HEAD", "/", "", nil); r.StatusCode != 200 || read(t, r) != "" || r.Header.Get("Content-Length") != "23" {
		t.Errorf("HEAD: %d, Content-Length %s", r.StatusCode, r.Header.Get("Content-Length"))
	}
}

func TestCaching(t *testing.T) {
	h := handler(built(), Options{})
	for target, want := range map[string]string{
		"/":                         "no-cache",
		"/page.json":                "no-store",
		"/assets/page-1a2b3c.js":    "public, max-age=31536000, immutable",
		"/assets/style-1a2b3c.css":  "public, max-age=31536000, immutable",
		"/assets/none.js":           "",
		"/assets/../index.html":     "",
		"/assets/page-1a2b3c.js.br": "",
	} {
		r := ask(h, "GET", target, "", nil)
		if got := r.Header.Get("Cache-Control"); got != want || (r.StatusCode == 200) != (want != "") {
			t.Errorf("%s: %d, Cache-Control %q, want %q", target, r.StatusCode, got, want)
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, target := range []string{"/", "/assets/page-1a2b3c.js", "/assets/none.js", "/page.json"} {
		head := ask(handler(built(), Options{}), "GET", target, "", nil).Header
		csp := head.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "frame-ancestors 'self'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %q lacks %q", target, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") || strings.Contains(csp, "*") {
			t.Errorf("%s: policy %q", target, csp)
		}
		if head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", target, head)
		}
	}
}

// Without the bundle the package is built all the same, and the page says what to do.
func TestMissing(t *testing.T) {
	for name, files := range map[string]fs.FS{"no bundle": fstest.MapFS{"dist-missing.html": {Data: []byte("make build")}}, "repository": embedded} {
		if name == "repository" && Built() {
			continue
		}
		r := ask(handler(files, Options{}), "GET", "/", "", map[string]string{"Accept-Encoding": "br"})
		if body := read(t, r); r.StatusCode != 404 || !strings.Contains(body, "make build") || r.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %d %q", name, r.StatusCode, body)
		}
	}
}

// browser is what a browser sends with the page's own POST.
func browser(change map[string]string) map[string]string {
	header := map[string]string{"Origin": "http://127.0.0.1:7400", "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
	for name, value := range change {
		header[name] = value
	}
	return header
}

func TestLogin(t *testing.T) {
	signs := true
	o := Options{
		Issue: func(u pim.UserID) (string, error) { return "token of " + string(u), nil },
		Login: func() bool { return signs },
	}
	h := handler(built(), o)
	for _, c := range []struct {
		name   string
		body   string
		header map[string]string
		want   int
		remote bool // the page itself is not opened on this machine
	}{
		{"the page", `{"user":"alice"}`, nil, 200, false},
		{"localhost", `{"user":"alice"}`, map[string]string{"Host": "localhost:7400", "Origin": "http://localhost:7400"}, 200, false},
		{"IPv6", `{"user":"alice"}`, map[string]string{"RemoteAddr": "[::1]:1", "Host": "[::1]:7400", "Origin": "http://[::1]:7400"}, 200, false},
		{"IPv4 in IPv6", `{"user":"alice"}`, map[string]string{"RemoteAddr": "[::ffff:127.0.0.1]:1"}, 200, false},
		{"a browser without Sec-Fetch-Site", `{"user":"alice"}`, map[string]string{"Sec-Fetch-Site": ""}, 200, false},

		{"another machine", `{"user":"alice"}`, map[string]string{"RemoteAddr": "192.0.2.7:1"}, 403, true},
		{"no address", `{"user":"alice"}`, map[string]string{"RemoteAddr": "@"}, 403, true},
		{"Forwarded", `{"user":"alice"}`, map[string]string{"Forwarded": "for=127.0.0.1"}, 403, true},
		{"X-Forwarded-For", `{"user":"alice"}`, map[string]string{"X-Forwarded-For": "127.0.0.1"}, 403, true},
		{"X-Forwarded-Proto", `{"user":"alice"}`, map[string]string{"X-Forwarded-Proto": "https"}, 403, true},
		{"X-Real-IP", `{"user":"alice"}`, map[string]string{"X-Real-IP": "127.0.0.1"}, 403, true},
		{"Via", `{"user":"alice"}`, map[string]string{"Via": "1.1 proxy"}, 403, true},
		{"a name that leads here", `{"user":"alice"}`, map[string]string{"Host": "evil.example:7400", "Origin": "http://evil.example:7400"}, 403, true},
		{"localhost as a prefix", `{"user":"alice"}`, map[string]string{"Host": "localhost.evil.example", "Origin": "http://localhost.evil.example"}, 403, true},
		{"another site", `{"user":"alice"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, false},
		{"another port", `{"user":"alice"}`, map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8080"}, 403, false},
		{"another origin, an old browser", `{"user":"alice"}`, map[string]string{"Sec-Fetch-Site": "", "Origin": "http://evil.example"}, 403, false},
		{"a sandboxed page", `{"user":"alice"}`, map[string]string{"Sec-Fetch-Site": "", "Origin": "null"}, 403, false},
		{"no origin", `{"user":"alice"}`, map[string]string{"Origin": ""}, 403, false},

		{"a form", `{"user":"alice"}`, map[string]string{"Content-Type": "text/plain"}, 415, false},
		{"no type", `{"user":"alice"}`, map[string]string{"Content-Type": ""}, 415, false},
		{"no JSON", `user=alice`, nil, 400, false},
		{"an unknown field", `{"user":"alice","ttl":1}`, nil, 400, false},
		{"no user", `{}`, nil, 400, false},
		{"a bad name", `{"user":"al ice"}`, nil, 400, false},
		{"too long", `{"user":"alice","x":"` + strings.Repeat("x", maxLogin) + `"}`, nil, 413, false},
	} {
		r := ask(h, "POST", "/login", c.body, browser(c.header))
		var answer struct{ Token, Error string }
		if err := json.Unmarshal([]byte(read(t, r)), &answer); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if r.StatusCode != c.want || (answer.Token == "token of alice") != (c.want == 200) || (answer.Error == "") != (c.want == 200) {
			t.Errorf("%s: %d %+v, want %d", c.name, r.StatusCode, answer, c.want)
		}
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", c.name, r.Header)
		}
		if c.want == 200 || c.remote {
			wantLogin(t, h, c.name, c.header, c.want == 200)
		}
	}
	for name, silent := range map[string]http.Handler{
		"no development key": handler(built(), Options{Issue: o.Issue, Login: func() bool { return false }}),
		"off":                handler(built(), Options{}),
	} {
		if r := ask(silent, "POST", "/login", `{"user":"alice"}`, browser(nil)); r.StatusCode != 404 {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
		wantLogin(t, silent, name, nil, false)
	}
	if r := ask(h, "GET", "/login", "", nil); r.StatusCode != 405 {
		t.Errorf("GET: %d", r.StatusCode)
	}
}

// wantLogin checks that the page is told whether a name may be picked.
func wantLogin(t *testing.T, h http.Handler, name string, header map[string]string, want bool) {
	t.Helper()
	var page struct{ Login bool }
	if err := json.Unmarshal([]byte(read(t, ask(h, "GET", "/page.json", "", header))), &page); err != nil || page.Login != want {
		t.Errorf("%s: page.json says login %v (%v), want %v", name, page.Login, err, want)
	}
}
