package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/lbs"
)

const (
	gatewaysPath     = "/v1/gateways"
	ticketHeader     = "Pim-Ticket"
	mostQuestion     = 512 // bytes of a query
	preflightSeconds = "86400"
)

// elsewhere is when somebody may ask again who has asked a node that can't answer.
const elsewhere = 10 * time.Second

// soon is when who has asked a node that is starting may.
const soon = 2 * time.Second

// gatewaysJSON is an answer. Its names in JSON are stable: docs/protocol.md, section 23.
type gatewaysJSON struct {
	Candidates []candidateJSON `json:"candidates"`
	Lease      string          `json:"lease,omitempty"`
	ExpiresMS  int64           `json:"expires_ms,omitempty"`
	KeepMS     int64           `json:"keep_ms,omitempty"`
	WindowMS   int64           `json:"window_ms"`
	Reason     string          `json:"reason,omitempty"`
	Ticket     string          `json:"ticket,omitempty"`
	AloneMS    int64           `json:"alone_ms"`
}

type candidateJSON struct {
	Node       string            `json:"node"`
	Site       string            `json:"site"`
	Transports []string          `json:"transports"`
	Addresses  map[string]string `json:"addresses"` // by transport
	Weight     uint32            `json:"weight"`
}

type refusalJSON struct {
	Error        string `json:"error"`
	Kind         string `json:"kind"` // as pim.Kind names it
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}

// refusal is why a question has no answer.
type refusal struct {
	reason string // as metrics name it
	status int
	err    *pim.Error
}

// refuse returns a refusal with an error of its own. after is when to ask again at the earliest, 0 if that does not help.
func refuse(reason string, status int, kind pim.Kind, after time.Duration, what string) *refusal {
	return &refusal{reason, status, &pim.Error{Kind: kind, Text: what, RetryAfter: after}}
}

// gatewaysPage answers which gateway a client dials, and when. Any page may ask: what it must know is in a header that no browser
// sends by itself.
func (s *Server) gatewaysPage(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Access-Control-Allow-Origin", "*")
	head.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method == http.MethodOptions {
		head.Set("Access-Control-Allow-Methods", http.MethodGet)
		head.Set("Access-Control-Allow-Headers", "Authorization, "+ticketHeader)
		head.Set("Access-Control-Max-Age", preflightSeconds)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !s.proxies.Trusts(r.RemoteAddr) {
		head.Set("Connection", "close") // a client asks once: it need not have a file descriptor for the next minute
	}
	answer, refused := s.gatewaysFor(r)
	if refused == nil {
		writePage(w, http.StatusOK, answer)
		return
	}
	if s.balance != nil {
		s.balance.refusals.WithLabelValues(refused.reason).Inc()
	}
	switch refused.status {
	case http.StatusMethodNotAllowed:
		head.Set("Allow", "GET, OPTIONS")
	case http.StatusUnauthorized:
		head.Set("WWW-Authenticate", "Bearer")
	}
	after := refused.err.RetryAfter
	if after > 0 {
		head.Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
	writePage(w, refused.status, refusalJSON{refused.err.Text, refused.err.Kind.String(), millisUp(after)})
}

// gatewaysFor returns the answer to a question, or why there is none.
func (s *Server) gatewaysFor(r *http.Request) (body gatewaysJSON, refused *refusal) {
	if r.Method != http.MethodGet { // HEAD would take a place, too
		return body, refuse("request", http.StatusMethodNotAllowed, pim.KindInvalid, 0, "ask with GET")
	}
	if s.balance == nil {
		return body, refuse("role", http.StatusServiceUnavailable, pim.KindUnavailable, elsewhere, "this node does not say which gateway to dial: ask another, or dial one that you know")
	}
	select {
	case <-s.stopping:
		return body, refuse("stopping", http.StatusServiceUnavailable, pim.KindUnavailable, elsewhere, errStopping.Error())
	default:
	}
	if !s.serves.Load() { // its view is not whole
		return body, refuse("starting", http.StatusServiceUnavailable, pim.KindUnavailable, soon, "the node is starting: ask another")
	}
	from := s.proxies.SourceOf(r)
	if v := s.balance.gate.Connection(s.balance.mono(), from); v.Refused() {
		return body, refuse(v.Reason.String(), http.StatusServiceUnavailable, v.Reason.Kind(), v.After, "too many ask which gateway to dial, by the bound "+v.Reason.String())
	}
	question, err := readQuestion(r)
	if err != nil {
		return body, &refusal{"request", http.StatusBadRequest, asError(err)}
	}
	ticket, unshown := s.whoAsks(r)
	if unshown != nil && unshown.status != http.StatusUnauthorized {
		return body, unshown
	}
	question.User, question.From = ticket.User, from
	answer, at := s.balance.ask(question)
	if answer.Outcome == lbs.Stranger {
		unshown.err.RetryAfter = answer.Window
		return body, unshown
	}
	if s.aloneFor(answer.Outcome) {
		return body, refuse("alone", http.StatusServiceUnavailable, pim.KindUnavailable, elsewhere, "no other node can be named: dial this one, or one that you know")
	}
	if body, err = s.balance.sign(answer, ticket, at, s.clock.Relied()); err != nil {
		return body, &refusal{"internal", http.StatusInternalServerError, asError(err)}
	}
	s.balance.answers.WithLabelValues(answer.Outcome.String()).Inc()
	return body, nil
}

// aloneFor reports whether a client that would have to wait may as well dial.
//
// If this is the only node it may if what keeps it waiting is not that too many come, but that the user has had many places,
// which the gateway bounds by its logins, or that the node does not acknowledge now, which devices that only read
// need not wait for. So a script that sends a hundred messages takes no longer than it did.
//
// If this is a gateway and there are others, but none has an address, this LBS knows of none but this one, which may be full, or
// drain. The client may know others.
func (s *Server) aloneFor(outcome lbs.Outcome) bool {
	switch {
	case outcome == lbs.Assigned || s.config.RequireLease:
		return false
	case s.cluster != nil:
		return s.config.has(bus.RoleGateway) && !s.namesOthers()
	}
	return outcome == lbs.Greedy || outcome == lbs.Crowded && s.gate() != nil
}

// namesOthers reports whether another gateway has an address for clients.
func (s *Server) namesOthers() bool {
	nodes, self := s.nodes()
	return slices.ContainsFunc(gatewaysOf(nodes), func(g lbs.Gateway) bool { return g.Name != self && g.Transports != 0 })
}

// sign returns what a client is told, with a lease or a ticket. at is when the answer was given, as its times count, and now is the
// same moment by the clock.
func (b *balance) sign(answer lbs.Answer, ticket lbs.Ticket, at time.Duration, now time.Time) (gatewaysJSON, error) {
	body := gatewaysJSON{Candidates: candidatesOf(answer.Candidates), WindowMS: millisUp(answer.Window), AloneMS: millisUp(answer.Alone)}
	var err error
	if answer.Outcome == lbs.Assigned {
		lease := lbs.Lease{User: ticket.User, Expires: now.Add(answer.Expires - at)}
		for _, c := range answer.Candidates {
			lease.Gateways = append(lease.Gateways, c.Gateway.Name)
		}
		body.ExpiresMS, body.KeepMS = lease.Expires.UnixMilli(), millisUp(answer.Expires-at)
		body.Lease, err = b.signer.IssueLease(lease, now)
		return body, err
	}
	if ticket.Shown.IsZero() { // it was the token
		ticket.Shown = now
	}
	ticket.Expires = ticket.Shown.Add(lbs.MaxTicketTime)
	body.Reason = answer.Outcome.String()
	body.Ticket, err = b.signer.IssueTicket(ticket, now)
	return body, err
}

// asError returns err as an error of this module.
func asError(err error) *pim.Error {
	var e *pim.Error
	if errors.As(err, &e) {
		return e
	}
	return pim.Errorf(pim.KindInternal, "%w", err)
}

// writePage answers with JSON that no cache keeps: a place is one client's, and a moment's.
func writePage(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may be gone
}

func millisUp(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// readQuestion reads what a client says of itself, besides who it is and where it comes from. Names of parameters and of transports
// that this version does not know are ignored. Errors are of KindInvalid, or of KindUnsupported if it knows none of the transports.
func readQuestion(r *http.Request) (q lbs.Request, err error) {
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return q, pim.Errorf(pim.KindInvalid, "the question has a body, which it must not have")
	}
	return parseQuestion(r.URL.RawQuery)
}

func parseQuestion(query string) (q lbs.Request, err error) {
	if len(query) > mostQuestion {
		return q, pim.Errorf(pim.KindInvalid, "the query has %d bytes, more than %d", len(query), mostQuestion)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return q, pim.Errorf(pim.KindInvalid, "the query: %w", err)
	}
	for name, list := range values {
		switch {
		case name != "site" && name != "transports":
			continue
		case len(list) > 1:
			return lbs.Request{}, pim.Errorf(pim.KindInvalid, "%s stands more than once in the query", name)
		}
		if name == "site" {
			if err := bus.CheckName("site", list[0]); err != nil {
				return lbs.Request{}, err
			}
			q.Site = list[0]
			continue
		}
		for transport := range strings.SplitSeq(list[0], ",") {
			q.Transports |= lbs.Named(transport)
		}
		if q.Transports == 0 {
			return lbs.Request{}, pim.Errorf(pim.KindUnsupported, "none of the transports %q is known here", list[0])
		}
	}
	return q, nil
}

// whoAsks returns as a ticket whose client asks, and since when that is shown if it has shown a ticket. If it has shown nothing that is good, whoAsks
// returns the zero Ticket and why, or why tokens can't be judged now. A good ticket goes first: checking it is cheap.
func (s *Server) whoAsks(r *http.Request) (lbs.Ticket, *refusal) {
	refused := refuse("stranger", http.StatusUnauthorized, pim.KindUnauthorized, 0, "whoever asks which gateway to dial shows an access token, or a ticket")
	if lines := r.Header[ticketHeader]; len(lines) > 0 {
		ticket, err := s.balance.signer.OpenTicket(lines[0], s.clock.Relied())
		if err == nil {
			return ticket, nil
		}
		refused = &refusal{"ticket", http.StatusUnauthorized, asError(err)}
	}
	lines := r.Header["Authorization"]
	if len(lines) == 0 {
		return lbs.Ticket{}, refused
	}
	token, ok := bearer(lines)
	if !ok {
		return lbs.Ticket{}, refuse("token", http.StatusUnauthorized, pim.KindUnauthorized, 0, "Authorization is not Bearer and a token, once")
	}
	claims, err := s.gateway.Verify(token)
	switch kind := pim.KindOf(err); {
	case err == nil:
		return lbs.Ticket{User: claims.User}, nil
	case kind == pim.KindUnauthorized:
		return lbs.Ticket{}, &refusal{"token", http.StatusUnauthorized, asError(err)}
	default: // the clock
		return lbs.Ticket{}, &refusal{kind.String(), http.StatusServiceUnavailable, asError(err)}
	}
}

// bearer returns the token of Authorization (RFC 6750, section 2.1), and whether there is one.
func bearer(lines []string) (string, bool) {
	scheme, token, _ := strings.Cut(lines[0], " ")
	token = strings.Trim(token, " ")
	return token, len(lines) == 1 && strings.EqualFold(scheme, "Bearer") && token != ""
}

func candidatesOf(list []lbs.Candidate) []candidateJSON {
	out := make([]candidateJSON, 0, len(list))
	for _, c := range list {
		j := candidateJSON{
			Node: c.Gateway.Name, Site: c.Gateway.Site, Transports: c.Transports.Names(), Addresses: make(map[string]string), Weight: c.Weight,
		}
		for _, address := range c.Gateway.Addresses {
			if t, ok := transportOf(address); ok && c.Transports.Has(t) {
				j.Addresses[t.String()] = address
			}
		}
		out = append(out, j)
	}
	return out
}
