package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/client/transport"
)

// Options say what Open connects to, and as which user and device. Token and Device are
// required, and Server or Servers.
type Options struct {
	// Server is where to connect: http(s)://host:port or ws(s)://host:port for
	// WebSocket, tcp://host:port for TCP, tls://host:port for TCP with TLS 1.3,
	// quic://host:port for QUIC over UDP, which some networks swallow: Servers should then name another
	// address of the same server. It may be an
	// LBS as well: it is asked which gateway to dial, and when, on start and after each loss, if
	// all servers are named with http or https. One that does not say is dialled itself. A gateway that takes QUIC, as the
	// LBS says, is dialled over QUIC as well, and the faster connection is used, unless Dial or a proxy is to be used.
	Server string
	// Servers are further gateways of the same server. The client tries the last good
	// one first. If one does not answer within 2.5 s, it tries another beside it.
	Servers []string
	// Site is where the app is, as the operator of the servers names sites: 1 to 64 letters a to z, digits and
	// hyphens. An LBS then names gateways of that site first, as long as they have room. Empty: not known.
	Site string
	// Direct, if true, dials Server and Servers without asking which gateway to dial. For tools that
	// measure one server.
	Direct bool
	// Token returns a token for the user, within 10 s. The client calls it before every
	// attempt to connect, never twice at once. Token should return a token that is still
	// good (the attempt that follows an answer of an LBS has the token of the question): when the server refuses a token, the client asks for another, after waits
	// that grow to 10·BackoffMax. If Token returns an error, or nothing in time, the
	// client tells the app by a StateEvent and asks again, as after any other failure to
	// connect. If the error is a *pim.Error, the client heeds its RetryAfter, and takes
	// KindUnauthorized for a refusal. Token must heed ctx: Close waits for it, and while a
	// call has not returned, the client can't make the next one, and so can't connect. It
	// must not call Close.
	Token func(ctx context.Context) (string, error)
	// Insecure, if true, lets the token and everything else cross a network unencrypted:
	// by http, ws or tcp to hosts other than localhost and loopback addresses. Without
	// Insecure, Open refuses such servers.
	Insecure bool
	// User, if set, must be the user that the token names; otherwise the client
	// stops.
	User   pim.UserID
	Device pim.DeviceID
	// Store holds what must outlive the process. It belongs to one user and one
	// device, is used by one Client at a time, and stays open after Close. If nil,
	// everything is kept in memory and forgotten at Close.
	Store Store
	// Confirm, if true, hands over every entry, process after process, until the app has
	// confirmed it (Client.Confirm). So an app that is killed at any moment misses none.
	// The first of these entries is the first one that is stored after the first Open
	// with Confirm. EntryEvents then come in the order in which their entries were
	// stored, own messages included, and may come after other events that happened
	// later. LazyGap has no effect. Store must be set, to one that outlives the process.
	Confirm bool
	// Watch, if true, leaves out the sync of all conversations: the client follows only
	// those named by Client.Watch, and acknowledges nothing. For tools, with a store of
	// their own.
	Watch bool
	// Peek, if true, reads the list of conversations and the user's own log, pulls no other entries
	// by itself, and acknowledges nothing: the device changes nothing that the user or others see. Synced
	// waits for the list and the own log only. For tools that show the list or give one command, with a
	// store of their own; not with Watch or Confirm.
	Peek   bool
	Logger *slog.Logger // nil: nothing is logged
	// TLS is the configuration for https, wss, tls and quic. TLS 1.3 is the minimum, whatever
	// it says. nil: the system's root certificates.
	TLS *tls.Config
	// TLSPin, if set, is the only key of a server that is trusted: the SHA-256 of the
	// SubjectPublicKeyInfo of its certificate, in base64, as `pim serve --tls-self-signed`
	// prints it. Who has signed the certificate, and its names and dates, do not count then.
	// All servers must have this key and be named with https, wss, tls or quic.
	TLSPin string
	// Dial makes the connections, for a network of the app's own: a proxy, a
	// tunnel, a test. TLS and WebSocket go on top. It is called by several
	// goroutines at once, and must return when ctx ends. For QUIC, network is "udp", and each Read and
	// Write of the connection is one packet; only servers that are named with quic are dialled so then. nil: package net makes the
	// connections, and WebSockets go through the proxy that the environment names.
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Agent string // name and version of the app, for the server's log; at most 128 bytes

	// BackoffMin and BackoffMax bound the wait between attempts to connect: the
	// n-th wait is a random time up to min(BackoffMin·2ⁿ, BackoffMax).
	BackoffMin time.Duration // 0: 500 ms
	BackoffMax time.Duration // 0: 30 s
	// RequestTimeout is how long an answer may take before the request is sent
	// again.
	RequestTimeout time.Duration // 0: 10 s
	// LazyGap is how many missed entries of a conversation the client pulls by itself.
	// If more were missed, it pulls the newest page, and the rest when View.Older asks.
	LazyGap int // 0: 10,000
	// EventBuffer is how many events wait for the app before the client stops
	// reading from the network.
	EventBuffer int // 0: 1,024

	clock func() engine.Time // for tests; nil: the system's
}

const (
	maxAgent = 128 // bytes, as in the protocol
	maxSite  = 64  // likewise
)

// check validates o and sets its defaults.
func (o *Options) check() (map[string]*transport.Dialer, error) {
	if o.Token == nil {
		return nil, pim.Errorf(pim.KindInvalid, "Options.Token is nil")
	}
	if err := o.Device.Validate(); err != nil {
		return nil, err
	}
	if o.User != "" {
		if err := o.User.Validate(); err != nil {
			return nil, err
		}
	}
	if o.Confirm && (o.Store == nil || o.Watch) {
		return nil, pim.Errorf(pim.KindInvalid, "Options.Confirm needs a Store, as of package client/sqlite, and no Watch")
	}
	if o.Peek && (o.Watch || o.Confirm) {
		return nil, pim.Errorf(pim.KindInvalid, "Options.Peek goes with neither Watch nor Confirm")
	}
	if len(o.Agent) > maxAgent {
		return nil, pim.Errorf(pim.KindInvalid, "Options.Agent has %d bytes, at most %d are allowed", len(o.Agent), maxAgent)
	}
	if !isSite(o.Site) {
		return nil, pim.Errorf(pim.KindInvalid, "Options.Site %q: a site has 1 to 64 letters a to z, digits and hyphens, and begins with no hyphen", o.Site)
	}
	if o.BackoffMin < 0 || o.BackoffMax < 0 || o.RequestTimeout < 0 || o.EventBuffer < 0 || o.LazyGap < 0 {
		return nil, pim.Errorf(pim.KindInvalid, "Options: a negative duration or size")
	}
	o.BackoffMin = cmp.Or(o.BackoffMin, 500*time.Millisecond)
	o.BackoffMax = max(o.BackoffMin, cmp.Or(o.BackoffMax, 30*time.Second))
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 10*time.Second)
	o.EventBuffer = cmp.Or(o.EventBuffer, 1024)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o.dialers()
}

// isSite reports whether site may name a site, or is empty.
func isSite(site string) bool {
	return len(site) <= maxSite && !strings.HasPrefix(site, "-") && strings.IndexFunc(site, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) < 0
}

// dialers returns a dialer for every configured server; there must be one.
func (o *Options) dialers() (map[string]*transport.Dialer, error) {
	dialers := make(map[string]*transport.Dialer)
	for _, server := range o.servers() {
		d, err := o.dialer(server)
		if err != nil {
			return nil, err
		}
		dialers[server] = d
	}
	if len(dialers) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "Options.Server and Servers are empty")
	}
	return dialers, nil
}

// dialer returns a dialer for server. Without Insecure it refuses a server to which the
// token would cross a network unencrypted.
func (o *Options) dialer(server string) (*transport.Dialer, error) {
	config := o.TLS
	if o.TLSPin != "" {
		if transport.Plain(server) {
			return nil, pim.Errorf(pim.KindInvalid, "Options.TLSPin is set, and %s is without TLS: use https://, wss://, tls:// or quic://", server)
		}
		var err error
		if config, err = transport.Pin(o.TLS, o.TLSPin); err != nil {
			return nil, err
		}
	}
	d, err := transport.NewDialer(server, config, o.Dial)
	if err == nil && !o.Insecure && transport.Exposed(server) {
		return nil, pim.Errorf(pim.KindInvalid, "the token would cross the network unencrypted to %s: use https://, wss:// or tls://, or set Insecure", server)
	}
	return d, err
}

// servers returns Server and Servers.
func (o *Options) servers() []string {
	if o.Server == "" {
		return slices.Clone(o.Servers)
	}
	return append([]string{o.Server}, o.Servers...)
}

// own checks that the store with meta belongs to this user and device.
func (o *Options) own(meta Meta) error {
	if meta.Device != "" && meta.Device != o.Device {
		return pim.Errorf(pim.KindConflict, "the store is device %s's, not %s's", meta.Device, o.Device)
	}
	if meta.User != "" && o.User != "" && meta.User != o.User {
		return pim.Errorf(pim.KindConflict, "the store is user %s's, not %s's", meta.User, o.User)
	}
	return nil
}
