// Package username says which IDs new users and new devices may have: those that
// the profile UsernameCasePreserved of RFC 8265 (PRECIS) leaves unchanged. So a name has
// one spelling (NFC, no full-width letters), and no character in it is invisible, turns
// the direction of writing, or is a symbol. The package does not detect letters of two
// scripts that look alike.
//
// Users and devices keep the IDs that they have: a caller first looks whether the ID is in
// use, and asks this package only if it is not. All IDs pass pim.UserID.Validate.
package username

import (
	"fmt"

	"github.com/pim-im/pim"

	"golang.org/x/text/secure/precis"
)

// Check returns why no new user or device may have id, as a *pim.Error of KindInvalid
// whose text begins with what. id has passed Validate. Check costs next to nothing for
// ASCII.
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

// reason returns what in id is not allowed. If every character is allowed by itself, one
// of them is not allowed in its place: among letters of another direction, or of another
// script.
func reason(id string) string {
	for _, r := range id {
		if _, err := precis.UsernameCasePreserved.String(string(r)); err != nil && !contextual(r) {
			return fmt.Sprintf("%U is not allowed in names", r)
		}
	}
	return "it holds characters that are not allowed in this place, such as letters of both directions of writing"
}

// contextual reports whether r is allowed only next to certain characters, and so never
// by itself (RFC 5892, appendix A).
func contextual(r rune) bool {
	switch r {
	case 0x00b7, 0x0375, 0x05f3, 0x05f4, 0x200c, 0x200d, 0x30fb:
		return true
	}
	return r >= 0x0660 && r <= 0x0669 || r >= 0x06f0 && r <= 0x06f9
}
