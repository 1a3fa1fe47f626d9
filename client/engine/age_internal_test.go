package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// testTimes are the times at which these tests take place.
var testTimes = times{wall: loginEpoch, server: loginEpoch, known: true}

// ago is a time before testTimes.
func ago(d time.Duration) pim.Millis { return loginEpoch - millis(d) }

// Which messages are too old, and why. An earlier process has queued all of them.
func TestTooOld(t *testing.T) {
	const week, forgotten = 7 * 24 * time.Hour, pim.DedupWindow - forgetMargin
	for _, test := range []struct {
		name    string
		message message
		backup  bool
		want    string // a part of the reason; empty: it is not too old
	}{
		{"queued for a year", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Queued: ago(365 * 24 * time.Hour)}}, false, ""},
		{"a join, queued for a week", message{Outgoing: Outgoing{Kind: pim.EntryJoin, Queued: ago(week)}}, false, "within 7 days"},
		{"a join, queued for not quite a week", message{Outgoing: Outgoing{Kind: pim.EntryJoin, Queued: ago(week - time.Millisecond)}}, false, ""},
		{"queued, in a backup", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Queued: ago(forgotten)}, state: Queued}, true, "the storage was lost"},
		{"queued a moment ago, in a backup", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Queued: ago(forgotten - time.Millisecond)}, state: Queued}, true, ""},
		{"transmitted, in a backup", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Queued: ago(forgotten), Local: ago(time.Second)}, state: Delayed}, true, ""},
		{"transmitted 180 s ago", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Local: ago(giveUpAfter)}}, false, "which was 3m0s ago"},
		{"transmitted 180 s ago, by this process", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Local: ago(giveUpAfter)}, attempt: 1}, false, ""},
		{"transmitted 179 s ago", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Local: ago(giveUpAfter - time.Millisecond)}}, false, ""},
		{"transmitted in the future", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Local: ago(-time.Hour)}}, false, ""},
		{"a leave, transmitted 180 s ago", message{Outgoing: Outgoing{Kind: pim.EntryLeave, Queued: ago(giveUpAfter), Local: ago(giveUpAfter)}}, false, ""},
		{"a leave that the server may have forgotten", message{Outgoing: Outgoing{Kind: pim.EntryLeave, Queued: ago(time.Second), Local: ago(forgotten)}}, false, "may not know it"},
		{"sent by hand again, first long ago", message{Outgoing: Outgoing{Kind: pim.EntryMessage, First: ago(forgotten), Queued: ago(0)}}, false, "may not know it"},
		{"lost by the server long ago", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Again: true, Local: ago(2 * week), Queued: ago(time.Hour)}}, false, ""},
		{"lost by the server, and queued again long ago", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Again: true, Local: ago(2 * week), Queued: ago(forgotten)}}, false, "may not know it"},
		{"that too, but it was refused", message{Outgoing: Outgoing{Kind: pim.EntryMessage, Again: true, Queued: ago(forgotten), Failed: &pim.Error{Kind: pim.KindNotMember}}}, false, ""},
	} {
		err := test.message.tooOld(testTimes, test.backup)
		if got := err != nil; got != (test.want != "") || got && !strings.Contains(err.Text, test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		unknown := testTimes
		unknown.known = false
		if err := test.message.tooOld(unknown, test.backup); err != nil {
			t.Errorf("%s, while the server's time is not known: %v", test.name, err)
		}
	}
}

// Neither a server whose clock jumps, nor a person who sets the device's clock, makes
// anything older than it is.
func TestNoClockMakesOlder(t *testing.T) {
	const hour = int64(3_600_000)
	now := testTimes
	rapid.Check(t, func(t *rapid.T) {
		age := pim.Millis(rapid.Int64Range(0, 1000*hour).Draw(t, "age"))
		ahead := pim.Millis(rapid.Int64Range(0, 10_000*hour).Draw(t, "ahead"))
		for _, later := range []times{
			{wall: now.wall + age, server: now.server + age + ahead},
			{wall: now.wall + age + ahead, server: now.server + age},
		} {
			if got := later.since(now.server, now.wall); got != age {
				t.Fatalf("%d ms old, want %d", got, age)
			}
		}
		if got := (times{server: now.server + age}).since(now.server, 0); got != age {
			t.Fatalf("of an earlier process: %d ms old, want %d", got, age)
		}
	})
}
