package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
	"github.com/pim-im/pim/client/storetest"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

// TestMain runs the tests, unless SQLITE_HOLD names a file: then the process has that
// file open until its standard input ends.
func TestMain(m *testing.M) {
	path := os.Getenv("SQLITE_HOLD")
	if path == "" {
		goleak.VerifyTestMain(leaks.Patiently(m))
		return
	}
	s, err := sqlite.Open(context.Background(), path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func open(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() client.Store {
		path := filepath.Join(t.TempDir(), "odd name? 100%#.db")
		return func() client.Store { return open(t, path) }
	})
}

// Messages are readable for their user alone.
func TestFilesArePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	s := open(t, path)
	defer s.Close()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if i, err := os.Stat(f); err != nil || i.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
			t.Errorf("%s: %v, %v", f, i.Mode(), err)
		}
	}
}

// A batch that fails half-way leaves nothing behind.
func TestApplyIsAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	s := open(t, path)
	defer s.Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TRIGGER refuse BEFORE DELETE ON outbox BEGIN SELECT raise(ABORT, 'refused'); END`); err != nil {
		t.Fatal(err)
	}
	m := client.Outgoing{ID: pim.ClientMessageID{1}, Number: 1, Conversation: "d:a:b", Kind: pim.EntryMessage}
	if err := s.Apply(t.Context(), &client.Batch{Outbox: []client.Outgoing{m}}); err != nil {
		t.Fatal(err)
	}
	err = s.Apply(t.Context(), &client.Batch{Meta: &client.Meta{User: "a"}, Remove: []pim.ClientMessageID{m.ID}})
	if pim.KindOf(err) != pim.KindUnavailable {
		t.Fatalf("apply: %v, want an error of kind unavailable", err)
	}
	snapshot, err := s.Load(t.Context())
	if err != nil || snapshot.Meta.User != "" || len(snapshot.Outbox) != 1 {
		t.Errorf("after a failed batch: %+v, %v", snapshot, err)
	}
}

func TestOpenErrors(t *testing.T) {
	newer := filepath.Join(t.TempDir(), "newer.db")
	open(t, newer).Close()
	db, err := sql.Open("sqlite", newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	garbage := filepath.Join(t.TempDir(), "garbage.db")
	if err := os.WriteFile(garbage, []byte("this is no database, whatever its name says, and it is long enough to be looked at closely by SQLite"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]pim.Kind{
		newer:                                  pim.KindUnsupported,
		garbage:                                pim.KindCorrupt,
		filepath.Join(t.TempDir(), "no", "db"): pim.KindUnavailable,
	} {
		if s, err := sqlite.Open(t.Context(), path); pim.KindOf(err) != want {
			t.Errorf("open %s: %v, %v; want kind %s", filepath.Base(path), s, err, want)
		}
	}
}

// An error names the file once.
func TestOpenNoFile(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing", "bot.db")
	for path, want := range map[string]string{
		missing: "local store: open " + missing + ": no such file or directory (unavailable)",
		dir:     "local store: open " + dir + ": is a directory (unavailable)",
		"":      "local store: the path of its file is empty (invalid)",
	} {
		if _, err := sqlite.Open(t.Context(), path); err == nil || err.Error() != want {
			t.Errorf("%q: %v, not %q", path, err, want)
		}
	}
}

// Only one Store at a time may have a file open.
func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	first := open(t, path)
	if s, err := sqlite.Open(t.Context(), path); pim.KindOf(err) != pim.KindConflict {
		t.Errorf("opened twice: %v, %v; want kind conflict", s, err)
	}
	first.Close()
	open(t, path).Close()
}

// names returns other names of the file at path.
func names(t *testing.T, path string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	names := map[string]string{
		"symbolic link": filepath.Join(dir, "link.db"), "hard link": filepath.Join(filepath.Dir(path), "hard.db"),
		"link of a link": filepath.Join(dir, "link2.db"), "folder's link": filepath.Join(dir, "folder", filepath.Base(path)),
	}
	for _, err := range []error{
		os.Symlink(path, names["symbolic link"]), os.Symlink("link.db", names["link of a link"]),
		os.Symlink(filepath.Dir(path), filepath.Join(dir, "folder")), os.Link(path, names["hard link"]),
	} {
		if err != nil {
			t.Skip("no links here: ", err)
		}
	}
	return names
}

// Only one Store at a time may have a file open, by whatever name.
func TestOpenTwiceByAnotherName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	open(t, path).Close()
	all := names(t, path)
	t.Chdir(filepath.Dir(path))
	all["relative"] = "./pim.db"
	for what, name := range all {
		first := open(t, path)
		if s, err := sqlite.Open(t.Context(), name); pim.KindOf(err) != pim.KindConflict {
			t.Errorf("%s: %v, %v; want kind conflict", what, s, err)
		}
		// The Open that was refused has taken nothing from the first Store.
		m := client.Meta{User: "alice", Device: pim.DeviceID(what[:1])}
		if err := first.Apply(t.Context(), &client.Batch{Meta: &m}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		first.Close()
		second := open(t, name)
		if got, err := second.Load(t.Context()); err != nil || got.Meta.Device != m.Device {
			t.Errorf("%s: %+v, %v", what, got.Meta, err)
		}
		if s, err := sqlite.Open(t.Context(), path); pim.KindOf(err) != pim.KindConflict {
			t.Errorf("%s, the other way round: %v, %v; want kind conflict", what, s, err)
		}
		second.Close()
	}
}

// A symbolic link to a file that does not exist yet creates that file, and is another
// name of it.
func TestOpenByALinkToNothing(t *testing.T) {
	path, link := filepath.Join(t.TempDir(), "pim.db"), filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Skip("no links here: ", err)
	}
	first := open(t, link)
	defer first.Close()
	if s, err := sqlite.Open(t.Context(), path); pim.KindOf(err) != pim.KindConflict {
		t.Errorf("%v, %v; want kind conflict", s, err)
	}
}

// A file that another process has open is refused here.
func TestOpenInTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	open(t, path).Close()
	all := names(t, path)
	if runtime.GOOS != "linux" {
		delete(all, "hard link")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SQLITE_HOLD="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	for what, name := range all {
		if s, err := sqlite.Open(t.Context(), name); pim.KindOf(err) != pim.KindConflict {
			t.Errorf("%s: %v, %v; want kind conflict", what, s, err)
		}
	}
}

// With a context that has ended, Open opens nothing and leaves no file behind.
func TestOpenWithACancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if s, err := sqlite.Open(ctx, filepath.Join(dir, "pim.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", s, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// A file that version 1 wrote is brought up to date, with all that is in it.
func TestMigration(t *testing.T) {
	v1, err := os.ReadFile("v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pim.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{
		string(v1),
		`INSERT INTO meta VALUES (1, 'alice', 'phone', 7, 0, 99, 3)`,
		`INSERT INTO conversations VALUES ('d:alice:bob', 4, 5, 5, NULL, 0, 0)`,
		`INSERT INTO outbox VALUES (x'00112233445566778899aabbccddeeff', 3, 'd:alice:bob', 1, '', x'6869', 98)`,
	} {
		if _, err := db.Exec(stmt); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	for range 2 { // the second time there is nothing to do
		s := open(t, path)
		got, err := s.Load(t.Context())
		s.Close()
		if err != nil || got.Meta.AckSerial != 7 || len(got.Conversations) != 1 || got.Conversations[0].Known != 4 {
			t.Errorf("loaded %+v, %v", got, err)
		}
		if len(got.Outbox) != 1 || string(got.Outbox[0].Payload) != "hi" || got.Outbox[0].Local != 98 || got.Outbox[0].Failed != nil {
			t.Errorf("outbox %+v", got.Outbox)
		}
	}
}
