package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

type migrateCmd struct {
	From string `name:"from" required:"" placeholder:"DIR|URL" help:"Store to copy: a data directory, or cql://HOST[:PORT][,HOST...]/KEYSPACE. It stays as it is. All its servers must be stopped."`
	To   string `name:"to" required:"" placeholder:"DIR|URL" help:"Where to: a data directory without a store, or a keyspace that pim cluster init has made and nobody has used. An interrupted copy goes on."`
	server.StoreAccess
	server.StoreInsecure
	Verify  bool    `name:"verify" help:"Only compare the two stores."`
	Timeout timeout `name:"timeout" default:"1m" placeholder:"DURATION" help:"How long to try again while a store does not answer, for each step."`
	JSON    bool    `name:"json" help:"Print one JSON object."`
}

// migrateJSON is what migrate prints. The names are stable.
type migrateJSON struct {
	From     migrateStoreJSON `json:"from"`
	To       migrateStoreJSON `json:"to"`
	Lost     uint64           `json:"lost"`
	Added    uint64           `json:"added"`
	Expired  uint64           `json:"expired"`
	Unjudged uint64           `json:"unjudged"`
	Copied   bool             `json:"copied"`
	Named    []string         `json:"named"`
	Seconds  float64          `json:"seconds"`
}

// migrateStoreJSON is what one store holds.
type migrateStoreJSON struct {
	Store    string         `json:"store"`
	Records  uint64         `json:"records"`
	Logs     migrateSumJSON `json:"logs"`
	Cells    migrateSumJSON `json:"cells"`
	Passing  migrateSumJSON `json:"passing"`
	Expiring migrateSumJSON `json:"expiring"`
}

// migrateSumJSON is a number of items and a sum of hashes.
type migrateSumJSON struct {
	Items uint64 `json:"items"`
	Hash  string `json:"hash"`
}

// Run copies a store and compares the copy with it, or only compares.
func (c *migrateCmd) Run(ctx context.Context, s streams) error {
	begun := time.Now()
	tell := &migrateProgress{progress: progressOn(s.err, false), begun: begun, told: begun}
	m := server.Migration{
		From: c.From, To: c.To, StoreAccess: c.StoreAccess, StoreInsecure: c.StoreInsecure, VerifyOnly: c.Verify, Patience: time.Duration(c.Timeout),
		Progress: func(p server.MigrationProgress) { tell.page(string(p.Step), p.Logs, p.Records, p.Cells) },
		Logger:   newLogger("error", "text", s.err),
	}
	found, err := server.Migrate(ctx, m)
	tell.end()
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return &hintedError{err, "a server uses this data: stop it first"}
	case pim.KindOf(err) == pim.KindNotFound, pim.KindOf(err) == pim.KindInvalid:
		return &usageError{err, "migrate"}
	case err != nil:
		return err
	}
	report := migrateJSON{
		From: holdings(c.From, &found.From), To: holdings(c.To, &found.To),
		Lost: found.Lost, Added: found.Added, Expired: found.Expired, Unjudged: found.Unjudged,
		Copied: found.Copied, Named: found.Named,
		Seconds: time.Since(begun).Round(time.Millisecond).Seconds(),
	}
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(report)
	} else {
		err = c.print(s.out, &report, found.Equal())
	}
	if !found.Equal() {
		err = errors.Join(fmt.Errorf("%w: %s", errUnequal, c.unequal(&report)), err)
	}
	return err
}

// unequal says what it means that the stores are not equal. It says that one may be emptied only of a copy
// that is not complete: no server has served that.
func (c *migrateCmd) unequal(r *migrateJSON) string {
	switch onlyUnjudged := r.Lost+r.Added == 0; {
	case !r.Copied && onlyUnjudged:
		return "nothing but cells that expire is missing; whether they have expired nobody can tell, since it is not known when the copy was made"
	case !r.Copied && c.Verify:
		return fmt.Sprintf("%s is not a copy of %s, or one of them was written to since", c.To, c.From)
	case !r.Copied:
		return fmt.Sprintf("%s was complete before, and nothing was copied; it is not a copy of %s, or one of them was written to since", c.To, c.From)
	case onlyUnjudged:
		return fmt.Sprintf("the copy was begun so long ago that cells which expire have ended in it too early. Empty %s and begin anew; it is not to be served as it is", c.To)
	}
	return fmt.Sprintf("a server has written to one of them. Stop all servers, empty %s and begin anew; it is not to be served as it is", c.To)
}

// holdings returns what a store holds.
func holdings(name string, s *server.Holdings) migrateStoreJSON {
	return migrateStoreJSON{
		Store: name, Records: s.Records,
		Logs:     migrateSumJSON{s.Logs.Items, s.Logs.Hash()},
		Cells:    migrateSumJSON{s.Cells.Items, s.Cells.Hash()},
		Passing:  migrateSumJSON{s.Passing.Items, s.Passing.Hash()},
		Expiring: migrateSumJSON{s.Expiring.Items, s.Expiring.Hash()},
	}
}

// print prints the report for people.
func (c *migrateCmd) print(w io.Writer, r *migrateJSON, equal bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\t%s\t\t%s\t\n", r.From.Store, r.To.Store)
	for _, line := range []struct {
		name     string
		from, to migrateSumJSON
	}{
		{"logs", r.From.Logs, r.To.Logs},
		{"cells", r.From.Cells, r.To.Cells},
		{"cells that pass", r.From.Passing, r.To.Passing},
		{"cells that expire", r.From.Expiring, r.To.Expiring},
	} {
		fmt.Fprintf(table, "%s\t%d\t%.16s\t%d\t%.16s\n", line.name, line.from.Items, line.from.Hash, line.to.Items, line.to.Hash)
		if line.name == "logs" {
			fmt.Fprintf(table, "records\t%d\t\t%d\t\n", r.From.Records, r.To.Records)
		}
	}
	table.Flush()
	for _, name := range r.Named {
		fmt.Fprintln(w, name)
	}
	if r.Expired > 0 {
		fmt.Fprintf(w, "expired: %d\n", r.Expired)
	}
	if r.Unjudged > 0 {
		fmt.Fprintf(w, "not judged: %d\n", r.Unjudged)
	}
	_, err := fmt.Fprintf(w, "lost: %d, added: %d, in %.1f s\n", r.Lost, r.Added, r.Seconds)
	switch {
	case err != nil || !equal || c.Verify:
	case !r.Copied:
		_, err = fmt.Fprintf(w, "%s was complete before: nothing was copied\n", c.To)
	default:
		hint := ""
		if server.HasKeys(c.From) {
			hint = "; copy keys.json, which is in no store, to each node"
		}
		_, err = fmt.Fprintf(w, "%s has become the store: move %s away, never serve both%s\n", c.To, c.From, hint)
	}
	return err
}

// migrateProgress tells how far a migration has come.
type migrateProgress struct {
	*progress
	step        string
	begun, told time.Time // of the step; the last line
	before      uint64    // what was there when the step began
}

// page is called after each page.
func (p *migrateProgress) page(step string, logs, records, cells uint64) {
	now, items := time.Now(), records+cells
	if step != p.step {
		p.step, p.begun, p.before = step, now, items
	}
	if now.Sub(p.told) < p.every {
		return
	}
	p.told = now
	rate := float64(items-p.before) / max(now.Sub(p.begun).Seconds(), 0.001)
	fmt.Fprintf(p, "%s: %d logs, %d records, %d cells; %.0f/s\n", step, logs, records, cells, rate)
}
