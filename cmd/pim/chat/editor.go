package chat

import (
	"slices"
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
)

// editor is the line being typed. Its cursor stands between what a person takes
// for characters, of which some are two columns wide.
type editor struct {
	clusters []string // grapheme clusters
	at       int      // the cursor is before this one
}

// clusters splits a text.
func clusters(s string) []string {
	var all []string
	for s != "" {
		c, _ := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		all = append(all, c)
		s = s[len(c):]
	}
	return all
}

func (e *editor) text() string { return strings.Join(e.clusters, "") }

// set replaces the text, the cursor at its end.
func (e *editor) set(s string) {
	e.clusters = clusters(s)
	e.at = len(e.clusters)
}

// insert puts s at the cursor, in one line; what no message can hold is left out.
func (e *editor) insert(s string) {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, strings.ReplaceAll(s, "\r\n", "\n"))
	before, after := strings.Join(e.clusters[:e.at], "")+s, strings.Join(e.clusters[e.at:], "")
	if len(before)+len(after) > pim.MaxPayload+1 { // "/" may go away
		return
	}
	// What is typed may join what stands beside it: an accent, half an emoji.
	e.clusters = clusters(before + after)
	e.at = min(len(clusters(before)), len(e.clusters))
}

// press does what a key asks for, and reports whether it is one of the editor's.
func (e *editor) press(key string) bool {
	switch key {
	case "left", "ctrl+b":
		e.at = max(0, e.at-1)
	case "right", "ctrl+f":
		e.at = min(len(e.clusters), e.at+1)
	case "home", "ctrl+a":
		e.at = 0
	case "end", "ctrl+e":
		e.at = len(e.clusters)
	case "backspace", "ctrl+h":
		e.remove(e.at-1, e.at)
	case "delete", "ctrl+d":
		e.remove(e.at, e.at+1)
	case "ctrl+u":
		e.remove(0, e.at)
	case "ctrl+k":
		e.remove(e.at, len(e.clusters))
	case "ctrl+w", "alt+backspace":
		e.remove(e.word(), e.at)
	default:
		return false
	}
	return true
}

// word returns where the word before the cursor begins.
func (e *editor) word() int {
	i := e.at
	for i > 0 && e.clusters[i-1] == " " {
		i--
	}
	for i > 0 && e.clusters[i-1] != " " {
		i--
	}
	return i
}

func (e *editor) remove(from, to int) {
	from, to = max(0, from), min(to, len(e.clusters))
	if from < to {
		e.clusters = slices.Delete(e.clusters, from, to)
		e.at = from
	}
}

// window returns the part around the cursor that fits into width columns, and the
// column of the cursor, which is below width.
func (e *editor) window(width int) (text string, cursor int) {
	first := e.at
	for first > 0 {
		w := ansi.StringWidth(e.clusters[first-1])
		if cursor+w >= width {
			break
		}
		cursor += w
		first--
	}
	return ansi.Truncate(strings.Join(e.clusters[first:], ""), width, ""), cursor
}
