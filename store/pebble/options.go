package pebble

import (
	"log/slog"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Options tune a Store. The zero value is ready for use.
type Options struct {
	// FS is the file system; nil: the operating system's.
	FS vfs.FS

	// Logger gets what an operator should know; nil: slog.Default.
	Logger *slog.Logger

	// Registerer gets the store's metrics, pim_store_*, until Close; nil: none.
	Registerer prometheus.Registerer

	// Mono is the clock by which cells expire: the time since any fixed moment, never
	// decreasing; nil: the process's monotonic clock. Several goroutines call it.
	Mono func() time.Duration

	// CacheBytes bounds the memory for blocks read from disk; 0: 128 MiB.
	CacheBytes int64

	// MemTableBytes is how much is gathered in memory before it is written out as
	// a table; 0: 16 MiB. Up to four times as much is held while the disk is
	// slow.
	MemTableBytes int

	// OpenFiles is how many files are kept open for reading, about; 0: 800. Some
	// dozens more are open for a moment.
	OpenFiles int

	// MinFreeBytes: with less free space on the disk, writes are refused with
	// KindDiskFull; 0: 64 MiB. It is looked at once a second, so it should be
	// more than is written in one.
	MinFreeBytes uint64

	// SlowAfter is when a disk operation counts as slow; 0: 1 s.
	SlowAfter time.Duration

	// StallAfter is after how long without a commit's end, while some are under
	// way, writes are refused with KindUnavailable; 0: 10 s. Close waits as long
	// for commits that do not end, and then leaves them.
	StallAfter time.Duration

	// PurgeEvery is how long erased and trimmed bytes may wait before the store begins to purge its
	// files of them. At most one purge begins in so long; 0: an hour.
	PurgeEvery time.Duration

	// Restore opens a store that another one is being copied to, and makes such a store of none or of an
	// empty one, see store.Restorer. Open refuses one that is complete, with KindConflict.
	Restore bool

	// watchInterval is how often free space, commits and the next purge are looked at; for tests.
	watchInterval time.Duration

	// fullFor is for how long after an error for want of space the disk counts as full,
	// although there are free bytes; for tests.
	fullFor time.Duration

	// cachedLogs is how many logs' last seqs are kept; for tests.
	cachedLogs int

	// levelBytes is the size of the first level below the tables of memtables; for tests.
	levelBytes int64

	// purgeBytes is how many bytes of tables a purge compacts at once, about; for tests.
	purgeBytes uint64

	// separateBytes is from which size on a chunk of a log is kept apart; for tests.
	separateBytes int
}

func (o Options) withDefaults() Options {
	setDefault(&o.FS, vfs.Default)
	setDefault(&o.Logger, slog.Default())
	setDefault(&o.CacheBytes, 128<<20)
	setDefault(&o.MemTableBytes, 16<<20)
	setDefault(&o.OpenFiles, 800)
	setDefault(&o.MinFreeBytes, 64<<20)
	setDefault(&o.SlowAfter, time.Second)
	setDefault(&o.StallAfter, 10*time.Second)
	setDefault(&o.PurgeEvery, time.Hour)
	setDefault(&o.watchInterval, time.Second)
	setDefault(&o.fullFor, 5*time.Second)
	setDefault(&o.cachedLogs, 1<<18) // some 150 bytes each
	setDefault(&o.levelBytes, 32<<20)
	setDefault(&o.purgeBytes, 64<<20)
	setDefault(&o.separateBytes, separateBytes)
	if o.Mono == nil {
		begun := time.Now()
		o.Mono = func() time.Duration { return time.Since(begun) }
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// pebbleFormat is the format of Pebble's own files. 2026-11: the newest that
// v2.1.7 writes. A database of an older format is brought up to it by Open; there
// is no way back.
const pebbleFormat = crdb.FormatValueSeparation

// memTables is how many memtables there may be. Pebble keeps one more obsolete file of the
// write-ahead log than that to use it again.
const memTables = 4

// pebbleOptions returns the settings of the database. They are tuned by
// BenchmarkCommit for CPU time per message, which is mostly spent on the cache
// misses of an insertion into the memtable. With 20,000 conversations and commits
// of 64, memtables of 4, 8, 16, 32 and 64 MiB took 14.9, 12.9, 11.8, 12.5 and
// 13.9 µs a message: a larger one misses more, a smaller one is flushed before
// the versions of a hot cell have met.
func pebbleOptions(o Options, fs vfs.FS, events *crdb.EventListener, log crdb.Logger) *crdb.Options {
	p := &crdb.Options{
		FS:                 fs,
		FormatMajorVersion: pebbleFormat,
		Merger:             newMerger(),
		EventListener:      events,
		Logger:             log,

		CacheSize:    o.CacheBytes,
		MaxOpenFiles: o.OpenFiles,

		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: memTables,

		// Tables of chunks that are kept apart overlap with nothing, so only their number
		// makes Pebble move them on, which it does after merging the short keys that are
		// there. A second compaction moves them meanwhile; without it they wait, Pebble
		// begins with the short keys again after each flush, and merges little with much.
		L0CompactionThreshold:      8,
		L0CompactionFileThreshold:  100,
		L0StopWritesThreshold:      40, // slow reads rather than no writes
		CompactionConcurrencyRange: func() (int, int) { return 2, 2 },

		// From a level that is too large Pebble first moves on what overlaps with nothing, so
		// the short keys stay in the first one until they alone are so large. Whatever is
		// written is merged with them there, see decision 0022.
		LBaseMaxBytes: o.levelBytes,
	}
	// Tables that wait in L0 side by side are put together where all are less than 25 times
	// the size of a table in the first level; where they are more, Pebble moves them.
	p.TargetFileSizes[0], p.TargetFileSizes[1], p.TargetFileSizes[2] = 8<<20, 4<<20, 16<<20
	p.Experimental.SpanPolicyFunc = tableSplits
	// Compactions that reads ask for are work without a write.
	p.Experimental.ReadSamplingMultiplier = -1
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].BlockSize = 16 << 10
	}
	p.ApplyCompressionSettings(func() crdb.DBCompressionSettings { return crdb.DBCompressionFastest })
	return p
}
