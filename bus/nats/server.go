package nats

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus/link"
)

const (
	clusterName  = "pim"
	clusterUser  = "pim" // the name that goes with the cluster's token
	pendingBytes = 64 << 20
	receiveBytes = 64 << 20
	startWait    = 10 * time.Second
	flushWait    = 500 * time.Millisecond
	writeWait    = 5 * time.Second
	// A connection that takes no ping and answers none for 6 s is made anew. The nodes behind it are out of
	// the view by then.
	pingEvery = 2 * time.Second
	pingsLost = 2
	// A node that is down is dialled each second. The log tells of the first failure and of each 60th.
	attemptsTold = 60
)

// startServer starts the embedded server, whose clients have token.
func (n *network) startServer(ctx context.Context, token string) (*server.Server, error) {
	host, port, err := hostPort(n.options.Listen)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	o := &server.Options{
		// The only client is this process, over a pipe. But without a listener for clients the server starts no
		// routes, so there is one that only this machine reaches, with a token that nobody else knows.
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: token,
		MaxPayload: link.MaxFrame, MaxPending: pendingBytes, WriteDeadline: writeWait,
		NoSigs: true, NoSystemAccount: true, NoFastProducerStall: true, DisableShortFirstPing: true,
		PingInterval: pingEvery, MaxPingsOut: pingsLost,
		ConnectErrorReports: attemptsTold, ReconnectErrorReports: attemptsTold,
		Cluster: server.ClusterOpts{
			Name: clusterName, Host: host, Port: port, PoolSize: -1,
			PingInterval: pingEvery, MaxPingsOut: pingsLost, WriteDeadline: writeWait,
			Compression: server.CompressionOpts{Mode: server.CompressionOff},
		},
	}
	if n.options.Token != "" {
		o.Cluster.Username, o.Cluster.Password = clusterUser, n.options.Token
	}
	if n.tls != nil {
		o.Cluster.TLSConfig, o.Cluster.TLSTimeout = n.tls.route(), startWait.Seconds()
	}
	for _, address := range n.options.Join {
		if err := CheckAddress(address); err != nil {
			return nil, pim.Errorf(pim.KindInvalid, "%w", err)
		}
		u := &url.URL{Scheme: "nats-route", Host: address}
		if n.options.Token != "" {
			u.User = url.UserPassword(clusterUser, n.options.Token)
		}
		o.Routes = append(o.Routes, u)
	}
	// The server listens by itself, and ends the process if it can't. So it is tried before.
	if err := canListen(ctx, n.options.Listen); err != nil {
		return nil, err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, pim.Errorf(pim.KindInvalid, "the embedded NATS server: %w", err)
	}
	s.SetLoggerV2(natsLog{n.log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startWait) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, pim.Errorf(pim.KindUnavailable, "the embedded NATS server does not start on %s", n.options.Listen)
	}
	return s, nil
}

// stopServer ends the embedded server, if there is one. n.mu is held.
func (n *network) stopServer() {
	if n.server != nil {
		n.account.Store(nil)
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.server = nil
	}
}

func canListen(ctx context.Context, address string) error {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return pim.Errorf(pim.KindUnavailable, "listening for other nodes: %w", err)
	}
	return l.Close()
}

// randomToken returns a token that nobody guesses.
func randomToken() string { return rand.Text() }

// CheckAddress returns why address is not HOST:PORT of another node; nil if it is.
func CheckAddress(address string) error {
	host, port, err := hostPort(address)
	if err == nil && (host == "" || port == 0) {
		err = pim.Errorf(pim.KindInvalid, "%q is not HOST:PORT of another node", address)
	}
	return err
}

// CheckListen returns why address is not HOST:PORT to listen on; nil if it is. Port 0 is any free one.
func CheckListen(address string) error {
	_, _, err := hostPort(address)
	return err
}

func hostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, pim.Errorf(pim.KindInvalid, "%q is not HOST:PORT", address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, pim.Errorf(pim.KindInvalid, "%q: the port must be a number from 0 to 65535", address)
	}
	return host, int(n), nil
}

// natsLog writes what the embedded server logs. Its notices tell of each connection, and are for those who
// look for a fault.
type natsLog struct{ log *slog.Logger }

func (l natsLog) write(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "NATS: "+fmt.Sprintf(format, v...))
	}
}

func (l natsLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l natsLog) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l natsLog) Fatalf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l natsLog) Errorf(format string, v ...any)  { l.write(slog.LevelWarn, format, v) }
func (l natsLog) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l natsLog) Tracef(string, ...any)           {}
