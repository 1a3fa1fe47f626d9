package gateway

import (
	"testing"
	"time"
)

// A client may be silent for as long as it announced, within limits, and half a
// minute more.
func TestAnnouncedHeartbeats(t *testing.T) {
	g := &Gateway{}
	g.Limits = Limits{Idle: 5 * time.Minute, Heartbeat: 10 * time.Minute}
	c := &conn{gw: g}
	for _, test := range []struct {
		announced uint32
		want      time.Duration
	}{
		{0, 5 * time.Minute},
		{210_000, 4 * time.Minute},
		{0, 4 * time.Minute}, // as before
		{1, 30*time.Second + time.Millisecond},
		{1 << 31, 10*time.Minute + 30*time.Second},
	} {
		c.announce(test.announced)
		if got := c.idleLimit(); got != test.want {
			t.Errorf("announced %d ms: closed after %v, want %v", test.announced, got, test.want)
		}
	}
	g.Limits.Heartbeat = 0
	deaf := &conn{gw: g}
	if deaf.announce(210_000); deaf.idleLimit() != 5*time.Minute {
		t.Error("an announcement is heard that is to be ignored")
	}
}
