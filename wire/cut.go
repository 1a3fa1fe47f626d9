package wire

import (
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// Cut returns the beginning of text, at most most bytes; the result is a part of text.
// UTF-8 is cut between two characters as people see them (grapheme clusters), or, if the
// character at the cut takes more than half of most, between two code points. Other
// bytes are cut at exactly most.
func Cut[T ~string | ~[]byte](text T, most int) T {
	if len(text) <= most {
		return text
	}
	end := most // becomes the end of the code points that fit
	for end > 0 && most-end < utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	if !utf8.ValidString(string(text[:end])) {
		return text[:most]
	}
	// Whether a cluster ends at end depends on the code point that follows.
	_, next := utf8.DecodeRuneInString(string(text[end:min(len(text), end+utf8.UTFMax)]))
	for cluster := graphemes.FromString(string(text[:end+next])); cluster.Next(); {
		if start := cluster.Start(); cluster.End() > end && start > most/2 {
			return text[:start]
		}
	}
	return text[:end]
}
