package pebble

import (
	"bytes"
	"context"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

var _ store.Scanner = (*Store)(nil)

// A token of a Scan is the beginning of Pebble's keys of the item that came last: of a log its name,
// of a cell its whole key, and of a cell that expires the key without the bucket, because a cell may
// lie in several. A token of one byte is the beginning of a section.

// sections are what a Scan goes through, by the first byte of their keys.
var sections = []struct {
	prefix byte
	scan   func(*Store, string, *store.Page) (last string, err error)
}{
	{prefixLog, (*Store).scanLogs},
	{prefixCell, (*Store).scanCells},
	{prefixPassing, (*Store).scanPassing},
	{prefixExpiring, (*Store).scanExpiring},
}

// Scan implements store.Scanner.
func (s *Store) Scan(ctx context.Context, token string) (store.Page, error) {
	if err := s.enterRead(ctx); err != nil {
		return store.Page{}, err
	}
	defer s.leave(1)
	if token == "" {
		token = string(rune(sections[0].prefix))
	}
	for i, section := range sections {
		if token[0] != section.prefix {
			continue
		}
		var page store.Page
		last, err := section.scan(s, token, &page)
		if err == errToken {
			return store.Page{}, err
		}
		if err != nil {
			return store.Page{}, s.readError("scan", err)
		}
		if page.Next = last; last == "" && i+1 < len(sections) {
			page.Next = string(rune(sections[i+1].prefix))
		}
		return page, nil
	}
	return store.Page{}, pim.Errorf(pim.KindInvalid, "%.20q is no token of a scan", token)
}

// scanLogs adds the logs behind token to page, and returns the token of the last one if there may be
// more.
func (s *Store) scanLogs(token string, page *store.Page) (last string, err error) {
	it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: []byte{prefixLog}, UpperBound: []byte{prefixLog + 1}})
	if err != nil {
		return "", err
	}
	defer it.Close()
	from := []byte(token)
	if len(token) > 1 {
		if len(token) != 2+int(token[1]) {
			return "", errToken
		}
		from = behindLog(store.Log(token[2:]))
	}
	for ok := it.SeekGE(from); ok; ok = it.SeekGE(from) {
		key := it.Key()
		if len(key) < 2+seqBytes || len(key) != 2+int(key[1])+seqBytes {
			return "", errMalformed("key of a log")
		}
		log := store.Log(key[2 : len(key)-seqBytes])
		e, err := s.logEnd(log)
		if err != nil {
			return "", err
		}
		if e != (end{}) { // it is that of an append that is not durable yet
			page.Logs = append(page.Logs, store.LogState{Log: log, Last: e.last, Fence: e.fence, Front: e.trimmed + 1})
		}
		if len(page.Logs) == store.ScanItems {
			return string(key[:len(key)-seqBytes]), nil
		}
		from = behindLog(log)
	}
	return "", it.Error()
}

var errToken error = pim.Errorf(pim.KindInvalid, "the token of a scan is none")

// behindLog returns the first key behind those of log.
func behindLog(log store.Log) []byte { return append(appendLogKey(nil, log, fenceSeq), 0) }

// scanCells is scanLogs for the cells that neither pass nor expire.
func (s *Store) scanCells(token string, page *store.Page) (last string, err error) {
	return s.scanKeys(token, page, 0, func(store.Partition, []byte) (bool, error) { return true, nil })
}

// scanPassing is scanLogs for passing cells. A crash may have left cells of an earlier generation,
// which are none any more.
func (s *Store) scanPassing(token string, page *store.Page) (last string, err error) {
	var of store.Partition // whose generation is present; no partition is empty
	var present []byte
	return s.scanKeys(token, page, generationBytes, func(p store.Partition, g []byte) (bool, error) {
		if p != of {
			now, err := s.generation(p)
			if err != nil {
				return false, err
			}
			of, present = p, appendPassingKey(nil, now, "", "")[2:]
		}
		return bytes.Equal(g, present), nil
	})
}

// scanKeys is scanLogs for the cells whose keys begin as token does. Between partition and key, the
// keys have skip bytes; wanted tells by these whether the cell is one.
func (s *Store) scanKeys(token string, page *store.Page, skip int, wanted func(store.Partition, []byte) (bool, error)) (last string, err error) {
	lower, upper := []byte(token), []byte{token[0] + 1}
	if len(token) > 1 {
		lower = append(lower, 0)
	}
	size, full := 0, ""
	var failed error
	_, err = s.scan(lower, upper, func(key []byte, o operand) bool {
		p, rest, err := splitName(key[1:])
		if err == nil && len(rest) < skip {
			err = errMalformed("key of a passing cell")
		}
		if err != nil {
			failed = err
			return false
		}
		var is bool
		if is, failed = wanted(p, rest[:skip]); failed != nil {
			return false
		}
		if !is || o.forgets {
			return true
		}
		size += addCell(page, p, rest[skip:], o, 0)
		if len(page.Cells) == store.ScanItems || size >= store.ScanBytes {
			full = string(key)
		}
		return full == ""
	})
	if err == nil {
		err = failed
	}
	return full, err
}

// addCell adds a cell to page, and returns how many bytes that makes.
func addCell(page *store.Page, p store.Partition, key []byte, o operand, left time.Duration) int {
	cell := store.Cell{Key: string(key), Version: o.version, Value: bytes.Clone(o.value)}
	page.Cells = append(page.Cells, store.LiveCell{Partition: p, Cell: cell, Left: left})
	return len(p) + len(key) + len(o.value)
}

// splitName returns the partition and the rest of what putCellName has begun.
func splitName(name []byte) (p store.Partition, rest []byte, err error) {
	if len(name) < 1 || len(name) < 1+int(name[0]) {
		return "", nil, errMalformed("key of a cell")
	}
	n := 1 + int(name[0])
	return store.Partition(name[1:n]), name[n:], nil
}

// inBucket walks over the expiring cells of one bucket.
type inBucket struct {
	it   *crdb.Iterator
	left time.Duration // until the bucket is over
	ok   bool
}

// name returns the key without the bucket.
func (b *inBucket) name() []byte { return b.it.Key()[1+bucketBytes:] }

// scanExpiring is scanLogs for cells that expire. It goes through all buckets at once, in the order of
// the cells' names, so that a cell that lies in several comes once.
func (s *Store) scanExpiring(token string, page *store.Page) (last string, err error) {
	walks, err := s.walks(token[1:])
	defer func() {
		for i := range walks {
			if end := walks[i].it.Close(); err == nil {
				err = end
			}
		}
	}()
	size := 0
	for err == nil {
		var name []byte
		for i := range walks {
			if w := &walks[i]; w.ok && (name == nil || bytes.Compare(w.name(), name) < 0) {
				name = w.name()
			}
		}
		if name == nil {
			return "", nil
		}
		name = bytes.Clone(name)
		var n int
		if n, err = mergeAt(walks, name, page); err != nil {
			return "", err
		}
		if size += n; len(page.Cells) == store.ScanItems || size >= store.ScanBytes {
			return string(rune(prefixExpiring)) + string(name), nil
		}
	}
	return "", err
}

// walks returns a walk for each bucket that is not over, behind the cell that is called after. The
// caller closes them, also after an error.
func (s *Store) walks(after string) (walks []inBucket, err error) {
	now := s.age.now()
	for _, b := range s.buckets.live(bucketOf(now)) {
		lower := append(appendBucketKey(nil, b), after...)
		if after != "" {
			lower = append(lower, 0)
		}
		upper := []byte{prefixExpiring + 1}
		if b+1 != 0 {
			upper = appendBucketKey(nil, b+1)
		}
		it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return walks, err
		}
		left := time.Duration((pim.Millis(b)+1)*weekMillis-now) * time.Millisecond
		walks = append(walks, inBucket{it: it, left: left, ok: it.First()})
		if err := it.Error(); err != nil {
			return walks, err
		}
	}
	return walks, nil
}

// mergeAt adds the cell that is called name to page, and moves those walks on that stand at it. It
// returns how many bytes that makes.
func mergeAt(walks []inBucket, name []byte, page *store.Page) (size int, err error) {
	var best operand
	var left time.Duration
	for i := range walks {
		w := &walks[i]
		if !w.ok || !bytes.Equal(w.name(), name) {
			continue
		}
		data, err := w.it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		o, err := parseOperand(data)
		if err != nil {
			return 0, err
		}
		if !best.beats(&o) { // later buckets live longer
			o.value = bytes.Clone(o.value)
			best, left = o, w.left
		}
		if w.ok = w.it.Next(); w.it.Error() != nil {
			return 0, w.it.Error()
		}
	}
	p, key, err := splitName(name)
	if err != nil {
		return 0, err
	}
	return addCell(page, p, key, best, left), nil
}
