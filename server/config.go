package server

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/gateway"
)

// Config has every setting of a server. Its tags are the only place where a setting is
// described: the flags of `pim serve`, the environment variables, the keys of the
// configuration file (the flag's name without "--"), the defaults and
// docs/configuration.md all come from them.
type Config struct {
	Listen    string `name:"listen" env:"PIM_LISTEN" default:"127.0.0.1:7400" placeholder:"HOST:PORT" help:"Address for HTTP and WebSocket. Port 0 takes a free one."`
	ListenTCP string `name:"listen-tcp" env:"PIM_LISTEN_TCP" default:"127.0.0.1:7401" placeholder:"HOST:PORT" help:"Address for raw TCP; empty turns it off. Port 0 takes a free one."`

	Data string `name:"data" env:"PIM_DATA" default:"./pim-data" placeholder:"DIR" help:"Directory of the embedded store and of the key file. Made when missing."`
	StoreConfig
	ClusterConfig
	Keys string `name:"keys" env:"PIM_KEYS" default:"" placeholder:"FILE" help:"File with the keys that check tokens. Empty: keys.json in the data directory, where a development key is made on the first start, while there is no store yet. Read again when it changes, and on SIGHUP."`

	Insecure bool     `name:"insecure" env:"PIM_INSECURE" help:"Listen without TLS on addresses that other machines reach. Only behind a proxy that ends TLS, and for cluster-listen, bus and store in a network that is encrypted otherwise."`
	TLSCert  []string `name:"tls-cert" env:"PIM_TLS_CERT" placeholder:"FILE" help:"Certificate chain (PEM) for both addresses; TLS 1.3 only. Needs tls-key. May be given several times, or with commas between the files, for several names: a client gets the one for the name that it asks for, or else the first. All are read again when they change, and on SIGHUP."`
	TLSKey   []string `name:"tls-key" env:"PIM_TLS_KEY" placeholder:"FILE" help:"Private key (PEM) of tls-cert; of several, in the same order."`

	TLSSelfSigned bool          `name:"tls-self-signed" env:"PIM_TLS_SELF_SIGNED" help:"TLS with a certificate that the server makes and signs itself, in the data directory, for localhost and the hosts of listen, listen-tcp and advertise. For development: clients trust its key by --tls-pin, which the server prints; browsers warn."`
	HSTSMaxAge    time.Duration `name:"hsts-max-age" env:"PIM_HSTS_MAX_AGE" default:"4380h" placeholder:"DURATION" help:"For how long browsers that have come with TLS, by a name, refuse to come to that name without, on any port (Strict-Transport-Security). 0: nothing is said of it. Not with tls-self-signed."`

	QUIC bool `name:"quic" env:"PIM_QUIC" default:"true" negatable:"" help:"With TLS, take QUIC connections on the UDP port of listen's number as well. If that port cannot be had, the server says so in its log, and does without."`

	TrustedProxies string `name:"trusted-proxies" env:"PIM_TRUSTED_PROXIES" default:"" placeholder:"CIDR,..." help:"Proxies that are believed the address of a client, for the log, address-rate and network-rate: by the PROXY protocol (versions 1 and 2), Forwarded or X-Forwarded-For. Addresses and CIDR blocks, with commas between them."`

	Page     bool `name:"page" env:"PIM_PAGE" default:"true" negatable:"" help:"Serve the chat page at /, on nodes that take connections."`
	DevLogin bool `name:"dev-login" env:"PIM_DEV_LOGIN" help:"Let whoever opens the chat page on this machine pick a name, and be that user, as make run does. For development: behind a proxy on this machine everybody may seem to be on it. Only while the newest key that signs is a development key; not with insecure or trusted-proxies."`

	AllowedOrigins string `name:"allowed-origins" env:"PIM_ALLOWED_ORIGINS" default:"" placeholder:"ORIGIN,..." help:"Origins whose pages may open a WebSocket, such as https://app.example.org, with commas between them; the server's own page may in any case, and so may programs that are no pages. Empty: all may; without a token none gets further."`

	MetricsListen string `name:"metrics-listen" env:"PIM_METRICS_LISTEN" default:"" placeholder:"HOST:PORT" help:"Address for /metrics, /healthz and /readyz, without TLS. Then /metrics is no longer at listen. Empty: it is there, for everyone who reaches it."`

	PprofListen string `name:"pprof-listen" env:"PIM_PPROF_LISTEN" default:"" placeholder:"HOST:PORT" help:"Loopback address for Go's profiler; empty turns it off."`

	MaxConnections   int           `name:"max-connections" env:"PIM_MAX_CONNECTIONS" default:"19000" placeholder:"N" help:"Connections at a time; further ones are turned away. Each takes a file descriptor, and 19,000 fit the limit of 20,000 that many systems set; with a lower limit the server takes fewer, and says so."`
	UserConnections  int           `name:"user-connections" env:"PIM_USER_CONNECTIONS" default:"100" placeholder:"N" help:"Connections of one user at a time, each of another device; further ones are turned away."`
	AcceptRate       int           `name:"accept-rate" env:"PIM_ACCEPT_RATE" default:"0" placeholder:"N" help:"New connections a second, of which as many as come in 2 s may come at once; further ones are turned away. 0: 1,000 for each core with TLS, 5,000 without."`
	AddressRate      int           `name:"address-rate" env:"PIM_ADDRESS_RATE" default:"200" placeholder:"N" help:"The same for one address, or one /64 of IPv6, with 10 s' worth at once. Not for this machine's own, nor for what trusted-proxies bring without naming a client. 0: no bound."`
	NetworkRate      int           `name:"network-rate" env:"PIM_NETWORK_RATE" default:"400" placeholder:"N" help:"The same for one /24 of IPv4, or one /48 of IPv6. 0: no bound."`
	UserLogins       int           `name:"user-logins" env:"PIM_USER_LOGINS" default:"20" placeholder:"N" help:"Logins of one user a second, of which 20 s' worth may come at once; further ones are told to come back later. 0: no bound."`
	DeviceLogins     int           `name:"device-logins" env:"PIM_DEVICE_LOGINS" default:"5" placeholder:"N" help:"The same for one device of a user. 0: no bound."`
	ConnectionFrames int           `name:"connection-frames" env:"PIM_CONNECTION_FRAMES" default:"5000" placeholder:"N" help:"Frames that one connection sends a second, of which 10 s' worth may come at once, at least 1000; what comes faster is read later, and a client that goes on like that for a minute is told to come back later. 0: no bound."`
	ConnectionBytes  int           `name:"connection-bytes" env:"PIM_CONNECTION_BYTES" default:"2097152" placeholder:"BYTES" help:"The same for bytes, at least 65536. 0: no bound."`
	UserGroups       int           `name:"user-groups" env:"PIM_USER_GROUPS" default:"100" placeholder:"N" help:"Groups that one user creates in an hour, as this node counts; further ones are refused, and may be created later. 0: no bound."`
	UserMembers      int           `name:"user-members" env:"PIM_USER_MEMBERS" default:"10000" placeholder:"N" help:"Members that one user adds to groups in an hour, those of new groups included. 0: no bound."`
	UserStrangers    int           `name:"user-strangers" env:"PIM_USER_STRANGERS" default:"300" placeholder:"N" help:"Users to whom one user writes for the first time in an hour, if these have not written before. 0: no bound."`
	UserBytes        int           `name:"user-bytes" env:"PIM_USER_BYTES" default:"268435456" placeholder:"BYTES" help:"Bytes that what one user sends may take up on the disk in a day, as this node counts; what is above is refused, and may be sent later. A day's worth may come at once. 0: no bound."`
	FreeUsers        string        `name:"free-users" env:"PIM_FREE_USERS" default:"" placeholder:"USERS" help:"Users whom user-groups, user-members, user-strangers and user-bytes do not bound, such as bots, with commas between them."`
	ShedTarget       time.Duration `name:"shed-target" env:"PIM_SHED_TARGET" default:"20ms" placeholder:"DURATION" help:"Work may wait this long in the node's queues. When it all waits longer, the node sheds some of it: typing and presence first, then receipts, pulls of history, logins, and new sends in the end, which are told when to come back. 0: nothing is shed."`
	MaxMemory        int           `name:"max-memory" env:"PIM_MAX_MEMORY" default:"0" placeholder:"BYTES" help:"Memory in use, garbage left out, above which new connections are turned away. 0: three quarters of GOMEMLIMIT, or else of what the control group or the machine has."`
	IdleTimeout      time.Duration `name:"idle-timeout" env:"PIM_IDLE_TIMEOUT" default:"5m" placeholder:"DURATION" help:"A connection that sent nothing for this long is closed. Clients ping at half of it, or as they announce."`
	MaxHeartbeat     time.Duration `name:"max-heartbeat" env:"PIM_MAX_HEARTBEAT" default:"10m" placeholder:"DURATION" help:"Longest heartbeat that a client may announce; it is closed 30 s after one that did not come. 0 ignores announcements."`
	HandshakeTimeout time.Duration `name:"handshake-timeout" env:"PIM_HANDSHAKE_TIMEOUT" default:"10s" placeholder:"DURATION" help:"Time from accepting a connection to its Hello, and for the end of a frame that has begun, or 4 KiB more of it."`
	WriteTimeout     time.Duration `name:"write-timeout" env:"PIM_WRITE_TIMEOUT" default:"10s" placeholder:"DURATION" help:"Time in which a connection must take something of what is written to it; a slower one is closed."`
	QueueBytes       int           `name:"queue-bytes" env:"PIM_QUEUE_BYTES" default:"524288" placeholder:"BYTES" help:"Bytes of messages that may wait for one connection, and as many of other answers. Above it pushes are dropped and the device is told to pull."`
	InFlight         int           `name:"in-flight" env:"PIM_IN_FLIGHT" default:"256" placeholder:"N" help:"Sends without an answer on one connection."`
	GroupMembers     int           `name:"group-members" env:"PIM_GROUP_MEMBERS" default:"2000" placeholder:"N" help:"Present members of one group."`
	Consent          bool          `name:"consent" env:"PIM_CONSENT" default:"true" negatable:"" help:"Users become members of a stranger's group only when they agree: whom they do not know invites them. Off, everybody adds everybody. The same on all nodes of a cluster, and off while some are of a version that does not know it."`
	EditWindow       time.Duration `name:"edit-window" env:"PIM_EDIT_WINDOW" default:"24h" placeholder:"DURATION" help:"For how long the sender can edit a message. 0: never."`
	RecallWindow     time.Duration `name:"recall-window" env:"PIM_RECALL_WINDOW" default:"2m" placeholder:"DURATION" help:"For how long the sender can recall a message. 0: never. The owner of a group recalls at any time."`
	Retain           time.Duration `name:"retain" env:"PIM_RETAIN" default:"0" placeholder:"DURATION" help:"For how long messages are kept, at least 168h (7 days); 720h is 30 days. Older ones are removed, for good and for everybody. 0: for ever."`
	RetainNotice     time.Duration `name:"retain-notice" env:"PIM_RETAIN_NOTICE" default:"24h" placeholder:"DURATION" help:"When a conversation says that it keeps its messages for less than before, for how long what is there stays as it was, and others can say that it is to stay. 0: not at all."`
	Presence         bool          `name:"presence" env:"PIM_PRESENCE" default:"true" negatable:"" help:"Tell who is connected and who writes a message to those who have that on their screens. Off, looks at users are refused. The same on all nodes of a cluster."`
	Shards           int           `name:"shards" env:"PIM_SHARDS" default:"0" placeholder:"N" help:"Writers that conversations are spread over; 0 takes one for each CPU."`

	ReconnectWindow time.Duration `name:"reconnect-window" env:"PIM_RECONNECT_WINDOW" default:"1s" placeholder:"DURATION" help:"Clients whose connection breaks come back at a random time within this window. Longer for more clients."`
	DrainWindow     time.Duration `name:"drain-window" env:"PIM_DRAIN_WINDOW" default:"10s" placeholder:"DURATION" help:"When the server stops, clients are told to reconnect at a random time within this window, or a longer one if gateways would not take them as fast."`
	ShutdownTimeout time.Duration `name:"shutdown-timeout" env:"PIM_SHUTDOWN_TIMEOUT" default:"15s" placeholder:"DURATION" help:"A graceful stop that takes longer is cut short. Nothing acknowledged is lost by that."`

	LogLevel  string `name:"log-level" env:"PIM_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"Least level that is logged: ${enum}."`
	LogFormat string `name:"log-format" env:"PIM_LOG_FORMAT" default:"text" enum:"text,json" placeholder:"FORMAT" help:"Form of the log on standard error: ${enum}."`
}

// Defaults returns the configuration in which every setting has its default.
func Defaults() Config {
	var c Config
	v := reflect.ValueOf(&c).Elem()
	for _, field := range reflect.VisibleFields(v.Type()) {
		text, ok := field.Tag.Lookup("default")
		if !ok {
			continue
		}
		if err := setField(v.FieldByIndex(field.Index), text); err != nil {
			panic(fmt.Sprintf("server: default of %s: %v", field.Name, err)) // a defect, caught by any test
		}
	}
	return c
}

func setField(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
		return nil
	case bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case int:
		n, err := strconv.Atoi(text)
		v.SetInt(int64(n))
		return err
	case time.Duration:
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err
	}
	return fmt.Errorf("type %s has no default", v.Type())
}

// longestHeartbeat is the longest time between a client's heartbeats. A client learns with
// a heartbeat that the server's clock was set, and the server expects clients to go by the
// old time for pim.SetWindow at most, 15 min.
const longestHeartbeat = 12 * time.Minute

// longestWindow is the longest time in which a message can be changed: 100 years.
const longestWindow = 100 * 365 * 24 * time.Hour

// Validate returns a *pim.Error of KindInvalid for the first setting that is wrong, which
// says which one it is and what to do. It opens no file.
func (c *Config) Validate() error { return c.validate(c.clustered()) }

// validate is Validate. several says that there are other nodes.
func (c *Config) validate(several bool) error {
	for _, check := range []func() error{
		c.validateAddresses, c.validateStore, c.validateTLS, c.validateExposure, c.validateProxies, c.validateBounds, c.validateCluster, c.validateLog,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	if !several {
		return c.validateAlone()
	}
	return nil
}

func (c *Config) validateAddresses() error {
	if c.Data == "" {
		return wrong("data", "name a directory")
	}
	if c.Listen == "" {
		return wrong("listen", "name an address; without HTTP the server has no /healthz and no /metrics")
	}
	for _, a := range []struct{ name, addr string }{
		{"listen", c.Listen}, {"listen-tcp", c.ListenTCP}, {"pprof-listen", c.PprofListen}, {"metrics-listen", c.MetricsListen},
	} {
		if a.addr == "" {
			continue
		}
		_, port, err := net.SplitHostPort(a.addr)
		if err != nil {
			return wrong(a.name, "%q is not HOST:PORT", a.addr)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			return wrong(a.name, "%q: the port must be a number from 0 to 65535", a.addr)
		} else if n != 0 && a.name != "listen" && a.addr == c.Listen {
			return wrong(a.name, "%q is taken by listen", a.addr)
		}
	}
	if _, err := parseOrigins(c.AllowedOrigins); err != nil {
		return wrong("allowed-origins", "%v", err)
	}
	if c.PprofListen != "" && !loopback(c.PprofListen) {
		return wrong("pprof-listen", "%q is not a loopback address; the profiler shows memory: use 127.0.0.1", c.PprofListen)
	}
	return nil
}

func (c *Config) validateTLS() error {
	certs, keys := len(c.TLSCert), len(c.TLSKey)
	switch {
	case certs > 0 && keys == 0:
		return wrong("tls-key", "tls-cert is given without it")
	case keys > 0 && certs == 0:
		return wrong("tls-cert", "tls-key is given without it")
	case certs != keys:
		return wrong("tls-key", "there are %d for %d of tls-cert; each certificate needs its key, in the same order", keys, certs)
	case certs > maxCertificates:
		return wrong("tls-cert", "there are %d, at most %d are allowed", certs, maxCertificates)
	case slices.Contains(c.TLSCert, ""):
		return wrong("tls-cert", "one of several is empty")
	case slices.Contains(c.TLSKey, ""):
		return wrong("tls-key", "one of several is empty")
	case c.TLSSelfSigned && certs > 0:
		return wrong("tls-self-signed", "it is given together with tls-cert; leave one of them out")
	case c.Encrypts() && c.Insecure && c.Store == "": // with it, insecure is about what goes to Cassandra and to other nodes
		return wrong("insecure", "it is given together with tls-cert or tls-self-signed; leave one of them out")
	case c.HSTSMaxAge != 0 && (c.HSTSMaxAge < time.Second || c.HSTSMaxAge > longestWindow):
		return wrong("hsts-max-age", "%s is neither 0, for none, nor from 1s to %s", c.HSTSMaxAge, longestWindow)
	}
	return nil
}

// maxCertificates is how many certificates a server has at most.
const maxCertificates = 256

// Encrypts reports whether the addresses for clients have TLS.
func (c *Config) Encrypts() bool { return len(c.TLSCert) > 0 || c.TLSSelfSigned }

// validateExposure keeps tokens and messages from going over the network unencrypted.
func (c *Config) validateExposure() error {
	if c.Encrypts() || c.Insecure {
		return nil
	}
	for _, a := range []struct{ name, addr string }{{"listen", c.Listen}, {"listen-tcp", c.ListenTCP}} {
		if a.addr != "" && !loopback(a.addr) {
			return wrong(a.name, "%q is reached by other machines, and nothing would be encrypted: give --tls-cert and --tls-key, --tls-self-signed for development, or --insecure behind a proxy that ends TLS, or a loopback address", a.addr)
		}
	}
	return nil
}

func (c *Config) validateProxies() error {
	var e *pim.Error
	if _, err := gateway.ParseProxies(c.TrustedProxies); errors.As(err, &e) {
		return wrong("trusted-proxies", "%s", e.Text)
	}
	return nil
}

// freeUsers returns the users in FreeUsers.
func (c *Config) freeUsers() (users []pim.UserID) {
	for _, text := range strings.Split(c.FreeUsers, ",") {
		if text = strings.TrimSpace(text); text != "" {
			users = append(users, pim.UserID(text))
		}
	}
	return users
}

func (c *Config) validateBounds() error {
	for _, u := range c.freeUsers() {
		var e *pim.Error
		if errors.As(u.Validate(), &e) {
			return wrong("free-users", "%s", e.Text)
		}
	}
	for _, b := range []struct {
		name     string
		n        int
		min, max int
	}{
		{"max-connections", c.MaxConnections, 1, 10_000_000},
		{"user-connections", c.UserConnections, 1, 10_000},
		{"accept-rate", c.AcceptRate, 0, 1_000_000},
		{"address-rate", c.AddressRate, 0, 1_000_000},
		{"network-rate", c.NetworkRate, 0, 1_000_000},
		{"user-logins", c.UserLogins, 0, 1_000_000},
		{"device-logins", c.DeviceLogins, 0, 1_000_000},
		{"connection-frames", orLeast(c.ConnectionFrames, 1000), 1000, 1_000_000}, // less, and one read could be too much for a minute
		{"connection-bytes", orLeast(c.ConnectionBytes, 65_536), 65_536, 100_000_000},
		{"user-groups", c.UserGroups, 0, 1_000_000},
		{"user-members", c.UserMembers, 0, 1_000_000_000},
		{"user-strangers", c.UserStrangers, 0, 1_000_000_000},
		{"user-bytes", c.UserBytes, 0, math.MaxInt},
		{"max-memory", c.MaxMemory, 0, math.MaxInt},
		{"queue-bytes", c.QueueBytes, pim.MaxFrame, 1 << 30}, // the largest frame must fit
		{"in-flight", c.InFlight, 1, 65_536},
		{"group-members", c.GroupMembers, 2, pim.MaxGroupMembers},
		{"shards", c.Shards, 0, 1024},
	} {
		if b.n < b.min || b.n > b.max {
			return wrong(b.name, "%d is not from %d to %d", b.n, b.min, b.max)
		}
	}
	for _, b := range []struct {
		name     string
		d        time.Duration
		min, max time.Duration
	}{
		{"idle-timeout", c.IdleTimeout, time.Second, 2 * longestHeartbeat}, // clients ping at half of it
		{"handshake-timeout", c.HandshakeTimeout, 100 * time.Millisecond, 5 * time.Minute},
		{"write-timeout", c.WriteTimeout, 100 * time.Millisecond, 5 * time.Minute},
		{"max-heartbeat", c.MaxHeartbeat, 0, longestHeartbeat},
		{"shed-target", orLeastTime(c.ShedTarget), time.Millisecond, time.Second},
		{"edit-window", c.EditWindow, 0, longestWindow},
		{"recall-window", c.RecallWindow, 0, longestWindow},
		{"retain-notice", c.RetainNotice, 0, longestWindow},
		{"reconnect-window", c.ReconnectWindow, 0, 10 * time.Minute},
		{"drain-window", c.DrainWindow, 0, time.Hour},
		{"shutdown-timeout", c.ShutdownTimeout, 0, time.Hour},
	} {
		if b.d < b.min || b.d > b.max {
			return wrong(b.name, "%s is not from %s to %s", b.d, b.min, b.max)
		}
	}
	if c.Retain != 0 && (c.Retain < pim.DedupWindow || c.Retain > longestWindow) {
		return wrong("retain", "%s is not 0, for ever, nor from %s, for which a message that is sent again is known, to %s", c.Retain, pim.DedupWindow, longestWindow)
	}
	return nil
}

// orLeast returns n, or least if n is 0, for no bound.
func orLeast(n, least int) int {
	if n == 0 {
		return least
	}
	return n
}

// orLeastTime returns d, or the least shed-target if d is 0, for never.
func orLeastTime(d time.Duration) time.Duration {
	if d == 0 {
		return time.Millisecond
	}
	return d
}

func (c *Config) validateLog() error {
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		return wrong("log-level", "%q is none of debug, info, warn, error", c.LogLevel)
	}
	switch c.LogFormat {
	case "text", "json":
		return nil
	}
	return wrong("log-format", "%q is neither text nor json", c.LogFormat)
}

// KeysPath returns where the keys are: the file in Keys, or else keys.json in
// the data directory.
func (c *Config) KeysPath() string {
	if c.Keys != "" {
		return c.Keys
	}
	return filepath.Join(c.Data, "keys.json")
}

// LoadKeys reads the server's keys. If the file is missing, Keys is empty and there is no
// store yet, it makes a file with a development key, and created is true. If there is a
// store a missing file is an error of KindNotFound: with a new key the server would refuse
// every token there is.
func (c *Config) LoadKeys() (keys *account.Keys, created bool, err error) { return c.loadKeys(false) }

// loadKeys is LoadKeys. used says that the store that Store names was used before.
func (c *Config) loadKeys(used bool) (keys *account.Keys, created bool, err error) {
	keys, err = account.LoadKeys(c.KeysPath())
	if c.Keys != "" || !errors.Is(err, fs.ErrNotExist) {
		return keys, false, err
	}
	if used {
		return nil, false, &pim.Error{
			Op: "key file " + c.KeysPath(), Kind: pim.KindNotFound,
			Text: "it is not there, and users have tokens of the keys that other nodes of " + c.Store + " have; copy their key file, or name it with --keys (docs/keys.md says how to make one)",
		}
	}
	if full, storeErr := holdsFiles(c.storePath()); storeErr != nil {
		return nil, false, storeErr
	} else if full && c.Store == "" {
		return nil, false, &pim.Error{
			Op: "key file " + c.KeysPath(), Kind: pim.KindNotFound,
			Text: "it is gone, though " + c.storePath() + " holds a store, whose users have tokens of its keys; put it back, or name another with --keys (docs/keys.md says how to make one)",
		}
	}
	keys, err = account.CreateDevelopmentKey(c.KeysPath())
	if errors.Is(err, fs.ErrExist) { // another process was first
		keys, err = account.LoadKeys(c.KeysPath())
		return keys, false, err
	}
	return keys, err == nil, err
}

// PicksNames reports whether the settings let a developer pick a name on the chat page. insecure
// and trusted-proxies say that a proxy may pass on what others ask.
func (c *Config) PicksNames() bool { return c.DevLogin && !c.Insecure && c.TrustedProxies == "" }

// loopback reports whether only this machine reaches addr. A name other than localhost is not
// looked up, and counts as reached by others.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// wrong returns the error for a setting, which it calls by its flag's name.
func wrong(setting, format string, args ...any) error {
	return &pim.Error{Op: "setting " + setting, Kind: pim.KindInvalid, Text: fmt.Sprintf(format, args...)}
}
