package chat

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// notFirst holds the characters that begin no line: each belongs to what stands before it.
const notFirst = "，。！？、；：）】》」』”’…,.!?;:)"

// wrap breaks s into lines of at most width columns: at spaces, beside wide characters,
// since their scripts are written without spaces, and if it must, anywhere.
func wrap(m ansi.Method, s string, width int) []string {
	all := clusters(s)
	var lines []string
	first, end, columns := 0, 0, 0 // of the line; end: the last place where it can end, or first
	for i := 0; i < len(all); i++ {
		w := m.StringWidth(all[i])
		if columns+w > width && i > first && all[i] != " " {
			if end == first {
				end = i
			}
			lines = append(lines, strings.TrimRight(strings.Join(all[first:end], ""), " "))
			first, columns = end, 0
			i = first - 1 // the clusters that did not fit begin the next line
			continue
		}
		columns += w
		if breaks(m, all, i) {
			end = i + 1
		}
	}
	return append(lines, strings.TrimRight(strings.Join(all[first:], ""), " "))
}

// breaks reports whether a line can end behind all[i].
func breaks(m ansi.Method, all []string, i int) bool {
	if i+1 == len(all) || strings.Contains(notFirst, all[i+1]) {
		return false
	}
	return all[i] == " " || m.StringWidth(all[i]) > 1 || m.StringWidth(all[i+1]) > 1
}
