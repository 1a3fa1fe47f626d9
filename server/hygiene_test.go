package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pim-im/pim/server"
)

// ask returns the answer to a request, with the headers given as "Name: value".
func (n *node) ask(method, url string, headers ...string) (*http.Response, string) {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), method, url, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return answer, string(body)
}

// Only pages of the origins that are named, and the server's own, open a WebSocket; programs do.
func TestAllowedOrigins(t *testing.T) {
	c := config(t)
	c.AllowedOrigins = "https://App.example.org, http://localhost:8080"
	n := start(t, c, server.Options{})
	url := "http://" + n.Addr() + "/v1/ws"
	for _, test := range []struct {
		origins []string
		status  int // 426: it got as far as to be told that it is no upgrade
	}{
		{nil, http.StatusUpgradeRequired},
		{[]string{"https://app.example.org"}, http.StatusUpgradeRequired},
		{[]string{"HTTP://LOCALHOST:8080"}, http.StatusUpgradeRequired},
		{[]string{"http://" + n.Addr()}, http.StatusUpgradeRequired},
		{[]string{"https://evil.example.org"}, http.StatusForbidden},
		{[]string{"http://app.example.org"}, http.StatusForbidden},
		{[]string{"https://app.example.org.evil.org"}, http.StatusForbidden},
		{[]string{"null"}, http.StatusForbidden},
		{[]string{""}, http.StatusForbidden},
		{[]string{"https://app.example.org", "https://evil.example.org"}, http.StatusForbidden},
	} {
		var headers []string
		for _, o := range test.origins {
			headers = append(headers, "Origin: "+o)
		}
		if answer, _ := n.ask(http.MethodGet, url, headers...); answer.StatusCode != test.status {
			t.Errorf("origins %q: %s", test.origins, answer.Status)
		}
	}
	n.connect("alice", "phone", "http").online()

	open := start(t, config(t), server.Options{})
	if answer, _ := open.ask(http.MethodGet, "http://"+open.Addr()+"/v1/ws", "Origin: https://anywhere.example.org"); answer.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without a list: %s", answer.Status)
	}
	for _, bad := range []string{"app.example.org", "https://a.example.org/", "https://a.example.org/x", "ftp://a", "*", "https://"} {
		c.AllowedOrigins = bad
		if _, err := server.New(c, server.Options{}); err == nil || !strings.Contains(err.Error(), "setting allowed-origins: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// With an address of their own, metrics are there and nowhere else; clients are not served there.
func TestMetricsHaveAnAddress(t *testing.T) {
	c := config(t)
	c.MetricsListen = "127.0.0.1:0"
	n := start(t, c, server.Options{})
	for url, want := range map[string]int{
		"http://" + n.MetricsAddr() + "/metrics": http.StatusOK,
		"http://" + n.MetricsAddr() + "/healthz": http.StatusOK,
		"http://" + n.MetricsAddr() + "/readyz":  http.StatusOK,
		"http://" + n.MetricsAddr() + "/v1/ws":   http.StatusNotFound,
		"http://" + n.MetricsAddr() + "/":        http.StatusNotFound,
		"http://" + n.Addr() + "/metrics":        http.StatusNotFound,
		"http://" + n.Addr() + "/healthz":        http.StatusOK,
	} {
		if answer, _ := n.ask(http.MethodGet, url); answer.StatusCode != want {
			t.Errorf("%s: %s", url, answer.Status)
		}
	}
	if plain := start(t, config(t), server.Options{}); plain.MetricsAddr() != "" {
		t.Error("there is an address that nobody has asked for")
	}
}

// Pages take the methods that they have, small headers and no bodies, and no header tells what answers.
func TestPagesAreStrict(t *testing.T) {
	c := config(t)
	c.Page = false
	n := start(t, c, server.Options{Version: "v9.8.7-test"})
	base := "http://" + n.Addr()
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/v1/ws", "/v1/gateways", "/none"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodTrace} {
			answer, _ := n.ask(method, base+path)
			for name, values := range answer.Header {
				for _, v := range values {
					if strings.Contains(v, "9.8.7") || strings.Contains(strings.ToLower(v), "go") || name == "Server" || name == "X-Powered-By" {
						t.Errorf("%s %s: header %s: %s", method, path, name, v)
					}
				}
			}
			if method != http.MethodGet && answer.StatusCode != http.StatusMethodNotAllowed && answer.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %s", method, path, answer.Status)
			}
		}
	}
	if answer, _ := n.ask(http.MethodGet, base+"/healthz", "X-Long: "+strings.Repeat("x", 32<<10)); answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("32 KiB of headers: %s", answer.Status)
	}
}
