package pebble

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
)

// Contents says what a store holds.
type Contents struct {
	Logs    uint64 // that hold a record
	Records uint64 // of all logs
	Cells   uint64 // without those that expire or pass
	Bytes   int64  // of all files
}

// Verify reads all of the store in dir, which no process may have open, and changes nothing there.
// It compares the checksum of each block of each table, and sees that each record of each log is
// there and can be read. Of Options it takes FS, Logger and CacheBytes. Errors: KindCorrupt
// if something is not as it was written, KindNotFound if there is no store in dir, those of Open,
// and ctx's.
func Verify(ctx context.Context, dir string, o Options) (Contents, error) {
	o = o.withDefaults()
	if files, err := o.FS.List(dir); errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		return Contents{}, &pim.Error{Op: "verify " + dir, Kind: pim.KindNotFound, Text: "there is no store"}
	}
	s := &Store{dir: dir, fs: o.FS, log: o.Logger, guard: &guard{FS: o.FS}}
	events := &crdb.EventListener{DataCorruption: func(crdb.DataCorruptionInfo) {}} // the read fails, too
	options := pebbleOptions(o, o.FS, events, quiet{})
	options.ReadOnly = true
	var err error
	if s.db, err = crdb.Open(dir, options); err != nil {
		return Contents{}, s.openError(err)
	}
	v := verifier{Store: s}
	err = v.format()
	if err == nil {
		err = v.tables(ctx, options.MakeReaderOptions())
	}
	if err == nil {
		err = v.all(ctx)
	}
	if end := s.db.Close(); err == nil {
		err = end
	}
	if err == nil {
		err = v.measure()
	}
	if err != nil && ctx.Err() == nil {
		err = s.openError(err)
	}
	return v.found, err
}

// quiet is a Pebble logger that logs nothing: what is wrong is returned.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, _ ...any) {
	panic("pebble: " + format) // Pebble writes nothing here, so nothing can fail that it must write
}

// verifier reads a store.
type verifier struct {
	*Store
	found   Contents
	log     string  // the key of the log that is being read, without the seq
	trimmed pim.Seq // up to where it is
	first   pim.Seq // its first record; 0: none was read
	last    pim.Seq // its last record that was read
}

// format refuses a store of another layout.
func (v *verifier) format() error {
	value, closer, err := v.db.Get([]byte{prefixFormat})
	if err != nil {
		return err
	}
	defer closer.Close()
	return v.checkVersion(string(value))
}

// tables compares the checksums of all blocks of all tables. Those of filters and of what is deleted
// are blocks, too, which a walk over the keys does not read.
func (v *verifier) tables(ctx context.Context, o sstable.ReaderOptions) error {
	files, err := v.fs.List(v.dir)
	for _, name := range files {
		if filepath.Ext(name) != ".sst" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.table(ctx, v.fs.PathJoin(v.dir, name), o); err != nil {
			return err
		}
	}
	return err
}

// table compares the checksums of the table called name.
func (v *verifier) table(ctx context.Context, name string, o sstable.ReaderOptions) error {
	f, err := v.fs.Open(name, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	file, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, file, o)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// all reads every key.
func (v *verifier) all(ctx context.Context) error {
	it, err := v.db.NewIterWithContext(ctx, nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if err = ctx.Err(); err == nil {
			err = v.one(it)
		}
	}
	if err == nil {
		err = v.ended()
	}
	return errors.Join(err, it.Error())
}

// one reads the key at which it stands.
func (v *verifier) one(it *crdb.Iterator) error {
	key := it.Key()
	value, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	switch key[0] {
	case prefixCell:
		v.found.Cells++
		_, err = parseOperand(value)
	case prefixLog:
		err = v.chunk(string(key[:len(key)-seqBytes]), chunkEnd(key), value)
	}
	return err
}

// chunk reads value, which is in the log whose keys begin with log: the chunk that ends at last, or
// the fence, which stands behind the chunks.
func (v *verifier) chunk(log string, last pim.Seq, value []byte) error {
	if log != v.log {
		if err := v.ended(); err != nil {
			return err
		}
		v.log, v.trimmed, v.first, v.last = log, 0, 0, 0
	}
	if last == fenceSeq {
		var err error
		_, v.trimmed, err = parseFence(value)
		return err
	}
	value, closer, err := v.chunkOf(value)
	if err != nil {
		return err
	}
	defer closer.Close()
	c, err := parseChunk(value, last)
	if err != nil {
		return err
	}
	if v.first == 0 {
		v.first = c.first
		v.found.Logs++
	} else if c.first != v.last+1 {
		return errHole
	}
	v.found.Records += uint64(c.count)
	v.last = last
	for c.count > 0 {
		if _, err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

// ended sees that the log that was read begins where it was trimmed.
func (v *verifier) ended() error {
	if v.first > 0 && v.first != v.trimmed+1 {
		return errHole
	}
	return nil
}

// measure adds up the files.
func (v *verifier) measure() error {
	files, err := v.fs.List(v.dir)
	for _, name := range files {
		if strings.HasPrefix(name, "LOCK") {
			continue
		}
		info, err := v.fs.Stat(v.fs.PathJoin(v.dir, name))
		if err != nil {
			return err
		}
		v.found.Bytes += info.Size()
	}
	return err
}
