//go:build !race

package gateway

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/pim-im/pim/wire/wirepb"
)

// A device that syncs and then is silent has a reading goroutine with the smallest stack: what
// the sync takes is on another one.
func TestASyncGrowsNoStack(t *testing.T) {
	const n = 400
	x := newLab(t, func(l *Limits) { l.Connections, l.Idle = n, time.Hour })
	var peers []*peer
	for i := range n {
		peers = append(peers, x.connect(false, fmt.Sprint("user-", i), "phone"))
	}
	before, goroutines := inStacks(), runtime.NumGoroutine()
	for _, p := range peers {
		p.send(&wirepb.PIMSyncReq{RequestId: 1})
		expect[*wirepb.PIMSyncResp](p)
	}
	x.eventually("the goroutines of the syncs have ended, but for those that are kept", func() bool { return runtime.NumGoroutine() <= goroutines+keptServers })
	if grown := int64(inStacks()) - int64(before); grown > n*1024 {
		t.Errorf("the stacks have grown by %d bytes for each connection", grown/n)
	}
}
