// Package username says which IDs new users and new devices may have: those that
// the profile UsernameCasePreserved of RFC 8265 (PRECIS) leaves as they are. So one
// name has one spelling (NFC, no full-width letters), and nothing in it is
// invisible, turns the direction of writing, or is a symbol. Letters of two scripts
// that look alike are not told apart.
//
// IDs that users and devices have already are not judged: whoever asks looks first
// whether the name is in use. pim.UserID.Validate is what all IDs keep to.
package username

import (
	"fmt"

	"github.com/pim-im/pim"

	"golang.org/x/text/secure/precis"
)

// Check reports why nobody new may be called id, which has passed Validate, as a
// *pim.Error of KindInvalid whose text begins with what. It costs next to nothing
// for ASCII.
func Check(what, id string) error {
	if isASCII(id) {
		return nil
	}
	normal, err := precis.UsernameCasePreserved.String(id)
	switch {
	case err != nil:
		return pim.Errorf(pim.KindInvalid, "%s %+q cannot be given to anybody new: %s (RFC 8265, UsernameCasePreserved)", what, id, reason(id))
	case normal != id:
		return pim.Errorf(pim.KindInvalid, "%s %+q cannot be given to anybody new: it is another spelling of %+q (RFC 8265, UsernameCasePreserved)", what, id, normal)
	}
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// reason says what in id is not allowed. What is allowed by itself is not so in its
// place: among letters of another direction, or of another script.
func reason(id string) string {
	for _, r := range id {
		if _, err := precis.UsernameCasePreserved.String(string(r)); err != nil && !contextual(r) {
			return fmt.Sprintf("%U is not allowed in names", r)
		}
	}
	return "it holds characters that are not allowed in this place, such as letters of both directions of writing"
}

// contextual reports whether r is allowed in some places only, and so never by
// itself (RFC 5892, appendix A).
func contextual(r rune) bool {
	switch r {
	case 0x00b7, 0x0375, 0x05f3, 0x05f4, 0x200c, 0x200d, 0x30fb:
		return true
	}
	return r >= 0x0660 && r <= 0x0669 || r >= 0x06f0 && r <= 0x06f9
}
