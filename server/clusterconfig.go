package server

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/nats"
	"github.com/prometheus/client_golang/prometheus"
)

// ClusterConfig has the settings of a node that is one of several. It is a part of Config.
type ClusterConfig struct {
	ClusterListen string `name:"cluster-listen" env:"PIM_CLUSTER_LISTEN" default:"" placeholder:"HOST:PORT" help:"Address for the other nodes, which use the same store: this node is one of several. An address that other machines reach needs cluster-ca, or insecure and cluster-token-file. Empty: there are no other nodes, unless bus is given."`
	Join          string `name:"join" env:"PIM_JOIN" default:"" placeholder:"HOST:PORT,..." help:"Where some of the other nodes listen for nodes; the rest is learned from them. Those that are down are tried again. This node's own address may be among them."`
	Bus           string `name:"bus" env:"PIM_BUS" default:"" placeholder:"URL,..." help:"NATS servers that all nodes use in place of cluster-listen: nats://HOST:PORT or tls://HOST:PORT. Their max_payload must be 4MB."`

	Node      string `name:"node" env:"PIM_NODE" default:"" placeholder:"NAME" help:"This node's name, which no other has, the same at each start: letters a to z, digits and hyphens. Empty: from the host's name and the port of listen."`
	Site      string `name:"site" env:"PIM_SITE" default:"default" placeholder:"NAME" help:"Data centre that this node is in."`
	Roles     string `name:"roles" env:"PIM_ROLES" default:"gateway,writer,home,lbs" placeholder:"ROLE,..." help:"What this node does for the cluster: gateway (takes connections), writer (writes conversations), home (knows where users' devices are), lbs (tells clients which gateway to dial, for two or three nodes that clients ask). Every node has its pages. Without gateway it takes no connections, on neither address; without writer and home it is given no conversations and no users. The cluster needs each of the three on some node."`
	Weight    int    `name:"weight" env:"PIM_WEIGHT" default:"100" placeholder:"N" help:"This node's share of conversations and users, compared to that of others. 0: none."`
	Advertise string `name:"advertise" env:"PIM_ADVERTISE" default:"" placeholder:"URL,..." help:"Where clients reach this node, as they give it to --server: one URL for WebSocket (https://HOST), one for TCP (tls://HOST:PORT), one for QUIC (quic://HOST:PORT), or several of these with commas between them. Nodes with the role lbs name it to clients; a gateway without it is named by itself only."`

	LBSSecretFile string `name:"lbs-secret-file" env:"PIM_LBS_SECRET_FILE" default:"" placeholder:"FILE" help:"File with the secret by which nodes with the role lbs sign what they give to clients: at least 32 random bytes, the same on all nodes, used for nothing else. Empty: each node makes one at its start, and what it signs is good at that node only."`
	RequireLease  bool   `name:"require-lease" env:"PIM_REQUIRE_LEASE" default:"false" help:"Turn away clients that no LBS has sent to this node: their Hello has no lease, or one that is forged, expired, or for another node or user. Clients that do not ask an LBS, as those of earlier versions, can't connect then."`

	ClusterTokenFile string `name:"cluster-token-file" env:"PIM_CLUSTER_TOKEN_FILE" default:"" placeholder:"FILE" help:"File with a secret that all nodes have, in one line of at least 16 characters."`
	ClusterCA        string `name:"cluster-ca" env:"PIM_CLUSTER_CA" default:"" placeholder:"FILE" help:"Certificate (PEM) of the cluster's own authority: then the nodes encrypt what they say to each other, and whoever has a certificate of it is a node. Needs cluster-cert and cluster-key."`
	ClusterCert      string `name:"cluster-cert" env:"PIM_CLUSTER_CERT" default:"" placeholder:"FILE" help:"This node's certificate chain (PEM), from cluster-ca. It is read again for each connection to another node."`
	ClusterKey       string `name:"cluster-key" env:"PIM_CLUSTER_KEY" default:"" placeholder:"FILE" help:"Private key (PEM) of cluster-cert."`
}

// leastToken is how many bytes the cluster's token has at least.
const leastToken = 16

// needed are the roles that a cluster can't do without.
const needed = bus.RoleGateway | bus.RoleWriter | bus.RoleHome

// has reports whether the node has a role. A Config that is not valid has none.
func (c *ClusterConfig) has(role bus.Role) bool {
	roles, _ := bus.ParseRoles(c.Roles)
	return roles.Has(role)
}

// TakesConnections reports whether clients may connect to the node: it has the role gateway.
func (c *ClusterConfig) TakesConnections() bool { return c.has(bus.RoleGateway) }

// clustered reports whether the node is one of several.
func (c *ClusterConfig) clustered() bool { return c.ClusterListen != "" || c.Bus != "" }

// validateCluster returns the first setting that is wrong.
func (c *Config) validateCluster() error {
	if err := bus.CheckName("site", c.Site); err != nil {
		return wrong("site", "%s", text(err))
	}
	if err := bus.CheckName("node", c.NodeName()); err != nil {
		return wrong("node", "%s", text(err))
	}
	if c.RequireLease && c.LBSSecretFile == "" && !c.has(bus.RoleLBS) {
		return wrong("require-lease", "this node has no role lbs and no lbs-secret-file, so no lease would be good")
	}
	roles, err := bus.ParseRoles(c.Roles)
	if err != nil {
		return wrong("roles", "%s", text(err))
	}
	if roles&needed == 0 {
		return wrong("roles", "%q: the node would do nothing; name some of %s", c.Roles, needed)
	}
	if c.Weight < 0 || c.Weight > 1_000_000 {
		return wrong("weight", "%d is not from 0 to 1000000", c.Weight)
	}
	if err := checkAdvertised(c.Advertise); err != nil {
		return err
	}
	if !c.clustered() {
		return nil
	}
	for _, check := range []func() error{c.validateClusterAddresses, c.validateClusterTLS, c.validateClusterExposure} {
		if err := check(); err != nil {
			return err
		}
	}
	_, port, _ := net.SplitHostPort(c.Listen)
	switch {
	case c.Node == "" && port == "0":
		return wrong("node", "it is not given, and the port of listen is not known yet")
	case c.Store == "":
		return wrong("store", "several nodes need a store that all of them reach: cql://HOST/KEYSPACE")
	}
	return nil
}

// validateAlone returns the first setting that makes no sense without other nodes.
func (c *ClusterConfig) validateAlone() error {
	for _, s := range []struct{ name, value string }{
		{"join", c.Join}, {"cluster-token-file", c.ClusterTokenFile}, {"cluster-ca", c.ClusterCA}, {"cluster-cert", c.ClusterCert}, {"cluster-key", c.ClusterKey},
	} {
		if s.value != "" {
			return wrong(s.name, "it is given without cluster-listen or bus, so there are no other nodes")
		}
	}
	if !c.has(needed) {
		return wrong("roles", "%q: without cluster-listen or bus there is no other node to do the rest", c.Roles)
	}
	return nil
}

func (c *ClusterConfig) validateClusterAddresses() error {
	if c.ClusterListen != "" && c.Bus != "" {
		return wrong("bus", "it is given together with cluster-listen; leave one of them out")
	}
	if c.Bus != "" {
		if c.Join != "" {
			return wrong("join", "it is given together with bus, by whose servers the nodes find each other")
		}
		if err := nats.CheckServers(commas(c.Bus)); err != nil {
			return wrong("bus", "%s", text(err))
		}
		return nil
	}
	if err := nats.CheckListen(c.ClusterListen); err != nil {
		return wrong("cluster-listen", "%s", text(err))
	}
	for _, address := range commas(c.Join) {
		if err := nats.CheckAddress(address); err != nil {
			return wrong("join", "%s", text(err))
		}
	}
	return nil
}

func (c *ClusterConfig) validateClusterTLS() error {
	given := c.ClusterCA != ""
	for _, s := range []struct{ name, value string }{{"cluster-cert", c.ClusterCert}, {"cluster-key", c.ClusterKey}} {
		switch {
		case given && s.value == "":
			return wrong(s.name, "cluster-ca is given without it")
		case !given && s.value != "":
			return wrong("cluster-ca", "%s is given without it", s.name)
		}
	}
	return nil
}

// validateClusterExposure keeps tokens and messages from going over the network unencrypted, and strangers
// from being a node.
func (c *Config) validateClusterExposure() error {
	if c.ClusterCA != "" {
		return nil
	}
	name, exposed := "cluster-listen", c.ClusterListen != "" && !loopback(c.ClusterListen)
	for _, server := range commas(c.Bus) {
		if rest, plain := strings.CutPrefix(server, "nats://"); plain && !loopback(rest) {
			name, exposed = "bus", true
		}
	}
	switch {
	case !exposed:
		return nil
	case !c.Insecure:
		return wrong(name, "other machines are reached, and nothing would be encrypted: give --cluster-ca, --cluster-cert and --cluster-key, or --insecure in a network that is encrypted otherwise, or a loopback address")
	case c.ClusterTokenFile == "":
		return wrong("cluster-token-file", "with --insecure, and without certificates, only a token keeps strangers from being a node")
	}
	return nil
}

// NodeName returns this node's name: that of the setting, or one from the host's name and the port.
func (c *Config) NodeName() string {
	if c.Node != "" {
		return c.Node
	}
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	_, port, _ := net.SplitHostPort(c.Listen)
	return nodeName(host, port)
}

// nodeName returns a name that bus.CheckName takes. Hosts that differ only in what a name can't have, or
// behind 58 characters, get the same one; such nodes need the setting.
func nodeName(host, port string) string {
	host = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, host)
	host = strings.TrimLeft(host[:min(len(host), 58)], "-")
	if host == "" {
		host = "node"
	}
	return host + "-" + port
}

// commas returns the parts between the commas of a setting.
func commas(list string) []string {
	if list == "" {
		return nil
	}
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// text returns what err says, without its kind.
func text(err error) string {
	return strings.TrimSuffix(err.Error(), " ("+pim.KindOf(err).String()+")")
}

// openBus returns this node's place among the others, which has not started; nil if the settings say
// that there are none. now is the time at which this process began. It reads the files that the settings name.
func (c *Config) openBus(now time.Time, metrics prometheus.Registerer, log *slog.Logger) (bus.Bus, error) {
	if !c.clustered() {
		return nil, nil
	}
	roles, err := bus.ParseRoles(c.Roles)
	if err != nil {
		return nil, err
	}
	token, err := c.clusterToken(log)
	if err != nil {
		return nil, err
	}
	self := bus.Node{
		Name: c.NodeName(), Run: uint64(now.UnixNano()), Protocol: busProtocol, Site: c.Site, Roles: roles, Weight: uint32(c.Weight),
	}
	if roles.Has(bus.RoleGateway) {
		self.Address, self.Load.MaxConnections = c.Advertise, c.MaxConnections
	}
	o := nats.Options{
		Self:   self,
		Listen: c.ClusterListen, Join: commas(c.Join), Servers: commas(c.Bus), Token: token, Metrics: metrics, Logger: log,
	}
	if c.ClusterCA != "" {
		o.TLS = &nats.TLS{CA: c.ClusterCA, Cert: c.ClusterCert, Key: c.ClusterKey}
	}
	b, err := nats.New(o)
	if err != nil {
		return nil, err // and no *nats.Bus that is nil
	}
	return b, nil
}

// clusterToken reads the token, "" if there is none.
func (c *ClusterConfig) clusterToken(log *slog.Logger) (string, error) {
	if c.ClusterTokenFile == "" {
		return "", nil
	}
	token, err := account.ReadFile(c.ClusterTokenFile, maxSecret)
	if err != nil {
		return "", wrong("cluster-token-file", "%v", err)
	}
	if mode := openTo(c.ClusterTokenFile); mode&0o007 != 0 {
		log.Warn("every user of this machine may read the cluster's token; run: chmod 600 " + c.ClusterTokenFile)
	}
	token = bytes.TrimRight(token, "\r\n")
	if len(token) < leastToken || bytes.ContainsAny(token, "\r\n") {
		return "", wrong("cluster-token-file", "%s has no line of at least %d characters, and nothing else", c.ClusterTokenFile, leastToken)
	}
	return string(token), nil
}
