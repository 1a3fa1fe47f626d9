package cql_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store/cql"
)

// refuses tells what Open, or Init, does not take.
func refuses(t *testing.T, what string, err error, kind pim.Kind, says string) {
	t.Helper()
	if pim.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("%s: %v, want %v and %q", what, err, kind, says)
	}
}

// opens returns the error of an Open.
func opens(o cql.Options) error {
	s, err := cql.Open(context.Background(), o)
	if err == nil {
		err = s.Close()
	}
	return err
}

func TestOpenRefuses(t *testing.T) {
	good := keyspace(t, "pim_refused", 0)
	s := open(t, good)
	defer closes(t, s)
	executes := func(statement string) {
		t.Helper()
		if err := s.Execute(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	bad := good
	bad.Keyspace = `pim"; DROP`
	refuses(t, "a name that needs quotes", opens(bad), pim.KindInvalid, "can't name a keyspace")
	bad.Keyspace = "pim_nowhere"
	refuses(t, "a keyspace that is not there", opens(bad), pim.KindNotFound, "pim cluster init --store cql://"+cluster(t).Host(1)+"/pim_nowhere --replication")
	bad = good
	bad.Hosts = nil
	refuses(t, "no hosts", opens(bad), pim.KindInvalid, "no host")

	executes("CREATE KEYSPACE IF NOT EXISTS pim_empty WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	bad = good
	bad.Keyspace = "pim_empty"
	refuses(t, "a keyspace without tables", opens(bad), pim.KindNotFound, "pim cluster init --store")

	// A keyspace that has a table meta has no place for pim's, and whoever may not read it is not told to make it.
	executes("CREATE KEYSPACE IF NOT EXISTS pim_other WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	executes("CREATE TABLE IF NOT EXISTS pim_other.meta (name text PRIMARY KEY, other text)")
	bad.Keyspace = "pim_other"
	refuses(t, "a table that can't be read", opens(bad), pim.KindUnavailable, "Undefined column name value")

	executes("ALTER TABLE expiring WITH default_time_to_live = 60")
	const heals = "ALTER TABLE pim_refused.expiring WITH default_time_to_live = 0"
	refuses(t, "a table that drops what it holds", opens(good), pim.KindInvalid, heals)
	refuses(t, "the store that is open", s.Check(context.Background()), pim.KindUnavailable, heals)
	executes(heals)
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}

	// One copy is enough for whoever has asked for it, and for nobody else.
	executes("DELETE FROM meta WHERE name = 'few copies' IF EXISTS")
	refuses(t, "fewer copies than somebody has asked for", opens(good), pim.KindInvalid, "the replication 1, and pim needs 3 copies")
	if _, _, err := cql.Init(context.Background(), good, copies(t, "1")); err != nil {
		t.Error(err)
	}

	executes("ALTER KEYSPACE pim_refused WITH durable_writes = false")
	refuses(t, "a keyspace that skips the commit log", opens(good), pim.KindInvalid, "durable_writes = true")
	executes("ALTER KEYSPACE pim_refused WITH durable_writes = true")
	if err := opens(good); err != nil {
		t.Error(err)
	}
}

func TestInitRefuses(t *testing.T) {
	ctx := context.Background()
	there := keyspace(t, "pim_refused", 0)
	init := func(keyspace, replication string) error {
		o := cql.InNoTime(there)
		o.Keyspace = keyspace
		r := cql.Replication{}
		if replication != "" {
			r = copies(t, replication)
		}
		_, _, err := cql.Init(ctx, o, r)
		return err
	}
	refuses(t, "a data centre that the cluster does not have", init("pim_bad", "dc9:3"), pim.KindInvalid, `the data centre "dc9"; the cluster has dc1`)
	refuses(t, "more copies than nodes", init("pim_bad", "dc1:3"), pim.KindInvalid, "3 copies do not fit the 1 nodes")
	refuses(t, "more copies than nodes, by number", init("pim_bad", "3"), pim.KindInvalid, "3 copies do not fit the 1 nodes")
	refuses(t, "no replication for a new keyspace", init("pim_bad", ""), pim.KindNotFound, "no keyspace")
	refuses(t, "another replication than it has", init("pim_refused", "dc1:3"), pim.KindInvalid, "ALTER KEYSPACE pim_refused WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}")
	s := open(t, there)
	defer closes(t, s)
	for _, statement := range []string{
		"CREATE KEYSPACE IF NOT EXISTS pim_taken WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"CREATE TABLE IF NOT EXISTS pim_taken.cell (partition blob, key blob, value text, PRIMARY KEY (partition, key))",
	} {
		if err := s.Execute(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	refuses(t, "a table of somebody else's", init("pim_taken", "1"), pim.KindCorrupt, "the table pim_taken.cell is not the one that pim cluster init makes: its column value is text")
	for _, again := range []string{"1", ""} {
		if err := init("pim_refused", again); err != nil {
			t.Errorf("init once more, with %q: %v", again, err)
		}
	}
}

// What this version needs is what its migrations make.
func TestNeeds(t *testing.T) {
	s := open(t, keyspace(t, "pim", 0))
	defer closes(t, s)
	there, needed, err := s.Columns(context.Background())
	if err != nil || len(there) == 0 || !maps.Equal(there, needed) {
		t.Errorf("the tables have %v, %v; needed are %v", there, err, needed)
	}
}

// A scan says that its token is wrong only if it is.
func TestScanRefuses(t *testing.T) {
	ctx := context.Background()
	s := open(t, keyspace(t, "pim_scanned", 0))
	defer closes(t, s)
	_, err := s.Scan(ctx, "lnonsense")
	refuses(t, "a token that Cassandra has not given", err, pim.KindInvalid, "does not take the token")
	if err := s.Execute(ctx, "DROP TABLE passing"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Scan(ctx, "p")
	refuses(t, "a table that is not there", err, pim.KindUnavailable, "Cassandra: ")
}

// A later version of pim adds to the schema while processes of this one go on, and says whether more of
// them may start.
func TestMigration(t *testing.T) {
	ctx := context.Background()
	old := fresh(keyspace(t, "pim_later", 0))
	running := open(t, old)
	defer closes(t, running)
	later := cql.WithMigration(old, "CREATE TABLE IF NOT EXISTS added (name text PRIMARY KEY)", 1)
	refuses(t, "a schema that lacks what a later version needs", opens(later), pim.KindUnsupported, "pim cluster init --store")
	if before, now, err := cql.Init(ctx, later, cql.Replication{}); before != 1 || now != 2 || err != nil {
		t.Fatalf("init of a later version: from %d to %d, %v", before, now, err)
	}
	if err := commits(running, appendTo("log", 0, "by the earlier version")); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]cql.Options{"the later version": later, "the earlier version": old} {
		if err := opens(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if before, now, err := cql.Init(ctx, old, cql.Replication{}); before != 2 || now != 2 || err != nil {
		t.Errorf("init of the earlier version: from %d to %d, %v", before, now, err)
	}
	if err := running.Execute(ctx, "UPDATE meta SET value = '2' WHERE name = 'oldest schema' IF EXISTS"); err != nil {
		t.Fatal(err)
	}
	refuses(t, "a schema that the earlier version would misread", opens(old), pim.KindUnsupported, "this one knows 1: install the later version")
	if err := opens(later); err != nil {
		t.Error(err)
	}
}

func TestParseReplication(t *testing.T) {
	for text, want := range map[string]string{
		"3": "3", "1": "1", "dc1:3": "dc1:3", "dc1:1": "dc1:1", "eu:2, us-east:3": "eu:2,us-east:3", "b:1,a:1,c:1": "a:1,b:1,c:1",
	} {
		if r, err := cql.ParseReplication(text); err != nil || r.String() != want {
			t.Errorf("%q is %v, %v", text, r, err)
		}
	}
	for text, says := range map[string]string{
		"": "no data centre", "0": "from 1 to", "-1": "from 1 to", "dc1": "no data centre", "dc1:x": "no data centre", ":3": "no data centre",
		"dc1:0,dc2:3": "copies are not", "dc1:3,dc1:3": "stands twice", "dc1:2": "2 copies in all", "2": "2 copies in all", "dc1:1,dc2:1": "2 copies in all",
		"dc1:3/1": "no data centre", "dc'1:3": "no data centre", "dc1:3,": "no data centre",
	} {
		_, err := cql.ParseReplication(text)
		refuses(t, text, err, pim.KindInvalid, says)
	}
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]string{
		"cql://a/pim": "[a] 0 pim", "cql://a:9142,b:9142/pim_2": "[a b] 9142 pim_2", "cql://[::1]:9042/p": "[::1] 9042 p", "cql://10.0.0.1,10.0.0.2/p": "[10.0.0.1 10.0.0.2] 0 p",
	} {
		o, err := cql.ParseURL(text)
		if got := fmt.Sprint(o.Hosts, o.Port, " ", o.Keyspace); err != nil || strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
		again, err := cql.ParseURL(o.URL())
		if err != nil || again.Keyspace != o.Keyspace || fmt.Sprint(again.Hosts) != fmt.Sprint(o.Hosts) || again.URL() != o.URL() {
			t.Errorf("%q becomes %q: %v", text, o.URL(), err)
		}
	}
	for text, says := range map[string]string{
		"": "names no store", "pebble://x": "names no store", "cql://": "names no store", "cql://a": "names no store", "cql:///pim": "names no store",
		"cql://a/": "can't name", "cql://a/Pim": "can't name", "cql://a/pim/x": "can't name", "cql://a/pim?x=1": "can't name",
		"cql://u:secret@a/pim": "leave that out", "cql://a:1,b:2/pim": "same one", "cql://a:0/pim": "number", "cql://a,,b/pim": "is no host", "cql://a:x/pim": "is no host",
	} {
		_, err := cql.ParseURL(text)
		refuses(t, text, err, pim.KindInvalid, says)
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}
