package main

import (
	"bytes"
	"fmt"
	"testing"
)

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		inPlace bool
		want    string
	}{
		{true, "\rone\x1b[K\rtwo\x1b[K\r\x1b[K"},
		{false, "one\ntwo\n"},
	} {
		var out bytes.Buffer
		p := progressOn(&out, false)
		if p.inPlace || p.every != progressLines {
			t.Errorf("a buffer is taken for a terminal: %+v", p)
		}
		p.inPlace = c.inPlace
		for _, line := range []string{"one", "two"} {
			fmt.Fprintln(p, line)
		}
		p.end()
		if out.String() != c.want {
			t.Errorf("shown %q, want %q", out.String(), c.want)
		}
	}
}
