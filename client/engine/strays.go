package engine

import (
	"time"

	"github.com/pim-im/pim/wire"
)

const (
	maxStrays = 8
	strayFor  = 2 * time.Minute // how long a stray Hello may be on its way
)

// strays counts the Hellos whose connections were left before an answer came. A stray
// Hello may reach the server after a later Hello, and replace that connection. Then the
// device has not connected elsewhere: it has replaced itself.
type strays struct {
	n  int
	at time.Duration // of the last of them
}

// note takes note that a Hello may still be on its way, and that nobody awaits its answer.
func (s *strays) note(now time.Duration) { s.n, s.at = min(s.n+1, maxStrays), now }

// useUp reports whether the server may have ended the connection with code because a
// stray Hello of this device has replaced it. It uses up that stray Hello.
func (s *strays) useUp(code wire.Code, now time.Duration) bool {
	if code != wire.CodeReplaced || s.n == 0 || now-s.at > strayFor {
		return false
	}
	s.n--
	return true
}
