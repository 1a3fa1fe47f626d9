package pebble

import (
	"bytes"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim/store"
)

// In Pebble every iterator steps over each operand of a cell that was forgotten or
// written often: in the memtable until it is flushed, and in a table until it has been
// compacted to the lowest level. But a List of a passing partition promises to cost what
// it returns. So a passing partition has generations. The keys of its cells hold the
// generation's number. If a List needs too many steps, it moves the few live cells to the
// next generation, whose keys were never written before. The move deletes the keys of the
// generation before, and no iterator goes there again.
//
// A partition's present generation is stored in a cell and cached in memory. A commit
// looks it up before it writes passing cells (findPassing, in commit.go). If a partition
// moves meanwhile, the commit finds out after its batch was applied, and writes its cells
// again in the new generation (follow).

// generation is the number of a passing partition's generation. The first is 0, which is
// not stored.
type generation uint32

const (
	passingParts = 256
	// passingCached is how many partitions of one part have their generations cached.
	passingCached = 512
	// If more than moveSteps steps of a List lead to no cell, the partition moves.
	moveSteps = 64
	// A partition with moveCells live cells or more does not move.
	moveCells = 4096
	// moveKeys bounds the keys that a move deletes one by one; more go as a range.
	moveKeys = 256
)

// passing caches the generations of passing partitions, split by a hash of the name into
// parts with a lock each.
type passing struct {
	seed  maphash.Seed
	moves atomic.Uint64 // counts the moves; raised before a move begins
	parts [passingParts]passingPart
}

type passingPart struct {
	mu sync.Mutex // held during a move
	of map[store.Partition]generation
}

func (k *passing) init() {
	k.seed = maphash.MakeSeed()
	for i := range k.parts {
		k.parts[i].of = make(map[store.Partition]generation)
	}
}

func (k *passing) part(p store.Partition) *passingPart {
	return &k.parts[maphash.String(k.seed, string(p))%passingParts]
}

// generation returns p's present generation. It waits for a move under way.
func (s *Store) generation(p store.Partition) (generation, error) {
	part := s.passing.part(p)
	part.mu.Lock()
	defer part.mu.Unlock()
	return s.readGeneration(part, p)
}

// readGeneration is generation for a caller that holds part.mu. While the caller holds the
// lock, no move can store a new generation between the read and the change of the cache.
func (s *Store) readGeneration(part *passingPart, p store.Partition) (generation, error) {
	if g, ok := part.of[p]; ok {
		return g, nil
	}
	var memory stackKey
	var cell store.Cell
	if err := s.getAt(appendGenerationKey(memory[:0], p), &cell); err != nil {
		return 0, err
	}
	if len(part.of) >= passingCached {
		for other := range part.of { // any
			delete(part.of, other)
			break
		}
	}
	part.of[p] = generation(cell.Version)
	return generation(cell.Version), nil
}

// getPassing is get for a passing partition.
func (s *Store) getPassing(p store.Partition, key string) (cell store.Cell, err error) {
	g, err := s.generation(p)
	for err == nil {
		var memory stackKey
		cell = store.Cell{}
		if err = s.getAt(appendPassingKey(memory[:0], g, p, key), &cell); err != nil {
			break
		}
		was := g
		if g, err = s.generation(p); g == was {
			break
		}
	}
	if cell.Version != 0 {
		cell.Key = key
	}
	return cell, err
}

// listPassing is list for a passing partition. It moves the partition if the list took
// too many steps.
func (s *Store) listPassing(p store.Partition, after string, limit int) ([]store.Cell, error) {
	g, err := s.generation(p)
	for err == nil {
		var cells []store.Cell
		var steps int
		lower, upper := passingBounds(g, p, after)
		if cells, steps, err = s.listRange(lower, upper, passingKeyLen(p, ""), limit); err != nil {
			break
		}
		was := g
		if g, err = s.generation(p); err != nil || g != was {
			continue
		}
		if steps-len(cells) > max(moveSteps, len(cells)) && s.trouble() == nil {
			s.move(p)
		}
		return cells, nil
	}
	return nil, err
}

// move moves p to its next generation, unless p has so many live cells that a move
// would cost more than it saves. A failure leaves p where it is; the next commit
// reports it.
func (s *Store) move(p store.Partition) {
	part := s.passing.part(p)
	part.mu.Lock()
	defer part.mu.Unlock()
	g, err := s.readGeneration(part, p)
	if err != nil {
		return
	}
	s.passing.moves.Add(1) // before the scan of p's cells, see follow
	batch := s.db.NewBatch()
	defer batch.Close()
	if move, err := s.fillMove(batch, g, p); err != nil || !move {
		return
	}
	if err := s.apply(batch, nil); err != nil {
		delete(part.of, p) // the next look-up reads the stored generation
		return
	}
	part.of[p] = g + 1
}

// fillMove puts the move of p from generation g to the next one into b, and reports
// whether the move saves more than it costs. It deletes the keys of g one by one, or by a
// range if they are more than moveKeys, because many range deletions make Pebble's readers
// slow.
func (s *Store) fillMove(b *crdb.Batch, g generation, p store.Partition) (move bool, err error) {
	lower, upper := passingBounds(g, p, "")
	var keys [][]byte
	live, skip := 0, passingKeyLen(p, "")
	steps, err := s.scan(lower, upper, func(key []byte, o operand) bool {
		if len(keys) <= moveKeys {
			keys = append(keys, bytes.Clone(key))
		}
		if !o.forgets {
			live++
			fillAt(b, g+1, &store.CellWrite{Partition: p, Cell: store.Cell{Key: string(key[skip:]), Version: o.version, Value: o.value}})
		}
		return live < moveCells
	})
	if err != nil || live == moveCells || steps-live <= live {
		return false, err
	}
	if len(keys) > moveKeys {
		err = b.DeleteRange(lower, upper, nil)
	} else {
		for _, key := range keys {
			err = errors.Join(err, b.Delete(key, nil))
		}
	}
	d := b.MergeDeferred(generationKeyLen(p), operandLen(uint64(g+1), nil))
	putGenerationKey(d.Key, p)
	putOperand(d.Value, uint64(g+1), nil)
	return true, errors.Join(err, d.Finish())
}
