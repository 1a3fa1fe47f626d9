package cql

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
)

// need is what this version needs of a table: the columns of all schemas up to the one that it knows.
type need struct {
	table     string
	partition []string // the columns of the partition key, in their order, each as "name type"
	cluster   []string // those that rows of a partition are sorted by, ascending
	regular   []string

	// deletes says that rows or cells of the table are deleted or expire. What keeps deletions from coming back
	// is then needed, too.
	deletes bool
}

// needs must follow from the migrations; a test compares the two.
var needs = []need{
	{
		"log",
		[]string{"log blob", "part bigint"},
		[]string{"last_seq bigint"},
		[]string{"chunk blob", "origin bigint", "last bigint", "fence bigint", "front bigint", "swept bigint", "rev bigint", "newest bigint"},
		true,
	},
	{"cell", []string{"partition blob"}, []string{"key blob"}, []string{"value blob"}, true},
	{"passing", []string{"partition blob"}, []string{"key blob"}, []string{"value blob"}, true},
	{"expiring", []string{"partition blob", "key blob"}, nil, []string{"value blob"}, true},
	{"meta", []string{"name text"}, nil, []string{"value text"}, false},
}

// column is a column as system_schema tells it.
type column struct {
	kind  string // partition_key, clustering, regular or static
	place int    // among those of its key, from 0; -1: it is in no key
	typ   string
	order string // asc or desc; none if rows are not sorted by the column
}

// columns returns the columns that n needs, by their names.
func (n *need) columns() map[string]column {
	all := map[string]column{}
	for kind, columns := range map[string][]string{"partition_key": n.partition, "clustering": n.cluster, "regular": n.regular} {
		for i, text := range columns {
			name, typ, _ := strings.Cut(text, " ")
			c := column{kind, i, typ, "none"}
			switch kind {
			case "clustering":
				c.order = "asc"
			case "regular":
				c.place = -1
			}
			all[name] = c
		}
	}
	return all
}

// compare returns why a table with these columns is not the one that n needs, and nil if it is. A later version may
// have added columns that are in no key.
func (n *need) compare(keyspace string, there map[string]column) error {
	wrong := func(format string, args ...any) error {
		return pim.Errorf(pim.KindCorrupt, "the table %s.%s is not the one that pim cluster init makes: %s", keyspace, n.table, fmt.Sprintf(format, args...))
	}
	if len(there) == 0 {
		return pim.Errorf(pim.KindCorrupt, "the keyspace %s has no table %s any more: put it back from a snapshot, or drop the keyspace and make it again", keyspace, n.table)
	}
	wanted := n.columns()
	for name, want := range wanted {
		if got, ok := there[name]; !ok {
			return wrong("it has no column %s", name)
		} else if got != want {
			return wrong("its column %s is %s %s %d %s, and not %s %s %d %s", name, got.typ, got.kind, got.place, got.order, want.typ, want.kind, want.place, want.order)
		}
	}
	for name, got := range there {
		if _, ok := wanted[name]; !ok && got.place >= 0 {
			return wrong("its key has the column %s", name)
		}
	}
	return nil
}

// settings are those of a table by which something could be lost, or come back.
type settings struct {
	lifetime   int // default_time_to_live
	grace      int // gc_grace_seconds
	readRepair string
	compaction map[string]string
}

// check returns an error of KindInvalid that says what to set, or nil.
func (s *settings) check(keyspace string, n *need) error {
	set := func(why, with string) error {
		return pim.Errorf(pim.KindInvalid, "the table %s.%s has %s: ALTER TABLE %s.%s WITH %s", keyspace, n.table, why, keyspace, n.table, with)
	}
	grace, _ := strconv.Atoi(graceSeconds)
	switch {
	case s.lifetime != 0:
		return set(fmt.Sprintf("default_time_to_live = %d, and drops what it holds", s.lifetime), "default_time_to_live = 0")
	case n.deletes && s.grace < grace:
		return set(fmt.Sprintf("gc_grace_seconds = %d, and a node that was away for longer brings back what was deleted", s.grace), "gc_grace_seconds = "+graceSeconds)
	case s.readRepair != "BLOCKING":
		// A Barrier relies on it: what a read has returned is on a quorum when the read ends.
		return set(fmt.Sprintf("read_repair = '%s', so what a read has returned may be lost", s.readRepair), "read_repair = 'BLOCKING'")
	case s.compaction["unsafe_aggressive_sstable_expiration"] == "true":
		return set("unsafe_aggressive_sstable_expiration, which brings back what was deleted", "compaction = "+compaction)
	}
	return nil
}

// checkTables returns why the keyspace's tables are not as this version needs them: an error of KindCorrupt if a table or a
// column is not there or another one, and of KindInvalid if a setting must be altered, which it says. An error of
// another kind says that it could not look.
func checkTables(ctx context.Context, session *session, keyspace string) error {
	var tables map[string]settings
	var columns map[string]map[string]column
	err := patiently(ctx, func() (err error) {
		if tables, err = readTables(ctx, session, keyspace); err == nil {
			columns, err = readColumns(ctx, session, keyspace)
		}
		return err
	})
	if err != nil {
		return unavailable("look at the tables", err)
	}
	for i := range needs {
		n := &needs[i]
		if err := n.compare(keyspace, columns[n.table]); err != nil {
			return err
		}
		s := tables[n.table]
		if err := s.check(keyspace, n); err != nil {
			return err
		}
	}
	return nil
}

// readColumns returns the columns of each of the keyspace's tables, by their names.
func readColumns(ctx context.Context, session *session, keyspace string) (map[string]map[string]column, error) {
	columns := map[string]map[string]column{}
	q := session.Query("SELECT table_name, column_name, kind, position, type, clustering_order FROM system_schema.columns WHERE keyspace_name = ?", keyspace)
	iter := q.Consistency(gocql.One).IterContext(ctx)
	var table, name string
	for c := (column{}); iter.Scan(&table, &name, &c.kind, &c.place, &c.typ, &c.order); c = (column{}) {
		if columns[table] == nil {
			columns[table] = map[string]column{}
		}
		columns[table][name] = c
	}
	return columns, iter.Close()
}

// readTables returns the settings of the keyspace's tables.
func readTables(ctx context.Context, session *session, keyspace string) (map[string]settings, error) {
	tables := map[string]settings{}
	q := session.Query("SELECT table_name, default_time_to_live, gc_grace_seconds, read_repair, compaction FROM system_schema.tables WHERE keyspace_name = ?", keyspace)
	iter := q.Consistency(gocql.One).IterContext(ctx)
	var name string
	for s := (settings{}); iter.Scan(&name, &s.lifetime, &s.grace, &s.readRepair, &s.compaction); s = (settings{}) {
		tables[name] = s
	}
	return tables, iter.Close()
}
