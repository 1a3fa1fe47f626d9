package conv_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store/storetest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A request counts as waiting from its submission until its answer. A request that was
// refused because of a bound is counted under that bound.
func TestMetrics(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	shows := func(lines ...string) {
		t.Helper()
		rec := httptest.NewRecorder()
		promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
		for _, line := range lines {
			if !strings.Contains(rec.Body.String(), "\n"+line+"\n") {
				t.Errorf("%q is not in the metrics:\n%s", line, rec.Body)
			}
		}
	}
	st, rec := &watched{Store: storetest.NewMemory(), open: make(chan struct{})}, newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 2, Members: 2, Metrics: conv.NewMetrics(r), Logger: quiet()})
	sent := []*conv.Request{
		message(pim.Direct("alice", "bob"), "alice", "one"),
		message(pim.Direct("alice", "carol"), "alice", "two"),
		message(pim.Direct("alice", "bob"), "alice", strings.Repeat("x", pim.MaxPayload+1)),
		{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"u1", "u2"}},
		message(pim.Direct("alice", "bob"), "eve", "not a member"),
	}
	for i, r := range sent {
		sent[i] = rec.track(r)
	}
	shows("pim_send_queue 0", `pim_send_refusals_total{reason="queue_bytes"} 0`)
	w.Submit(sent[:3])
	rec.wait(sent[2])
	shows("pim_send_queue 2", "pim_send_queue_bytes 1030", `pim_send_refusals_total{reason="payload_bytes"} 1`)
	close(st.open)
	w.Submit(sent[3:])
	for _, r := range sent {
		rec.wait(r)
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	const bytes = 3304
	for end := time.Now().Add(5 * time.Minute); inMemory(t, r) != 2 || gauge(t, r, "pim_conversations_live_bytes") != bytes; time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // a driver counts what it has, and drops the refused group, after its answers
			t.Error("the drivers do not come to rest")
			break
		}
	}
	shows("pim_send_queue 0", "pim_send_queue_bytes 0", `pim_send_refusals_total{reason="group_members"} 1`,
		`pim_sends_total{result="ok"} 2`, `pim_sends_total{result="too_large"} 2`, `pim_sends_total{result="not_member"} 1`,
		"pim_conversations_live 2", // the refused group does not count
		fmt.Sprint("pim_conversations_live_bytes ", bytes))
	w.Close()
}
