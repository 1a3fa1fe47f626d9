package load

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

func tokenOf(u pim.UserID) (string, error) { return "token of " + string(u), nil }

// run runs a short workload against s, over TCP or WebSocket.
func (s *fake) run(t *testing.T, scheme string, cfg Config) Report {
	t.Helper()
	cfg.Server = "http://" + s.web.Listener.Addr().String()
	cfg.MetricsURL = cfg.Server + "/metrics"
	if scheme == "tcp" {
		cfg.Server = "tcp://" + s.tcp.Addr().String()
	}
	cfg.Token = tokenOf
	return run(t, cfg)
}

// run runs a short workload. Unless cfg says what is enough, it lasts until 100 messages
// are sent, so that each fault has hit some, however slow the machine is.
func run(t *testing.T, cfg Config) Report {
	t.Helper()
	or(&cfg.Duration, 60*time.Millisecond)
	or(&cfg.Warmup, -1)
	if cfg.enough == nil {
		cfg.enough = func(sent uint64) bool { return sent >= 100 }
	}
	or(&cfg.askAfter, askForTests)
	or(&cfg.drainLimit, 5*time.Minute) // without anything that comes: it only ends a run that hangs
	rep, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// askForTests is Config.askAfter in most tests.
const askForTests = 20 * time.Millisecond

// whole fails unless every message reached every receiver, once and in order.
func whole(t *testing.T, rep Report, receivers uint64) {
	t.Helper()
	if rep.Sent == 0 || rep.Delivered != rep.Sent*receivers || rep.Unacked > 0 {
		t.Errorf("sent %d, delivered %d to %d each, unacked %d", rep.Sent, rep.Delivered, receivers, rep.Unacked)
	}
	if err := rep.Err(); err != nil {
		t.Error(err)
	}
}

func TestWorkloadsDeliverEverything(t *testing.T) {
	for _, scheme := range []string{"tcp", "http"} {
		for name, cfg := range map[string]Config{
			"one at a time": {Workload: Direct, Users: 4},
			"window":        {Workload: Direct, Users: 4, Window: 32, Payload: 300},
			"long payload":  {Workload: Direct, Users: 2, Payload: pim.MaxPayload},
			"rate":          {Workload: Direct, Users: 4, Rate: 2000},
			"warm-up":       {Workload: Direct, Users: 4, Window: 2, Warmup: 20 * time.Millisecond},
		} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				rep := newFake(t, faults{}).run(t, scheme, cfg)
				whole(t, rep, 1)
				if rep.AckP50 <= 0 || rep.DeliveryP999 < rep.DeliveryP50 || rep.DeliveredPerS <= 0 {
					t.Errorf("latencies %+v", rep)
				}
			})
		}
		t.Run(scheme+" group", func(t *testing.T) {
			rep := newFake(t, faults{}).run(t, scheme, Config{Workload: Group, Users: 10, GroupSize: 5, Senders: 3, Window: 4})
			whole(t, rep, 4)
		})
	}
}

// every returns a fault that hits each n-th seq.
func every(n uint64) func(uint64) bool { return func(seq uint64) bool { return seq%n == 0 } }

func pushedTimes(hit func(uint64) bool, times int) func(uint64) int {
	return func(seq uint64) int {
		if hit(seq) {
			return times
		}
		return 1
	}
}

func TestDroppedPushesArePulled(t *testing.T) {
	for name, f := range map[string]faults{
		"in silence": {pushes: pushedTimes(every(3), 0)},
		"and told":   {pushes: pushedTimes(every(3), 0), sayBehind: true},
		"all":        {pushes: func(uint64) int { return 0 }},
		"and twice":  {pushes: pushedTimes(every(3), 0), twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, cfg := range []Config{
				{Workload: Direct, Users: 2, Window: 4},
				{Workload: Group, Users: 4, GroupSize: 4, Window: 2},
			} {
				rep := newFake(t, f).run(t, "tcp", cfg)
				whole(t, rep, map[Workload]uint64{Direct: 1, Group: 3}[cfg.Workload])
				if rep.Pulled == 0 {
					t.Error("nothing was pulled")
				}
			}
		})
	}
}

func TestBrokenServersAreCaught(t *testing.T) {
	for name, c := range map[string]struct {
		faults
		broken string
	}{
		"acknowledged and gone": {faults{forget: every(5)}, "lost"},
		"pushed twice":          {faults{pushes: pushedTimes(every(5), 2)}, "doubled"},
		"pushed out of order":   {faults{hold: every(5)}, "misordered"},
	} {
		t.Run(name, func(t *testing.T) {
			rep := newFake(t, c.faults).run(t, "tcp", Config{
				Workload: Direct, Users: 2, Window: 4,
				drainLimit: 500 * time.Millisecond, // a lost message is waited for that long
			})
			if err := rep.Err(); err == nil || !strings.Contains(err.Error(), c.broken) {
				t.Errorf("got %v, want %s", err, c.broken)
			}
		})
	}
}

func TestRefusedSendsAreNotLost(t *testing.T) {
	n := 0
	refuse := func(uint64) bool { n++; return n%10 == 9 }
	rep := newFake(t, faults{refuse: refuse}).run(t, "tcp", Config{Workload: Direct, Users: 2, Window: 4})
	if rep.Refused == 0 || rep.Err() != nil || rep.Delivered >= rep.Sent {
		t.Errorf("sent %d, delivered %d, refused %d: %v", rep.Sent, rep.Delivered, rep.Refused, rep.Err())
	}
}

// hasSeen returns a Config.enough for a run whose users must send such a frame: the run
// does not end before that.
func (s *fake) hasSeen(frame wire.Type) func(uint64) bool {
	return func(uint64) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.seen[frame] > 0
	}
}

func TestReceiversAcknowledge(t *testing.T) {
	s := newFake(t, faults{})
	// Only one member sends, so the others have nothing to piggyback on.
	rep := s.run(t, "tcp", Config{Workload: Group, Users: 3, GroupSize: 3, Senders: 1, enough: s.hasSeen(wire.TypePushAck)})
	whole(t, rep, 2)
}

func TestIdleConnectionsStayOpen(t *testing.T) {
	s := newFake(t, faults{})
	rep := s.run(t, "http", Config{Workload: Idle, Users: 20, enough: s.hasSeen(wire.TypeTimeReq)})
	s.mu.Lock()
	defer s.mu.Unlock()
	beats := s.seen[wire.TypeTimeReq] // the last frame of a heartbeat
	if s.seen[wire.TypeHello] != 20 || s.seen[wire.TypePing] < beats || s.seen[wire.TypeSyncReq] < 20+beats {
		t.Errorf("frames %v, report %+v", s.seen, rep)
	}
}

func TestSyncGetsAllOnce(t *testing.T) {
	rep := newFake(t, faults{}).run(t, "http", Config{Workload: Sync, Conversations: 7, Messages: 300, Syncs: 25, Duration: time.Minute})
	if rep.Pulled != 300 || rep.Delivered != 300 || rep.Err() != nil {
		t.Errorf("%+v: %v", rep, rep.Err())
	}
	if a := rep.Again; a == nil || a.Syncs != 25 || a.Reconnects != 2 || a.SyncP50 <= 0 || a.SyncP99 < a.SyncP50 || a.SlowestP50 < a.SyncP50 {
		t.Errorf("again: %+v", a)
	}
	if rep.SyncListBytes < rep.SyncFirstPageBytes || rep.SyncListBytes >= rep.SyncBytes || rep.SyncListMS < rep.SyncFirstPageMS {
		t.Errorf("the list: %d bytes, %.3f ms", rep.SyncListBytes, rep.SyncListMS)
	}
	if rep.ReconnectBytes == 0 || rep.ReconnectBytes >= rep.SyncBytes || rep.SyncFirstPageBytes == 0 {
		t.Errorf("bytes: first page %d, all %d, reconnect %d", rep.SyncFirstPageBytes, rep.SyncBytes, rep.ReconnectBytes)
	}
}

// Several devices share the syncs in the end, once each has everything.
func TestSyncOfSeveralDevices(t *testing.T) {
	s := newFake(t, faults{})
	rep := s.run(t, "tcp", Config{Workload: Sync, Conversations: 7, Messages: 300, Syncs: 60, Devices: 3, Duration: time.Minute})
	if a := rep.Again; a == nil || a.Syncs != 60 || rep.Delivered != 300 || rep.Err() != nil {
		t.Errorf("%+v: %+v, %v", rep, a, rep.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Seven senders, the device that was away and its return, two more devices, three connections that sync in the
	// end, and a reconnect for each tenth sync.
	if n := s.seen[wire.TypeHello]; n != 7+2+2+3+6 {
		t.Errorf("%d connections", n)
	}
}

// A conversation whose summary shows all that is new is not pulled.
func TestSyncPullsNoWholeSummary(t *testing.T) {
	s := newFake(t, faults{})
	rep := s.run(t, "tcp", Config{Workload: Sync, Conversations: 7, Messages: 10, Syncs: 1, Duration: time.Minute})
	s.mu.Lock()
	defer s.mu.Unlock()
	if pulls := s.seen[wire.TypePullReq]; rep.Delivered != 10 || rep.Pulled != 6 || pulls != 3 || rep.Err() != nil {
		t.Errorf("%d delivered, %d of them by %d pulls, %v; want 10, 6 of three conversations with two each", rep.Delivered, rep.Pulled, pulls, rep.Err())
	}
}

// A whole entry that is not the next one settles nothing: the conversation is pulled.
func TestSyncNoticesAWrongSummary(t *testing.T) {
	d := &syncer{cfg: &Config{Seed: 5}, streams: map[string]*stream{}}
	summary := func(name string, newest uint64, counter uint32) *wirepb.Summary {
		body := make([]byte, 100)
		st := stamp{run: 5, counter: counter}
		st.put(body)
		return &wirepb.Summary{Conversation: name, Newest: newest, Whole: true, Last: &wirepb.Entry{Seq: newest, Payload: body}}
	}
	stale := summary("stale", 2, 0)
	stale.Last.Seq = 1
	rest, err := d.settle([]*wirepb.Summary{summary("good", 1, 0), summary("ahead", 2, 1), summary("hole", 1, 1), stale})
	if err != nil || len(rest) != 3 || d.sum.got != 1 {
		t.Errorf("%d taken in, %d to be pulled, %v; want 1 and 3", d.sum.got, len(rest), err)
	}
	if _, err := d.settle([]*wirepb.Summary{{Conversation: "strange", Newest: 1, Whole: true, Last: &wirepb.Entry{Seq: 1}}}); err == nil {
		t.Error("an entry of nobody was taken in")
	}
}

func TestRelay(t *testing.T) {
	t.Setenv(relayEnv, "1")
	for _, scheme := range []string{"tcp", "ws"} {
		for _, window := range []int{1, 32} {
			rep := run(t, Config{Workload: Relay, Server: scheme + "://", RelayCommand: []string{os.Args[0]}, Users: 6, Window: window})
			whole(t, rep, 1)
			if rep.ServerRSS == 0 {
				t.Error("the relay's memory is missing")
			}
		}
	}
}

func TestServeRelayEnds(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	addr, done := make(chan string), make(chan error)
	go func() { done <- ServeRelay(ctx, "127.0.0.1:0", func(a string) { addr <- a }) }()
	a := <-addr
	whole(t, run(t, Config{Workload: Relay, Server: "tcp://" + a, Users: 2}), 1)
	alone, err := dialRelay(ctx, "ws://"+a, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer alone.nc.Close()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// If the server goes away in the middle of a run, the run ends with an error that says
// so. The error does not look like that of a server that was never there.
func TestEndOfTheServerEndsTheRun(t *testing.T) {
	for _, cfg := range []Config{
		{Workload: Direct, Users: 4, Duration: time.Hour},
		{Workload: Direct, Users: 4, Duration: time.Hour, OneWay: true, Rate: 10, MetricsURL: "-"},
		{Workload: Idle, Users: 4, Duration: time.Hour},
		{Workload: Fill, Users: 4, Messages: maxMessages},
		{Workload: Sync, Conversations: 2, Messages: maxMessages},
	} {
		s := newFake(t, faults{})
		cfg.Server, cfg.Token = "http://"+s.web.Listener.Addr().String(), tokenOf
		ended := make(chan struct{})
		sent, pinged := s.hasSeen(wire.TypeSendReq), s.hasSeen(wire.TypePing)
		go func() { // all users are connected when the first one sends something
			defer close(ended)
			for !sent(0) && !pinged(0) {
				time.Sleep(time.Millisecond)
			}
			s.close()
		}()
		_, err := Run(context.Background(), cfg)
		<-ended
		if pim.KindOf(err) != pim.KindUnavailable || !strings.Contains(err.Error(), "the server went away") || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", cfg.Workload, err)
		}
	}
}

// A run in which nothing was sent, or sends were not answered, shows nothing, and says so.
func TestIncompleteRuns(t *testing.T) {
	for name, c := range map[string]struct {
		rep  Report
		want pim.Kind
	}{
		"whole":      {Report{Workload: Direct, Sent: 3}, 0},
		"idle":       {Report{Workload: Idle}, 0},
		"shrunk":     {Report{Workload: Idle, BytesPerConnection: -1}, pim.KindInvalid},
		"nothing":    {Report{Workload: Direct}, pim.KindInvalid},
		"unanswered": {Report{Workload: Direct, Sent: 3, Unacked: 1}, pim.KindTimeout},
	} {
		err := c.rep.Incomplete()
		if (err == nil) != (c.want == 0) || err != nil && pim.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	rep := newFake(t, faults{}).run(t, "tcp", Config{Workload: Direct, Users: 2, Rate: 0.001, enough: func(uint64) bool { return true }})
	if err := rep.Incomplete(); err == nil || rep.Err() != nil {
		t.Errorf("%+v: %v", rep, err)
	}
}

// If there are no metrics at a URL that is not the server's, the error names --metrics:
// the server itself may be running.
func TestMetricsApart(t *testing.T) {
	s := newFake(t, faults{})
	cfg := Config{Workload: Direct, Users: 2, Server: "tcp://" + s.tcp.Addr().String(), MetricsURL: "http://127.0.0.1:1/metrics", Token: tokenOf}
	_, err := Run(t.Context(), cfg)
	if pim.KindOf(err) != pim.KindUnavailable || errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "--metrics") {
		t.Error(err)
	}
	cfg.Server = "tcp://127.0.0.1:2" // no server either: then the error is about the server
	if _, err := Run(t.Context(), cfg); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

func TestConfigsThatCannotRun(t *testing.T) {
	for want, cfg := range map[string]Config{
		"workload":                 {Workload: "all"},
		"https":                    {Workload: Direct, Server: "https://x"},
		"even":                     {Workload: Direct, Server: "tcp://x:1", Users: 3},
		"processes":                {Workload: Idle, Server: "tcp://x:1", Users: MaxUsers + 1},
		"payload":                  {Workload: Direct, Server: "tcp://x:1", Payload: 10},
		"a multiple of the group":  {Workload: Group, Server: "tcp://x:1", Users: 10, GroupSize: 3},
		"a group has 2":            {Workload: Group, Server: "tcp://x:1", GroupSize: 3000},
		"4 senders in a group of":  {Workload: Group, Server: "tcp://x:1", Users: 3, GroupSize: 3, Senders: 4},
		"rate of NaN":              {Workload: Direct, Server: "tcp://x:1", Rate: math.NaN()},
		"at most 100000000":        {Workload: Direct, Server: "tcp://x:1", Rate: 2 * maxRate},
		"window of -1":             {Workload: Direct, Server: "tcp://x:1", Window: -1},
		"tokens":                   {Workload: Direct, Server: "tcp://x:1"},
		"has no port":              {Workload: Direct, Server: "tcp://x"},
		"has no host":              {Workload: Direct, Server: "http://:7400"},
		"metrics page":             {Workload: Direct, Server: "tcp://x:1", MetricsURL: "x:1/metrics"},
		"slices of":                {Workload: Direct, Server: "tcp://x:1", Slice: -1},
		"holds 10000 at most":      {Workload: Direct, Server: "tcp://x:1", Duration: time.Hour, Slice: time.Millisecond},
		"must be 2 to 4":           {Workload: Direct, Server: "tcp://x:1", Users: 4, Conversations: 6},
		"a multiple of 2":          {Workload: Fill, Server: "tcp://x:1", Users: 4, Conversations: 3},
		"the seed of":              {Workload: Cold, Server: "tcp://x:1"},
		"each conversation needs":  {Workload: Fill, Server: "tcp://x:1", Users: 4, Messages: 1},
		"through the relay":        {Workload: Relay, Server: "tcp://x:1", Users: 4, Conversations: 4},
		"1 to 1000000":             {Workload: Sync, Server: "tcp://x:1", Syncs: -1},
		"1 to 64":                  {Workload: Sync, Server: "tcp://x:1", Devices: 65},
		"1 to 1000000000":          {Workload: Fill, Server: "tcp://x:1", Messages: math.MaxInt},
		"one-way":                  {Workload: Group, Server: "tcp://x:1", OneWay: true},
		"1 messages in 1000":       {Workload: Sync, Server: "tcp://x:1", Messages: 1},
		"99 messages in 100 conve": {Workload: Sync, Server: "tcp://x:1", Messages: 99, Conversations: 100},
	} {
		_, err := Run(context.Background(), cfg)
		if pim.KindOf(err) != pim.KindInvalid || want != "processes" && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
