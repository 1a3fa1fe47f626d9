package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/cql"
	"github.com/pim-im/pim/store/pebble"
)

// StoreConfig has the settings of a store that is not embedded. It is a part of Config.
type StoreConfig struct {
	Store string `name:"store" env:"PIM_STORE" default:"" placeholder:"URL" help:"Where messages are kept: cql://HOST[:PORT][,HOST...]/KEYSPACE is a keyspace of Cassandra that pim cluster init has made. Hosts on other machines need store-ca, or insecure. Empty: the embedded store in the data directory."`
	StoreAccess
}

// StoreAccess has the settings by which pim enters Cassandra. It is a part of StoreConfig.
type StoreAccess struct {
	StoreUser         string `name:"store-user" env:"PIM_STORE_USER" default:"" placeholder:"NAME" help:"Role by which pim enters Cassandra. Needs store-password-file."`
	StorePasswordFile string `name:"store-password-file" env:"PIM_STORE_PASSWORD_FILE" default:"" placeholder:"FILE" help:"File with the password of store-user, in one line."`
	StoreCA           string `name:"store-ca" env:"PIM_STORE_CA" default:"" placeholder:"FILE" help:"Certificates (PEM) of the authorities of Cassandra's nodes; then connections to them are encrypted. system: those that this machine trusts."`
	StoreDC           string `name:"store-dc" env:"PIM_STORE_DC" default:"" placeholder:"NAME" help:"Data centre of Cassandra that is near this node: its nodes are asked first. Empty: all alike."`
}

// ClusterStore has the settings of an order to a store on Cassandra.
type ClusterStore struct {
	StoreConfig
	StoreInsecure
}

// StoreInsecure has the setting by which an order may reach Cassandra unencrypted; for a server it is
// Config.Insecure.
type StoreInsecure struct {
	Insecure bool `name:"insecure" env:"PIM_INSECURE" help:"Reach Cassandra on other machines without store-ca. Only in a network that is encrypted otherwise."`
}

// validateStore returns the first setting that is wrong.
func (c *Config) validateStore() error { return c.StoreConfig.validate(c.Insecure) }

// validate returns the first setting that is wrong. insecure says that what goes to Cassandra need not be
// encrypted.
func (c *StoreConfig) validate(insecure bool) error {
	if c.Store == "" {
		for name, value := range map[string]string{"store-user": c.StoreUser, "store-password-file": c.StorePasswordFile, "store-ca": c.StoreCA, "store-dc": c.StoreDC} {
			if value != "" {
				return wrong(name, "it is given without store")
			}
		}
		return nil
	}
	o, err := cql.ParseURL(c.Store)
	if err != nil {
		return &pim.Error{Op: "setting store", Kind: pim.KindInvalid, Text: err.Error(), Err: err}
	}
	switch {
	case c.StoreUser != "" && c.StorePasswordFile == "":
		return wrong("store-password-file", "store-user is given without it")
	case c.StoreUser == "" && c.StorePasswordFile != "":
		return wrong("store-user", "store-password-file is given without it")
	case c.StoreCA != "" || insecure:
		return nil
	}
	for _, host := range o.Hosts {
		if !loopback(net.JoinHostPort(host, "0")) {
			return wrong("store", "%q is another machine, and neither messages nor a password would be encrypted on the way: give --store-ca, or --insecure in a network that is encrypted otherwise, or a loopback address", host)
		}
	}
	return nil
}

// maxSecret is how many bytes the files may have that tell how to enter the store.
const maxSecret = 1 << 20

// options reads the files that the settings name.
func (c *StoreConfig) options(log *slog.Logger) (cql.Options, error) {
	o, err := cql.ParseURL(c.Store)
	if err != nil {
		return o, err
	}
	o.Logger, o.User, o.DC = log, c.StoreUser, c.StoreDC
	if c.StorePasswordFile != "" {
		password, err := account.ReadFile(c.StorePasswordFile, maxSecret)
		if err != nil {
			return o, wrong("store-password-file", "%v", err)
		}
		if mode := openTo(c.StorePasswordFile); mode&0o007 != 0 {
			log.Warn("every user of this machine may read the store's password; run: chmod 600 " + c.StorePasswordFile)
		}
		o.Password = string(bytes.TrimRight(password, "\r\n"))
	}
	if c.StoreCA == "" {
		return o, nil
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // Cassandra's nodes may have no later one
	if c.StoreCA != "system" {
		authorities, err := account.ReadFile(c.StoreCA, maxSecret)
		if err != nil {
			return o, wrong("store-ca", "%v", err)
		}
		if o.TLS.RootCAs = x509.NewCertPool(); !o.TLS.RootCAs.AppendCertsFromPEM(authorities) {
			return o, wrong("store-ca", "%s has no certificate in PEM", c.StoreCA)
		}
	}
	return o, nil
}

// InitCluster makes the keyspace that c.Store names, with its tables, or adds what this version needs;
// see cql.Init. replication is what cql.ParseReplication reads; empty if the keyspace is there. It
// returns the schema before, 0 if there was none, and the one that is there now.
func InitCluster(ctx context.Context, c ClusterStore, replication string, log *slog.Logger) (before, now int, err error) {
	if c.Store == "" {
		return 0, 0, errNoCluster()
	}
	if err := c.validate(c.Insecure); err != nil {
		return 0, 0, err
	}
	var r cql.Replication
	if replication != "" {
		if r, err = cql.ParseReplication(replication); err != nil {
			return 0, 0, err
		}
	}
	o, err := c.options(log)
	if err != nil {
		return 0, 0, err
	}
	return cql.Init(ctx, o, r)
}

// ClusterRestored gives the keyspace that c.Store names, and that was put back from snapshots of Cassandra's
// nodes, a new identity, durably, and returns it. Devices see it when they connect next, drop what the
// store lacks, and send again what their user had sent of it. No node may serve: nodes tell devices the
// identity that they have read at their start, and nothing tells whether one runs. Errors: KindInvalid if a
// setting is wrong; KindNotFound if the keyspace is not there, has no tables, or was never served; those of cql.Open
// and of the store.
func ClusterRestored(ctx context.Context, c ClusterStore, log *slog.Logger) (identity string, err error) {
	if c.Store == "" {
		return "", errNoCluster()
	}
	if err := c.validate(c.Insecure); err != nil {
		return "", err
	}
	o, err := c.options(log)
	if err != nil {
		return "", err
	}
	st, err := cql.Open(ctx, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	_, used, err := store.KnownIdentity(ctx, st)
	switch {
	case err != nil:
		return "", err
	case !used:
		return "", pim.Errorf(pim.KindNotFound, "%s is empty: put the snapshots there first", c.Store)
	}
	return store.NewIdentity(ctx, st)
}

// errNoCluster returns the error for an order to a cluster that names none.
func errNoCluster() error { return wrong("store", "name the cluster, as cql://HOST/KEYSPACE") }

// open loads the keys, opens the store and reads its identity. An embedded store comes after the keys,
// so that none is made for a server that has no keys. A store on Cassandra comes first: it tells whether
// it was used before, and then no development key is made.
func (s *Server) open(o Options) (*account.Keys, error) {
	if o.Store != nil || s.config.Store == "" {
		keys, err := s.keys(false)
		if err == nil {
			err = s.openEmbedded(o)
		}
		if err == nil {
			s.identify()
		}
		return keys, err
	}
	options, err := s.config.options(s.log)
	if err != nil {
		return nil, err
	}
	options.Registerer = s.metrics
	if err := os.MkdirAll(s.config.Data, 0o700); err != nil { // for the key file and the socket for orders
		return nil, pim.Errorf(pim.KindUnavailable, "make the data directory: %w", err)
	}
	ctx := context.Background()
	st, err := cql.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	_, used, err := store.KnownIdentity(ctx, st)
	var keys *account.Keys
	if err == nil {
		keys, err = s.keys(used)
	}
	if err == nil {
		s.identity, err = store.Identity(ctx, st)
	}
	if err != nil {
		st.Close()
		return nil, err
	}
	s.engine = st
	s.warnOfUnusedStore()
	return keys, nil
}

// openEmbedded opens the embedded store, unless the caller brought one.
func (s *Server) openEmbedded(o Options) error {
	if o.Store != nil {
		s.engine = o.Store
		return nil
	}
	if err := s.closeToOthers(); err != nil {
		return err
	}
	st, err := pebble.Open(s.config.storePath(), pebble.Options{Logger: s.log, Registerer: s.metrics, Mono: o.Clock.Mono, OpenFiles: s.files.store})
	if err != nil {
		return err
	}
	s.engine, s.alone = st, true
	return nil
}

// warnOfUnusedStore logs if there is an embedded store, too: somebody may have expected its messages.
func (s *Server) warnOfUnusedStore() {
	if _, err := os.Stat(s.config.storePath()); err == nil {
		s.log.Warn("the embedded store in the data directory is not used: the setting store names another", "unused", s.config.storePath(), "store", s.config.Store)
	}
}

// storePath returns where the embedded store is.
func (c *Config) storePath() string { return filepath.Join(c.Data, "store") }

// embedded returns an error of KindUnsupported if the store is not the embedded one. what says what
// cannot be done with it.
func (c *Config) embedded(what string) error {
	if c.Store == "" {
		return nil
	}
	return errNotEmbedded(what)
}

func errNotEmbedded(what string) error {
	return pim.Errorf(pim.KindUnsupported, "%s: the store is Cassandra's, not in the data directory; use the snapshots of its nodes (nodetool snapshot), and pim cluster restored once they are put back (docs/operations.md, Cassandra)", what)
}

// identify reads the store's identity; a store without one gets one. If that fails, as for
// the store of an earlier version on a full disk, the server serves all the same. Devices
// then go by the other signs of a store that was put back from a backup.
func (s *Server) identify() {
	var err error
	if s.identity, err = store.Identity(context.Background(), s.engine); err != nil {
		s.log.Warn("the store has no identity to tell devices; it gets one at the next start", "err", err)
	}
}
