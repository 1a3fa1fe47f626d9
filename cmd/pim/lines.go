package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pim-im/pim"
)

// inputLine is one line of what a command reads.
type inputLine struct {
	number int    // from 1
	text   string // without the line end; empty if the line is too long
	err    error  // why the line cannot be sent; nil if it can
}

// lineReader reads lines in bounded memory: it drops a line that is too long. A line ends
// with LF or CR LF; the last one may also end with the input.
type lineReader struct {
	in     *bufio.Reader
	max    int // bytes of a line, its end not counted
	number int // of lines read
	line   []byte
}

func newLineReader(in io.Reader, max int) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, 32<<10), max: max}
}

// next returns the next line. If the line is too long, its err is set. next's own error
// is io.EOF at the end of the input. Any other error names the line that could not be
// read; nothing of that line is returned.
func (r *lineReader) next() (inputLine, error) {
	r.line = r.line[:0]
	size := int64(0)
	for {
		part, err := r.in.ReadSlice('\n')
		size += int64(len(part))
		if size <= int64(r.max)+int64(len("\r\n")) {
			r.line = append(r.line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && size == 0:
			return inputLine{}, io.EOF
		case err != nil && err != io.EOF:
			return inputLine{}, fmt.Errorf("line %d of the input cannot be read: %w", r.number+1, err)
		}
		r.number++
		return r.take(size), nil
	}
}

// take makes a line of size bytes, line end included, of what was kept.
func (r *lineReader) take(size int64) inputLine {
	l := inputLine{number: r.number}
	if size > int64(len(r.line)) {
		l.err = lineTooLong(r.max)
		return l
	}
	text := bytes.TrimSuffix(bytes.TrimSuffix(r.line, []byte("\n")), []byte("\r"))
	if len(text) > r.max {
		l.err = lineTooLong(r.max)
		return l
	}
	l.text = string(text)
	return l
}

// lineTooLong returns the err of a line that is too long to be sent.
func lineTooLong(most int) error {
	return pim.Errorf(pim.KindTooLarge, "the line is longer than %d bytes, which is the most that a message holds", min(most, pim.MaxPayload))
}
