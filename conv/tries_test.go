package conv

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// A request that always loses to another writer ends, too: its client is told to send it again.
func TestARequestThatAlwaysLosesEnds(t *testing.T) {
	s := newStory(t)
	play := func(format string, args ...any) string {
		t.Helper()
		cmd, with, err := datadriven.ParseLine(fmt.Sprintf(format, args...))
		if err != nil {
			t.Fatal(err)
		}
		s.out.Reset()
		s.play(&datadriven.TestData{Cmd: cmd, CmdArgs: with})
		return s.out.String()
	}
	play("send w=a by=alice id=1")
	play("look w=a")
	for n := 1; n <= maxTries; n++ {
		play("send w=b by=bob id=%d", 1+n)
		if n == 1 {
			play("look w=b")
		}
		play("write w=b")
		switch told := play("write w=a"); {
		case n < maxTries && told == "a loads d:alice:bob\n":
			play("look w=a")
		case n == maxTries && strings.HasPrefix(told, "a refuses 1: ") && strings.HasSuffix(told, " (unavailable)\n"):
		default:
			t.Fatalf("when it has lost %d times: %s", n, told)
		}
	}
}
