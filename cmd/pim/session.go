package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/cmd/pim/chat"
)

// defaultServer is where `make run` listens.
const defaultServer = "http://127.0.0.1:7400"

// sessionTokenTTL is how long a token that --as signs lives. Each connection
// gets a new one.
const sessionTokenTTL = 24 * time.Hour

// clientFlags say which server to talk to, and as whom.
type clientFlags struct {
	keyFlags
	inTheClear
	pinned
	Server string       `name:"server" env:"PIM_SERVER" default:"${server}" placeholder:"URL" help:"Server, or an LBS, which names one: http(s):// for WebSocket, and asked first; tcp:// or tls:// for raw TCP, quic:// for QUIC, and dialled at once."`
	Site   string       `name:"site" env:"PIM_SITE" placeholder:"SITE" help:"Where this is, as the operator names sites: an LBS names gateways of that site first."`
	As     pim.UserID   `name:"as" env:"PIM_AS" placeholder:"USER" help:"User to be; signs a token with the key under --data."`
	Token  string       `name:"token" env:"PIM_TOKEN" placeholder:"TOKEN" help:"Token to use instead of --as."`
	Device pim.DeviceID `name:"device" env:"PIM_DEVICE" placeholder:"DEVICE" help:"Device to be (default: a new one; for chat, the first that no other chat uses). One process at a time: who comes second takes over."`
}

// session is a connection that a command uses.
type session struct {
	*client.Client
	user   pim.UserID
	device pim.DeviceID
	server string
	fixed  bool // the user gave the token: there is no other

	timeout time.Duration // see waitFlags
	timer   *time.Timer   // of with
	delays  delays
}

// over returns why the session cannot go on: the client has stopped, or the server
// refuses the only token there is. Otherwise it returns nil.
func (s *session) over(e client.StateEvent) error {
	kind := pim.KindOf(e.Err)
	refused := e.State == client.Waiting && (kind == pim.KindUnauthorized || kind == pim.KindRevoked)
	if e.State == client.Stopped || refused && s.fixed {
		return e.Err
	}
	return nil
}

// options returns the options of a client with these flags. Their Device is
// empty if none is named.
func (f *clientFlags) options() (o client.Options, err error) {
	if err := f.guard(f.Server); err != nil {
		return o, err
	}
	o = client.Options{Server: f.Server, Site: f.Site, Insecure: f.Insecure, TLSPin: f.TLSPin, Device: f.Device, Agent: "pim " + version()}
	o.User, o.Token, err = f.identity()
	return o, err
}

// inTheClear says whether what a command sends may be read on its way.
type inTheClear struct {
	Insecure bool `name:"insecure" help:"Send the token and all else unencrypted to a server on another machine (http://, ws://, tcp://)."`
}

// pinned names the only key of a server that a command trusts.
type pinned struct {
	TLSPin string `name:"tls-pin" env:"PIM_TLS_PIN" placeholder:"PIN" help:"Trust exactly the server with this key, whoever has signed its certificate: the SHA-256 of its public key in base64, as pim serve --tls-self-signed prints it. For https://, wss:// and tls://."`
}

// guard refuses to send anything unencrypted to another machine, unless --insecure
// allows that.
func (f inTheClear) guard(server string) error {
	if u, err := url.Parse(server); err == nil && u.Scheme != "" && u.Hostname() == "" {
		return pim.Errorf(pim.KindInvalid, "server %q has no host", server)
	}
	if f.Insecure || !transport.Exposed(server) {
		return nil
	}
	return &hintedError{
		pim.Errorf(pim.KindInvalid, "the token would cross the network unencrypted to %s", server),
		"name it with https:// or tls://, or allow that with --insecure",
	}
}

// newDevice returns a random name, which no device has had before.
func newDevice() pim.DeviceID {
	return pim.DeviceID("cli-" + strings.ToLower(rand.Text()[:10]))
}

// opener opens a session, see connect and peek.
type opener func(context.Context) (*session, error)

// connect opens a session and waits until the server has let it in. The session follows
// only the conversations that the command watches, and acknowledges nothing.
func (f *clientFlags) connect(ctx context.Context) (*session, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	o.Watch = true
	o.Device = cmp.Or(o.Device, newDevice())
	return f.open(ctx, o)
}

// peek is connect for a command that needs the list of conversations, or the user's own log, which
// it may write into.
func (f *clientFlags) peek(ctx context.Context) (*session, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	o.Peek = true
	o.Device = cmp.Or(o.Device, newDevice())
	return f.open(ctx, o)
}

// open opens a session and waits until the server has let it in. Unlike an app, a
// command gives up when the first attempt fails.
func (f *clientFlags) open(ctx context.Context, o client.Options) (*session, error) {
	c, err := client.Open(ctx, o)
	if err != nil {
		return nil, withServerHint(err, f.Server)
	}
	if err := connected(ctx, c); err != nil {
		c.Close()
		return nil, f.hint(err)
	}
	return &session{Client: c, user: o.User, device: o.Device, server: f.Server, fixed: f.Token != ""}, nil
}

// connected reads events until the connection is up. Until then the only other events are
// those of changes that wait for the connection.
func connected(ctx context.Context, c *client.Client) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-c.Events():
			state, ok := e.(client.StateEvent)
			switch {
			case !ok || state.State == client.Connecting:
			case state.State == client.Connected:
				return nil
			case state.Err != nil:
				return state.Err
			default:
				return pim.Errorf(pim.KindUnavailable, "the connection is %s", state.State)
			}
		}
	}
}

// identity returns the user that --as or --token names, and how to get that user's tokens.
func (f *clientFlags) identity() (pim.UserID, func(context.Context) (string, error), error) {
	switch {
	case f.As != "" && f.Token != "":
		return "", nil, pim.Errorf(pim.KindInvalid, "--as %s and --token (or PIM_TOKEN) both say who you are; give one", f.As)
	case f.As != "":
		if err := f.As.Validate(); err != nil {
			return "", nil, err
		}
		keys, err := f.load()
		if err != nil {
			return "", nil, err
		}
		return f.As, func(context.Context) (string, error) {
			return keys.Issue(f.As, sessionTokenTTL, time.Now())
		}, nil
	case f.Token != "":
		user, err := userOf(f.Token)
		return user, func(context.Context) (string, error) { return f.Token, nil }, err
	}
	return "", nil, pim.Errorf(pim.KindInvalid, "say who you are: --as USER, or --token TOKEN")
}

// userOf reads a token's user. It does not check the token; the server does.
func userOf(token string) (pim.UserID, error) {
	user, err := account.SubjectOf(token)
	if err != nil {
		return "", &hintedError{err, "get one with: pim token --user USER"}
	}
	return user, nil
}

// hint says what to do about a connection that was not made.
func (f *clientFlags) hint(err error) error {
	if f.As != "" {
		return f.ownTokenHint(err, f.Server)
	}
	if account.SaysTime(err) {
		return &hintedError{err, fmt.Sprintf("get a new one; if it is new, the clocks of who issued it and of the server are more than %s apart", account.Leeway)}
	}
	return connectHint(err, f.Server)
}

// connectHint says what to do about a connection that failed for another reason than its
// token.
func connectHint(err error, server string) error {
	if pim.KindOf(err) == pim.KindTooLarge { // an HTTP answer, read as the length of a frame
		return otherProtocol(err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the server speaks TLS, or is full
		return otherProtocol(pim.Errorf(pim.KindUnavailable, "the server ended the connection without a word; it may be full: %w", err))
	}
	return withServerHint(err, server)
}

// withServerHint says what to do about a server that cannot be reached.
func withServerHint(err error, server string) error {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &hintedError{unreachable(server, err), "start one with `make run`, or name another with --server"}
	case errors.As(err, &dns):
		return &hintedError{unreachable(server, err), "there is no such host; check --server"}
	case errors.As(err, &unknown):
		return &hintedError{err, "name the file with its authority's certificate in SSL_CERT_FILE, or its key with --tls-pin"}
	case server != "" && !strings.Contains(server, "://"):
		return &hintedError{err, "write --server http://HOST:PORT, or tcp://HOST:PORT for raw TCP"}
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)), notHTTP(err), noWebSocket(err):
		return otherProtocol(err)
	}
	if what, ok := chat.BrokenOff("the connection to "+server, err); ok {
		return &pim.Error{Kind: pim.KindUnavailable, Text: what, Err: err}
	}
	return err
}

// noWebSocket reports whether an HTTP server answered that offers no WebSocket, or none
// without TLS. A server that is busy does not count.
func noWebSocket(err error) bool {
	var e *pim.Error
	return errors.As(err, &e) && e.Kind != pim.KindOverloaded && strings.Contains(e.Text, "instead of a WebSocket")
}

// notHTTP reports whether the answer to an HTTP request was not HTTP. net/http has no
// error value for that, only a text.
func notHTTP(err error) bool {
	var failed *url.Error
	return errors.As(err, &failed) && strings.Contains(failed.Err.Error(), "malformed HTTP")
}

// otherProtocol says what to do about a server that does not speak what --server
// says.
func otherProtocol(err error) error {
	return &hintedError{
		&pim.Error{Kind: pim.KindUnavailable, Text: chat.Plain(err), Err: err},
		"check --server: http:// is for WebSocket and tcp:// for raw TCP, on ports of their own; with TLS they are https:// and tls://",
	}
}

// unreachable returns an error with a short text that wraps a long cause.
func unreachable(server string, cause error) error {
	return &pim.Error{Kind: pim.KindUnavailable, Text: fmt.Sprintf("no server answers at %s", server), Err: cause}
}

// outage lets a lost connection be reported once, and not at every attempt to connect.
type outage struct{ on bool }

// turns reports whether e begins or ends an outage.
func (o *outage) turns(e client.StateEvent) bool {
	on := e.State != client.Connected
	if e.State == client.Connecting || on == o.on {
		return false
	}
	o.on = on
	return true
}

// follow hands each event to show, until ctx ends, show returns an error, or the connection is given up.
// It says on w when the connection is lost, and when it is back.
func (s *session) follow(ctx context.Context, w io.Writer, show func(client.Event) error) error {
	var out outage
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-s.Events():
			if !ok {
				return pim.Errorf(pim.KindUnavailable, "the connection ended")
			}
			if state, is := e.(client.StateEvent); is {
				if err := s.over(state); err != nil {
					return err
				}
				if out.turns(state) {
					if _, err := fmt.Fprintln(w, stateLine(state)); err != nil {
						return err
					}
				}
			}
			if err := show(e); err != nil {
				return err
			}
		}
	}
}

// target names the conversation that a command is about.
type target struct {
	To           pim.UserID         `name:"to" aliases:"with" placeholder:"USER" help:"The direct conversation with this user."`
	Conversation pim.ConversationID `name:"conversation" placeholder:"ID" help:"The conversation with this ID."`
}

// resolve returns the conversation, as user sees it.
func (t *target) resolve(user pim.UserID) (pim.ConversationID, error) {
	switch {
	case (t.To == "") == (t.Conversation == ""):
		return "", pim.Errorf(pim.KindInvalid, "name one conversation: --to USER or --conversation ID")
	case t.To != "":
		return pim.Direct(user, t.To), t.To.Validate()
	}
	return t.Conversation, t.Conversation.Validate()
}

// seqArg is a seq that the command line names. 0 stands for one that it leaves out.
type seqArg pim.Seq

// UnmarshalText reads a seq. It refuses 0: there is no such entry, and commands would take it for
// a seq that was left out.
func (q *seqArg) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no seq like 1, 2 or 3", text)
	case n == 0:
		return errors.New("the first message is 1")
	}
	*q = seqArg(n)
	return nil
}

// errSwitchAll refuses a switch that names a conversation.
var errSwitchAll = pim.Errorf(pim.KindInvalid, "--switch is for all conversations: name none with it")
