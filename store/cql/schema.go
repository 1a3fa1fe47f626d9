package cql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
)

// graceSeconds is for how long Cassandra keeps the tombstones of what is gone. A node that was away
// for longer must be repaired before it comes back, or it brings back what was deleted meanwhile.
const graceSeconds = "86400"

// headSeq is the last_seq that names the head of a part. It sorts behind those of chunks.
const headSeq = "9223372036854775807"

// tables are schema 1. Payloads are encrypted, so there is nothing in a log to compress.
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
}

// A migration makes a schema of the one before it. It adds tables and columns, and changes nothing that
// is there, so that processes that know only earlier schemas go on meanwhile.
type migration struct {
	statements []string // each may be repeated

	// oldest is the schema that a process must know to use this one. It is an earlier one as long as
	// processes that do not know what was added neither lose nor misread anything.
	oldest int
}

// migrations make schema 1, 2, 3 …, each of the one before. The first one makes an empty keyspace's.
var migrations = []migration{{statements: tables, oldest: 1}}

const compaction = `{'class': 'UnifiedCompactionStrategy'}`

const makeMeta = `CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text)`

// Names of rows of the table meta.
const (
	schemaRow = "schema"        // the number of the last migration
	oldestRow = "oldest schema" // what a process must know, see migration
	partRow   = "part seqs"     // the length of a part
	copiesRow = "few copies"    // how many copies Init was asked for, if these are fewer than leastCopies
)

// A keyspace's name, which stands in statements as it is.
var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// Init makes the keyspace with the replication r, and its tables. If they are there already, it adds
// what this version needs; then r is what the keyspace has, or zero. It may be repeated, also after it was
// interrupted. It must not run twice at the same time: Cassandra does not order changes of schemas.
// It returns the schema that it has found, 0 if none, and the one that is there now.
//
// One copy of everything is accepted if r says so, which meta remembers; Open refuses a keyspace that has fewer
// than three copies otherwise.
//
// Errors are of KindInvalid if the cluster would lose what it has acknowledged, or has another
// replication than r; of KindCorrupt if a table of the name of one of pim's is another one; of KindUnsupported if the schema is later than this version knows; of
// KindNotFound if r is zero and there is no keyspace; of KindUnavailable.
func Init(ctx context.Context, o Options, r Replication) (before, now int, err error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return 0, 0, err
	}
	if err := makeKeyspace(ctx, o, r); err != nil {
		return 0, 0, err
	}
	session, err := o.connect()
	if err != nil {
		return 0, 0, err
	}
	defer session.Close()
	if err := ddl(ctx, session, makeMeta); err != nil {
		return 0, 0, err
	}
	if before, err = o.migrate(ctx, session); err != nil {
		return before, before, err
	}
	if n := r.copies(); n > 0 && n < leastCopies {
		if err := setMeta(ctx, session, copiesRow, strconv.Itoa(n)); err != nil {
			return before, before, err
		}
	}
	m, err := o.readMeta(ctx, session)
	if err == nil {
		_, err = checkCluster(ctx, session, o.Keyspace, m.copies)
	}
	return before, m.schema, err
}

// makeKeyspace makes the keyspace, or sees that it is as r says.
func makeKeyspace(ctx context.Context, o Options, r Replication) error {
	anywhere := o
	anywhere.Keyspace = ""
	session, err := anywhere.connect()
	if err != nil {
		return err
	}
	defer session.Close()
	if err := checkNodes(ctx, session); err != nil {
		return err
	}
	told, _, err := readKeyspace(ctx, session, o.Keyspace)
	if pim.KindOf(err) == pim.KindNotFound && r.copies() > 0 {
		// Nodes that have started just now have not all heard of each other.
		for n, begun := 0, time.Now(); ; n++ {
			err := r.fits(session.centres())
			if err == nil {
				break
			}
			if time.Since(begun) > o.hearWithin || !pause(ctx, n) {
				return err
			}
		}
		return ddl(ctx, session, fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS %s WITH replication = %s", o.Keyspace, r.cql()))
	} else if err != nil {
		return err
	}
	there, err := readReplication(told)
	if err == nil && r.copies() > 0 && there.String() != r.String() {
		err = pim.Errorf(pim.KindInvalid, "the keyspace %s has the replication %s, not %s; to change it: ALTER KEYSPACE %s WITH replication = %s, then nodetool repair --full on every node",
			o.Keyspace, there, r, o.Keyspace, r.cql())
	}
	return err
}

// migrate carries out the migrations that the keyspace lacks, and returns the schema that it had.
func (o *Options) migrate(ctx context.Context, session *session) (before int, err error) {
	if before, err = o.readSchema(ctx, session); err != nil {
		return before, err
	}
	for n := before; n < len(o.migrations); n++ {
		for _, statement := range o.migrations[n].statements {
			if err := ddl(ctx, session, statement); err != nil {
				return before, err
			}
		}
		rows := [][2]string{{oldestRow, strconv.Itoa(o.migrations[n].oldest)}, {schemaRow, strconv.Itoa(n + 1)}}
		if n == 0 {
			rows = append([][2]string{{partRow, strconv.FormatInt(o.partSeqs, 10)}}, rows...)
		}
		for _, row := range rows { // the schema's number comes last: then all of it is there
			if err := setMeta(ctx, session, row[0], row[1]); err != nil {
				return before, err
			}
		}
	}
	return before, nil
}

// setMeta sets a row of meta.
func setMeta(ctx context.Context, session *session, name, value string) error {
	err := patiently(ctx, func() error {
		q := session.Query("UPDATE meta SET value = ? WHERE name = ? IF value != ?", value, name, value)
		_, err := q.MapScanCASContext(ctx, map[string]any{})
		return err
	})
	if err != nil {
		return unavailable("init", err)
	}
	return nil
}

func ddl(ctx context.Context, session *session, statement string) error {
	err := patiently(ctx, func() error { return session.Query(statement).ExecContext(ctx) })
	if mistaken(err) {
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

// meta is what the table meta says.
type meta struct {
	schema   int
	oldest   int
	partSeqs int64
	copies   int // those of copiesRow
}

// readSchema returns the schema's number, 0 if Init was never done.
func (o *Options) readSchema(ctx context.Context, session *session) (int, error) {
	m, err := o.readMeta(ctx, session)
	return m.schema, err
}

// readMeta returns what is in the table meta. What is not there is 0.
func (o *Options) readMeta(ctx context.Context, session *session) (m meta, err error) {
	var part int
	for name, value := range map[string]*int{schemaRow: &m.schema, oldestRow: &m.oldest, partRow: &part, copiesRow: &m.copies} {
		var text string
		err := patiently(ctx, func() error {
			return session.Query("SELECT value FROM meta WHERE name = ?", name).Consistency(gocql.Serial).ScanContext(ctx, &text)
		})
		switch {
		case errors.Is(err, gocql.ErrNotFound):
			continue
		case mistaken(err): // perhaps there is no such table
			if there, err := o.hasMeta(ctx, session); !there || err != nil {
				return meta{}, err
			}
			return meta{}, unavailable("look at the schema", err)
		case err != nil:
			return meta{}, unavailable("look at the schema", err)
		}
		if *value, err = strconv.Atoi(text); err != nil || *value < 1 {
			return meta{}, pim.Errorf(pim.KindCorrupt, "the keyspace says %q of its %s", text, name)
		}
	}
	m.partSeqs = int64(part)
	return m, nil
}

// hasMeta reports whether there is a table meta, whatever is in it. Every role may ask that.
func (o *Options) hasMeta(ctx context.Context, session *session) (bool, error) {
	var name string
	err := patiently(ctx, func() error {
		q := session.Query("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'meta'", o.Keyspace)
		return q.Consistency(gocql.One).ScanContext(ctx, &name)
	})
	if errors.Is(err, gocql.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, unavailable("look at the tables", err)
	}
	return true, nil
}

// checkMeta returns what the table meta says, or why this version can't use the store.
func (o *Options) checkMeta(ctx context.Context, session *session) (meta, error) {
	m, err := o.readMeta(ctx, session)
	known := len(o.migrations)
	switch {
	case err != nil:
		return meta{}, err
	case m.schema == 0:
		return meta{}, pim.Errorf(pim.KindNotFound, "the keyspace %s has no tables of pim; make them: %s", o.Keyspace, o.initLine(true))
	case m.oldest > known:
		return meta{}, pim.Errorf(pim.KindUnsupported, "the keyspace %s has schema %d, for versions of pim that know schema %d; this one knows %d: install the later version",
			o.Keyspace, m.schema, m.oldest, known)
	case m.schema < known:
		return meta{}, pim.Errorf(pim.KindUnsupported, "the keyspace %s has schema %d, and this version of pim needs %d; nodes of the earlier version go on while you type: %s",
			o.Keyspace, m.schema, known, o.initLine(false))
	case m.partSeqs == 0:
		return meta{}, pim.Errorf(pim.KindCorrupt, "the keyspace %s does not say how long its parts are", o.Keyspace)
	}
	return m, nil
}

// initLine returns the line to type that makes the schema.
func (o *Options) initLine(keyspace bool) string {
	line := "pim cluster init --store " + o.URL()
	if keyspace {
		line += " --replication DC:3"
	}
	return line
}
