package cql

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
)

// layout is the version of the layout in doc.go. A store of another version is refused.
const layout = "1"

// graceSeconds is for how long Cassandra keeps the tombstones of what is gone. A node that was away
// for longer must be repaired before it comes back, or it brings back what was deleted meanwhile.
const graceSeconds = "86400"

// headSeq is the last_seq that names the head of a part. It sorts behind those of chunks.
const headSeq = "9223372036854775807"

// tables are what Init makes. Payloads are encrypted, so there is nothing in a log to compress.
// Versions of cells are no times, so compaction by time windows would put all tables into one
// window, and merge them again and again.
var tables = []string{
	`CREATE TABLE IF NOT EXISTS log (log blob, part bigint, last_seq bigint, chunk blob, origin bigint,
		last bigint, fence bigint, front bigint, swept bigint, rev bigint, newest bigint,
		PRIMARY KEY ((log, part), last_seq))
		WITH compression = {'enabled': 'false'} AND gc_grace_seconds = ` + graceSeconds + ` AND compaction = ` + compaction,
	`CREATE TABLE IF NOT EXISTS cell (partition blob, key blob, value blob, PRIMARY KEY (partition, key))
		WITH gc_grace_seconds = ` + graceSeconds + ` AND compaction = ` + compaction,
	`CREATE TABLE IF NOT EXISTS passing (partition blob, key blob, value blob, PRIMARY KEY (partition, key))
		WITH gc_grace_seconds = ` + graceSeconds + ` AND compaction = ` + compaction,
	`CREATE TABLE IF NOT EXISTS expiring (partition blob, key blob, value blob, PRIMARY KEY ((partition, key)))
		WITH gc_grace_seconds = ` + graceSeconds + ` AND compaction = ` + compaction,
	`CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text)`,
}

const compaction = `{'class': 'UnifiedCompactionStrategy'}`

// A keyspace's name, which stands in statements as it is.
var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// Init makes the keyspace and its tables. replication says how many copies of everything there
// are, in CQL, for example {'class': 'NetworkTopologyStrategy', 'dc1': 3}. What is there already
// stays as it is. Errors are of KindInvalid, KindUnsupported or KindUnavailable.
func Init(ctx context.Context, o Options, replication string) error {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return err
	}
	anywhere := o
	anywhere.Keyspace = ""
	session, err := anywhere.connect()
	if err != nil {
		return err
	}
	err = ddl(ctx, session, fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS %s WITH replication = %s", o.Keyspace, replication))
	session.Close()
	if err != nil {
		return err
	}
	if session, err = o.connect(); err != nil {
		return err
	}
	defer session.Close()
	for _, table := range tables {
		if err := ddl(ctx, session, table); err != nil {
			return err
		}
	}
	for _, row := range [][2]string{{"part seqs", strconv.FormatInt(o.partSeqs, 10)}, {"layout", layout}} {
		q := session.Query("INSERT INTO meta (name, value) VALUES (?, ?) IF NOT EXISTS", row[0], row[1])
		if _, err := q.MapScanCASContext(ctx, map[string]any{}); err != nil {
			return unavailable("init", err)
		}
	}
	_, err = checkMeta(ctx, session)
	return err
}

func ddl(ctx context.Context, session *session, statement string) error {
	if err := session.Query(statement).ExecContext(ctx); mistaken(err) {
		return pim.Errorf(pim.KindInvalid, "Cassandra refuses %.40q: %w", statement, err)
	} else if err != nil {
		return unavailable("init", err)
	}
	return nil
}

func (o *Options) check() error {
	if !keyspaceName.MatchString(o.Keyspace) {
		return pim.Errorf(pim.KindInvalid, "%q can't name a keyspace: letters a to z, digits and _, at most 48", o.Keyspace)
	}
	if len(o.Hosts) == 0 {
		return pim.Errorf(pim.KindInvalid, "no host of the cluster is named")
	}
	return nil
}

// checkMeta returns the length of the store's parts, or why this version can't use the store.
func checkMeta(ctx context.Context, session *session) (partSeqs int64, err error) {
	values := map[string]string{}
	for _, name := range []string{"layout", "part seqs"} {
		var value string
		q := session.Query("SELECT value FROM meta WHERE name = ?", name).Consistency(gocql.Serial)
		if err := q.ScanContext(ctx, &value); err != nil {
			return 0, pim.Errorf(pim.KindUnavailable, "the keyspace has no tables of pim, or they can't be read: %w", err)
		}
		values[name] = value
	}
	if values["layout"] != layout {
		return 0, pim.Errorf(pim.KindUnsupported, "the keyspace has the layout %q, this version of pim knows %s", values["layout"], layout)
	}
	if partSeqs, err = strconv.ParseInt(values["part seqs"], 10, 64); err != nil || partSeqs < 1 {
		return 0, pim.Errorf(pim.KindCorrupt, "the keyspace has parts of %q seqs", values["part seqs"])
	}
	return partSeqs, nil
}

// checkDurable returns why what a quorum has acknowledged could be lost by a crash of its nodes. It
// asks all nodes that are up.
func checkDurable(ctx context.Context, session *session, keyspace string) error {
	var durable bool
	q := session.Query("SELECT durable_writes FROM system_schema.keyspaces WHERE keyspace_name = ?", keyspace)
	if err := q.ScanContext(ctx, &durable); err != nil {
		return unavailable("open", err)
	}
	if !durable {
		return pim.Errorf(pim.KindInvalid, "the keyspace %s has durable_writes = false: ALTER KEYSPACE %s WITH durable_writes = true", keyspace, keyspace)
	}
	for _, host := range session.GetHosts() {
		if !host.IsUp() {
			continue
		}
		var sync string
		q := session.Query("SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'").
			Consistency(gocql.One).SetHostID(host.HostID())
		if err := q.ScanContext(ctx, &sync); err != nil {
			return unavailable("open", err)
		}
		if sync != "batch" && sync != "group" {
			return pim.Errorf(pim.KindInvalid, "the node %s has commitlog_sync: %s, and acknowledges what a power failure takes; set batch or group in cassandra.yaml",
				host.ConnectAddress(), sync)
		}
	}
	return nil
}
