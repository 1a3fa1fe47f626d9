package chat

import (
	"slices"
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
)

// editor is the line being typed. Its cursor stands between grapheme clusters, which a
// person takes for characters. Some of them are two columns wide.
type editor struct {
	measure  ansi.Method
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

// set replaces the text and puts the cursor at its end.
func (e *editor) set(s string) {
	e.clusters = clusters(s)
	e.at = len(e.clusters)
}

// insert puts s at the cursor. s may have several lines, as a paste has. Control
// characters are left out, and then whole is false. If the text would be too long for a
// message, nothing changes and the error is of KindTooLarge.
func (e *editor) insert(s string) (whole bool, err error) {
	whole = true
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || !unicode.IsControl(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		whole = false
		return -1
	}, lineEnds.Replace(s))
	before, after := strings.Join(e.clusters[:e.at], "")+s, strings.Join(e.clusters[e.at:], "")
	if n := len(before) + len(after); n > pim.MaxPayload+1 { // the "/" before "/text" is not sent
		return whole, pim.Errorf(pim.KindTooLarge, "too long: %d bytes, a message holds at most %d", n, pim.MaxPayload)
	}
	// What is typed may become one cluster with its neighbour: an accent, half an emoji.
	e.clusters = clusters(before + after)
	e.at = min(len(clusters(before)), len(e.clusters))
	return whole, nil
}

// lineEnds turns every line end into LF; a terminal pastes CR.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// appearance is what stands for a cluster on the screen.
func appearance(cluster string) string {
	if cluster == "\n" {
		return "⏎"
	}
	return Printable(cluster)
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
	for i > 0 && blank(e.clusters[i-1]) {
		i--
	}
	for i > 0 && !blank(e.clusters[i-1]) {
		i--
	}
	return i
}

// blank reports whether a cluster separates words.
func blank(cluster string) bool { return strings.TrimSpace(cluster) == "" }

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
	var shown []string
	for ; first > 0; first-- {
		c := appearance(e.clusters[first-1])
		w := e.measure.StringWidth(c)
		if cursor+w >= width {
			break
		}
		cursor += w
		shown = append(shown, c)
	}
	slices.Reverse(shown)
	for i, columns := e.at, cursor; i < len(e.clusters) && columns < width; i++ {
		c := appearance(e.clusters[i])
		columns += e.measure.StringWidth(c)
		shown = append(shown, c)
	}
	return e.measure.Truncate(strings.Join(shown, ""), width, ""), cursor
}
