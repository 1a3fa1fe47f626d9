package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire/wirepb"
)

// An LBS is asked first: with the token, which is the app's one token for this and for the dial, and
// again with the ticket if it says to wait. Then the gateway that it names gets the lease.
func TestAsksAnLBS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leases := make(chan string, 10)
	w.server.Admit = func(m *wirepb.Hello) *pim.Error {
		leases <- m.Lease
		return nil
	}
	questions := make(chan *http.Request, 10)
	var asked atomic.Int32
	lbs := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		questions <- r
		if asked.Add(1) == 1 {
			fmt.Fprint(rw, `{"candidates": [], "window_ms": 1, "reason": "crowded", "ticket": "a ticket", "alone_ms": 25000}`)
			return
		}
		json.NewEncoder(rw).Encode(map[string]any{
			"candidates": []any{
				map[string]any{"node": "a", "weight": 7, "addresses": map[string]string{"tcp": w.on.TCP, "websocket": w.on.URL}},
			},
			"lease": "a lease", "keep_ms": 10_000,
		})
	}))
	t.Cleanup(lbs.Close)
	o := w.options("alice", "phone")
	o.Server, o.Site = lbs.URL+"/behind", "west"
	var tokens atomic.Int32
	o.Token = func(context.Context) (string, error) {
		tokens.Add(1)
		return "alice", nil
	}
	w.opens(o).synced()
	for _, want := range []string{"", "a ticket"} {
		r := waitFor(t, questions, "a question")
		if r.Method != http.MethodGet || r.URL.Path != "/behind/v1/gateways" || r.URL.RawQuery != "site=west&transports=websocket%2Ctcp%2Cquic" {
			t.Errorf("asks %s %s", r.Method, r.URL)
		}
		if r.Header.Get("Authorization") != "Bearer alice" || r.Header.Get("Pim-Ticket") != want {
			t.Errorf("shows %v, want the ticket %q", r.Header, want)
		}
	}
	if lease := waitFor(t, leases, "a Hello"); lease != "a lease" {
		t.Errorf("Hello with the lease %q", lease)
	}
	if n := tokens.Load(); n != 2 {
		t.Errorf("the app was asked for %d tokens for 2 questions and a dial", n)
	}
}

// A node that does not answer is dialled itself, with Direct without a question.
func TestAsksAGateway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer    http.HandlerFunc
		direct    bool
		questions int32
	}{
		"an earlier version": {answer: http.NotFound, questions: 1},
		"without the role": {answer: func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(rw, `{"error": "this node does not say", "kind": "unavailable", "retry_after_ms": 10000}`)
		}, questions: 1},
		"a page for everything": {answer: func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "<html>") }, questions: 1},
		"a password for everything": {answer: func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusUnauthorized)
		}, questions: 1},
		"to somewhere else": {answer: func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/stolen", http.StatusTemporaryRedirect)
		}, questions: 1},
		"without end": {answer: func(rw http.ResponseWriter, _ *http.Request) {
			for range 100 {
				fmt.Fprint(rw, strings.Repeat(" ", 1024))
			}
		}, questions: 1},
		"the gateway where it has asked": {answer: func(rw http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(rw, `{"candidates": [{"node": "a", "weight": 1, "addresses": {}}], "lease": "a lease", "keep_ms": 10000}`)
		}, questions: 1},
		"direct": {direct: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var questions atomic.Int32
			w.on.Show(func(rw http.ResponseWriter, r *http.Request) {
				questions.Add(1)
				if r.URL.Path != "/v1/gateways" {
					t.Errorf("gets %s", r.URL)
				}
				test.answer(rw, r)
			})
			o := w.options("alice", "phone")
			o.Direct = test.direct
			alice := w.opens(o)
			alice.synced()
			if n := questions.Load(); n != test.questions {
				t.Errorf("%d questions, want %d", n, test.questions)
			}
		})
	}
}

// An LBS that refuses the token is as a gateway that does: the app is told.
func TestLBSRefusesToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.on.Show(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(rw, `{"error": "the token has expired", "kind": "unauthorized"}`)
	})
	alice := w.device("alice")
	if ev := alice.waits(); ev.State != client.Waiting || pim.KindOf(ev.Err) != pim.KindUnauthorized || !strings.Contains(ev.Err.Error(), "has expired") {
		t.Errorf("told %+v", ev)
	}
}

// What the LBS would not take for a site is refused at once: its answer would be taken for that of a gateway.
func TestSiteHasAName(t *testing.T) {
	t.Parallel()
	for _, site := range []string{"West", "-west", "west 1", "west&site=east", strings.Repeat("w", 65)} {
		_, err := client.Open(t.Context(), client.Options{
			Server: "http://127.0.0.1:1", Site: site, Device: "phone", Token: func(context.Context) (string, error) { return "", nil },
		})
		if pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: %v", site, err)
		}
	}
}
