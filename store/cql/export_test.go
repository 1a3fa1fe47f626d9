package cql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// InSpace returns o for a store of its own among others that share the keyspace.
func InSpace(o Options, space string) Options {
	o.space = space
	return o
}

// WithParts returns o for an Init that makes parts of n seqs.
func WithParts(o Options, n int64) Options {
	o.partSeqs = n
	return o
}

// InNoTime returns o for an Init that does not wait for nodes that are missing.
func InNoTime(o Options) Options {
	o.hearWithin = time.Nanosecond
	return o
}

// WithMigration returns o for a later version of pim, which knows one more migration.
func WithMigration(o Options, statement string, oldest int) Options {
	o.migrations = append(slices.Clone(migrations), migration{[]string{statement}, oldest})
	return o
}

// By returns o for a store that reaches every node by address.
func By(o Options, address string) Options {
	o.dialer = dialer(address)
	return o
}

type dialer string

func (d dialer) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, string(d))
}

// Chunks returns how many chunks of a log the tables hold, in its first parts.
func (s *Store) Chunks(ctx context.Context, log store.Log, parts int64) (n int, err error) {
	for part := range parts {
		err = errors.Join(err, s.chunks(ctx, s.log(log), part, 0, pageRows, func(*chunk) bool {
			n++
			return true
		}))
	}
	return n, err
}

// Execute carries out a statement of CQL.
func (s *Store) Execute(ctx context.Context, statement string, args ...any) error {
	return s.session.Query(statement, args...).ExecContext(ctx)
}

// Check checks the cluster as watch does, and returns what the store then says of writes.
func (s *Store) Check(ctx context.Context) error {
	s.check(ctx, s.keyspace)
	return s.safety.err()
}

// Columns returns the columns that the keyspace's tables have, and those that this version needs, in words.
func (s *Store) Columns(ctx context.Context) (there, needed map[string]string, err error) {
	there, needed = map[string]string{}, map[string]string{}
	columns, err := readColumns(ctx, s.session, s.keyspace)
	for table, all := range columns {
		for name, c := range all {
			there[table+"."+name] = fmt.Sprint(c)
		}
	}
	for i := range needs {
		for name, c := range needs[i].columns() {
			needed[needs[i].table+"."+name] = fmt.Sprint(c)
		}
	}
	return there, needed, err
}

// Settle settles an append that was not applied, and whose random number no record has. When it has read where the log
// ends, it calls meanwhile.
func (s *Store) Settle(ctx context.Context, w *store.Write, meanwhile func()) (over bool, err error) {
	e, err := s.end(ctx, s.log(w.Log))
	if err != nil {
		return false, err
	}
	meanwhile()
	return s.settleBehind(ctx, w, s.log(w.Log), -1, e)
}

// MoveFront moves a log's front as a trim does that dies before it has emptied the older parts.
func (s *Store) MoveFront(ctx context.Context, log store.Log, front pim.Seq) error {
	e, err := s.openEnd(ctx, s.log(log))
	if err == nil {
		_, err = s.transact(ctx, s.batch().Query(trimHere, int64(front), e.rev+1, s.log(log), e.part, e.rev, s.bound(e.part)))
	}
	return err
}
