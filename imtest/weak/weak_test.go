package weak

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

func TestPercentiles(t *testing.T) {
	var d []time.Duration
	for n := 200; n > 0; n-- {
		d = append(d, time.Duration(n)*time.Second)
	}
	if got, want := percentiles(d), (Percentiles{N: 200, P50: 100, P90: 180, P99: 198, Max: 200}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
	if got, want := percentiles(d[:1]), (Percentiles{N: 1, P50: 1, P90: 1, P99: 1, Max: 1}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
	if got := percentiles(nil); got != (Percentiles{}) {
		t.Errorf("%+v", got)
	}
}

// A message is through when the readers and the sender have it and it was acknowledged.
// Deliveries that come too late, or never, are counted.
func TestSeen(t *testing.T) {
	s, begun := newSeen(), time.Now()
	id := [3]pim.ClientMessageID{{1}, {2}, {3}}
	after := func(n time.Duration) time.Time { return begun.Add(n * time.Second) }
	for _, id := range id {
		s.transmitted(id)
		s.handed("bob", id, after(2))
		s.sent("alice", id, begun, 2)
	}
	s.transmitted(id[0])
	s.handed("carol", id[0], after(20))
	s.handed("carol", id[0], after(21)) // handed over again, which seen does not count
	s.acked(id[0], after(3))
	s.handed("carol", id[1], after(4))
	s.handed("alice", id[1], after(4))
	if n, _ := s.waiting(); n != 3 {
		t.Errorf("%d are on their way: of the first the sender has no copy, of the second no answer", n)
	}
	_, changed := s.waiting()
	s.handed("alice", id[0], after(22))
	<-changed
	s.connected(time.Second)
	s.connected(9 * time.Second)
	r := Report{within: 10 * time.Second}
	s.measure(&r, 1)
	if n, _ := s.waiting(); n != 2 || r.Late != 2 || r.Resent != 1 || r.Messages != 3 || r.Deliveries != 6 {
		t.Errorf("%d waiting, %+v", n, r)
	}
	if r.SendToAck.N != 1 || r.SendToDelivery.N != 5 || r.SendToDelivery.Max != 20 || r.Reconnects != 1 || r.LongestOutage != 9 {
		t.Errorf("%+v", r)
	}
}

// A report with anything wrong in it says so, in its error and in print.
func TestReportNamesWhatIsWrong(t *testing.T) {
	for text, r := range map[string]*Report{
		"lost 1, ":          {Lost: 1},
		"doubled 1, ":       {Doubled: 1},
		"misordered 1, ":    {Misordered: 1},
		"later than 3m0s 1": {Late: 1},
	} {
		r.within = 3 * time.Minute
		var out bytes.Buffer
		if err := r.Print(&out); err != nil || !strings.Contains(out.String(), text) || r.Err() == nil {
			t.Errorf("%q is not in %q; %v, %v", text, out.String(), err, r.Err())
		}
	}
	if err := new(Report).Err(); err != nil {
		t.Error(err)
	}
}

// The violations that the checker finds are counted as lost, doubled or misordered.
func TestJudge(t *testing.T) {
	h := imtest.NewHistory()
	bob := imtest.Device{User: "bob", Device: "phone"}
	conv := pim.Direct("alice", "bob")
	entry := func(n byte) pim.Entry {
		return pim.Entry{
			Conversation: conv, Seq: pim.Seq(n), Anchor: pim.Seq(n), Count: uint64(n), Kind: pim.EntryMessage,
			Sender: "alice", Device: "phone", ClientID: pim.ClientMessageID{n}, Local: pim.Millis(n), Server: pim.Millis(n),
		}
	}
	var log []pim.Entry
	for n := byte(1); n <= 3; n++ {
		log = append(log, entry(n))
		h.Sent(imtest.Send{
			Conversation: conv, Sender: "alice", Device: "phone", ClientID: pim.ClientMessageID{n},
			Kind: pim.EntryMessage, Payload: imtest.PayloadSum(nil),
		})
	}
	h.Log(conv, log)
	h.Opened(bob, 0)
	for _, n := range []byte{2, 1, 2} { // misordered, doubled, and 3 is lost
		h.Handed(bob, 0, entry(n), false)
	}
	var r Report
	r.judge(imtest.Check(h))
	if r.Lost != 1 || r.Doubled != 1 || r.Misordered != 1 {
		t.Errorf("%+v", r)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"users":    func(c *Config) { c.Users = 3 },
		"rate":     func(c *Config) { c.Rate = 0 },
		"duration": func(c *Config) { c.Duration = 0 },
		"cut":      func(c *Config) { c.CutFor = c.CutEvery },
		"loss":     func(c *Config) { c.Path.Loss = 1 },
		"jitter":   func(c *Config) { c.Path.Jitter = c.Path.Delay + 1 },
	} {
		c := Defaults()
		spoil(&c)
		if err := c.check(); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := Defaults()
	if err := c.check(); err != nil {
		t.Error(err)
	}
}
