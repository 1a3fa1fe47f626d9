package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/client/transport"
)

// What a client asks an LBS, as the protocol says in its section "Finding a gateway".
const (
	gatewaysPath = "/v1/gateways"
	ticketHeader = "Pim-Ticket"
	maxAnswer    = 64 << 10 // bytes of an answer; one has some 2 KiB
)

// transports are those that this client can use, the best first: a WebSocket passes every proxy that
// has let the question pass. QUIC is tried beside another one of the same gateway, see beside.
var transports = []string{"websocket", "tcp", "quic"}

// gatewaysAnswer is an answer with status 200.
type gatewaysAnswer struct {
	Candidates *[]struct {
		Addresses map[string]string `json:"addresses"`
		Weight    uint32            `json:"weight"`
	} `json:"candidates"`
	Lease    string `json:"lease"`
	KeepMS   int64  `json:"keep_ms"`
	WindowMS int64  `json:"window_ms"`
	Ticket   string `json:"ticket"`
	AloneMS  int64  `json:"alone_ms"`
}

// gatewaysRefusal is an answer with another status.
type gatewaysRefusal struct {
	Error        string `json:"error"`
	Kind         string `json:"kind"`
	RetryAfterMS int64  `json:"retry_after_ms"`
}

// found is the outcome of a question.
type found struct {
	attempt uint64
	in      engine.Input
	token   string            // good for the dial that follows at once
	quic    map[string]string // QUIC addresses of candidates, by the address that is dialled
}

// lbs returns the servers that are asked which gateway to dial: all, unless one of them is named by
// another scheme than http and https, which is that of a gateway to be dialled.
func (o *Options) lbs() []string {
	servers := o.servers()
	if o.Direct || slices.ContainsFunc(servers, func(server string) bool {
		scheme, _, _ := strings.Cut(strings.ToLower(server), "://")
		return scheme != "http" && scheme != "https"
	}) {
		return nil
	}
	return servers
}

// find gets a token and asks an LBS, in a goroutine of its own; the outcome comes on c.found, unless
// the loop has ended.
func (c *Client) find(q engine.Question) {
	ctx, cancel := context.WithTimeout(c.ctx, maxDialing)
	c.loop.dialling[q.Attempt] = cancel
	c.wg.Go(func() {
		defer cancel()
		f := c.question(ctx, q)
		select {
		case c.found <- f:
		case <-c.closed:
		}
	})
}

func (c *Client) question(ctx context.Context, q engine.Question) found {
	token, noToken := c.token(ctx)
	if noToken != nil && q.Ticket == "" {
		return found{q.Attempt, engine.Unanswered{Attempt: q.Attempt, Err: noToken, NoToken: true}, "", nil}
	}
	header := http.Header{"User-Agent": {"pim"}}
	if noToken == nil {
		header.Set("Authorization", "Bearer "+token)
	}
	if q.Ticket != "" {
		header.Set(ticketHeader, q.Ticket)
	}
	asked := url.Values{"transports": {strings.Join(transports, ",")}}
	if c.options.Site != "" {
		asked.Set("site", c.options.Site)
	}
	page, err := c.dialers[q.LBS].Get(ctx, gatewaysPath, asked, header, maxAnswer)
	if err != nil {
		return found{q.Attempt, engine.Unanswered{Attempt: q.Attempt, Err: err}, token, nil}
	}
	in, quic := answerIn(q, page)
	return found{q.Attempt, in, token, quic}
}

// answerIn returns what a page says, and the QUIC addresses of candidates by the address that is dialled.
func answerIn(q engine.Question, page *transport.Page) (engine.Input, map[string]string) {
	if page.Status == http.StatusOK {
		if a, quic, ok := placeIn(q, page.Body); ok {
			return engine.Answered{Attempt: q.Attempt, Answer: a}, quic
		}
	}
	var r gatewaysRefusal
	if json.Unmarshal(page.Body, &r) != nil {
		r = gatewaysRefusal{}
	}
	err := &pim.Error{
		Op: "connect", Kind: pim.KindUnavailable, RetryAfter: max(page.RetryAfter, millis(r.RetryAfterMS)),
		Text: q.LBS + " does not say which gateway to dial: " + http.StatusText(page.Status),
	}
	if r.Error != "" {
		err.Text = q.LBS + ": " + r.Error
	}
	in := engine.Unanswered{Attempt: q.Attempt, Err: err}
	switch kind := kindNamed(r.Kind); {
	case page.Status == http.StatusUnauthorized && (kind == pim.KindUnauthorized || kind == pim.KindForbidden):
		err.Kind = pim.KindUnauthorized
	case page.Status == http.StatusServiceUnavailable && kind == pim.KindUnavailable:
		in.NoLBS = true
	case page.Status == http.StatusTooManyRequests, page.Status == http.StatusServiceUnavailable && kind == pim.KindOverloaded:
		err.Kind = pim.KindOverloaded
	case page.Status == http.StatusServiceUnavailable && kind != pim.KindUnknown:
		err.Kind = kind
	case page.Status < http.StatusInternalServerError: // not a page of an LBS
		in.NoLBS, err.RetryAfter = true, 0
	}
	return in, nil
}

// placeIn returns the answer in body, and what answerIn says; ok is false if it is none.
func placeIn(q engine.Question, body []byte) (a engine.Answer, quic map[string]string, ok bool) {
	var g gatewaysAnswer
	if json.Unmarshal(body, &g) != nil || g.Candidates == nil {
		return a, nil, false
	}
	a = engine.Answer{
		Keep: millis(g.KeepMS), Window: millis(g.WindowMS), Alone: millis(g.AloneMS), Ticket: g.Ticket, Lease: g.Lease,
	}
	for _, c := range *g.Candidates {
		server := ""
		for _, t := range transports {
			if server == "" {
				server = c.Addresses[t]
			}
		}
		if len(c.Addresses) == 0 { // the gateway is where the client has asked
			server = q.LBS
		}
		if beside := c.Addresses["quic"]; beside != "" && beside != server && strings.HasPrefix(beside, "quic://") {
			if quic == nil {
				quic = make(map[string]string)
			}
			quic[server] = beside
		}
		if server != "" {
			a.Candidates = append(a.Candidates, engine.Candidate{Server: server, Weight: c.Weight})
		}
	}
	return a, quic, len(a.Candidates) > 0 || len(*g.Candidates) == 0
}

// millis returns ms milliseconds, 0 if that is negative, and at most a day.
func millis(ms int64) time.Duration {
	const day = 24 * time.Hour
	return time.Duration(min(max(ms, 0), day.Milliseconds())) * time.Millisecond
}

// kindNamed returns the kind with this name, KindUnknown if there is none.
func kindNamed(name string) pim.Kind {
	for k := pim.KindInvalid; k.Known(); k++ {
		if k.String() == name {
			return k
		}
	}
	return pim.KindUnknown
}

// learn takes the outcome of a question. The dial that follows at once takes the token of the
// question, so that the app is not asked for two.
func (c *Client) learn(f found) {
	_, wanted := c.loop.dialling[f.attempt]
	delete(c.loop.dialling, f.attempt)
	if !wanted {
		return
	}
	for server, quic := range f.quic {
		c.beside.note(server, quic)
	}
	c.step(f.in)
	c.loop.token = f.token
	for c.perform() { // until the engine asks for no more reads
	}
	c.loop.token = ""
}
