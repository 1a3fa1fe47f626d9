package conv

import "github.com/pim-im/pim"

// tries counts how often a request was tried in vain. If somebody else has written to the log
// since the try before, that try was lost to a success, and the request may be tried again. So
// a request does not fail because other writers are faster a few times.
type tries struct {
	all    int32
	inARow int32  // on the same end of the log
	at     logEnd // of the newest try
}

// logEnd is a log's last seq and its fence.
type logEnd struct {
	last  pim.Seq
	fence uint64
}

const (
	// maxInARow is how often a request is tried while nobody else writes to its log.
	maxInARow = 3
	// maxTries is how often a request is tried in all. Of two writers that are equally fast,
	// one loses so often in a row once in four billion times.
	maxTries = 32
)

// another counts a try in vain, on a state of the log with the end at. It reports whether there
// may be another one.
func (t *tries) another(at logEnd) bool {
	if t.at != at {
		t.at, t.inARow = at, 0
	}
	t.all++
	t.inARow++
	return t.all < maxTries && t.inARow < maxInARow
}
