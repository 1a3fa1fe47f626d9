package engine

import (
	"slices"

	"github.com/pim-im/pim"
)

// fills are the Fills that wait for an answer, in the order of the inputs.
type fills []*fill

// fill is a Fill that waits for its page.
type fill struct {
	Fill
	c *conversation
}

// next returns the Fill of c whose turn it is, nil if c has none.
func (fs fills) next(c *conversation) *fill {
	for _, f := range fs {
		if f.c == c {
			return f
		}
	}
	return nil
}

// conclude takes f out and returns its answer.
func (fs *fills) conclude(f *fill, err *pim.Error) Filled {
	*fs = slices.DeleteFunc(*fs, func(other *fill) bool { return other == f })
	_, more := f.c.holes.below(f.Before)
	return Filled{ID: f.ID, More: more, Err: err}
}

// settle takes out the Fills of c, in their order, until one has something to fill, and
// returns their answers.
func (fs *fills) settle(c *conversation) (answers []Filled) {
	for f := fs.next(c); f != nil; f = fs.next(c) {
		if _, ok := c.holes.below(f.Before); ok {
			break
		}
		answers = append(answers, fs.conclude(f, nil))
	}
	return answers
}

// fail takes out the Fills of c, or all if c is nil, and returns their answers: err.
func (fs *fills) fail(c *conversation, err *pim.Error) (answers []Filled) {
	for _, f := range slices.Clone(*fs) {
		if c == nil || f.c == c {
			answers = append(answers, fs.conclude(f, err))
		}
	}
	return answers
}

// drop forgets the Fill id, if it waits, and returns the answers of those that waited only for it.
func (fs *fills) drop(id uint64) (answers []Filled) {
	i := slices.IndexFunc(*fs, func(f *fill) bool { return f.ID == id })
	if i < 0 {
		return nil
	}
	c := (*fs)[i].c
	*fs = slices.Delete(*fs, i, i+1)
	return fs.settle(c)
}
