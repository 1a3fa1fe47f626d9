package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/load"
)

type benchCmd struct {
	keyFlags
	inTheClear
	Workload load.Workload `arg:"" enum:"direct,group,idle,sync,fill,cold,relay" help:"direct: pairs send to each other. group: members send to all others. idle: silent connections, to a server that was just started. sync: one user with a long offline list. fill: write many messages. cold: after a fill and a restart of the server, the first message into each conversation. relay: direct through a relay without storage or logic, the floor."`

	Server  string `name:"server" env:"PIM_SERVER" default:"${server}" placeholder:"URL" help:"Server to measure: http:// for WebSocket, tcp:// for raw TCP."`
	Metrics string `name:"metrics" placeholder:"URL" help:"Its Prometheus page, if it is not /metrics beside it; - for none."`

	Users    int           `name:"users" of:"direct,group,idle,fill,cold,relay" placeholder:"N" help:"Connections (default 1000; group 200, idle 10000, fill and cold 100)."`
	Window   int           `name:"window" of:"direct,group,fill,cold,relay" placeholder:"W" help:"Closed loop: messages that each user keeps without an answer (default 1; fill 64)."`
	Rate     float64       `name:"rate" of:"direct,group,fill,cold,relay" placeholder:"R" help:"Fixed rate instead: messages a second over all users."`
	Insist   bool          `name:"insist" of:"direct,group" help:"Keep the rate whatever the server answers: what it refuses is not sent again, and what it does not answer is not waited for. Shows what becomes of an overload."`
	Payload  int           `name:"payload" of:"direct,group,sync,fill,cold,relay" default:"100" placeholder:"BYTES" help:"Size of a message."`
	Duration time.Duration `name:"duration" of:"direct,group,idle,sync,relay" default:"20s" placeholder:"DURATION" help:"Measured time. (fill and cold end when all their messages are delivered.)"`
	Slice    time.Duration `name:"slice" of:"direct,group,fill,cold,relay" placeholder:"DURATION" help:"Parts of the measured time that are reported one by one (default a tenth of --duration, at least 1s)."`
	Warmup   time.Duration `name:"warmup" of:"direct,group,sync,relay" default:"2s" placeholder:"DURATION" help:"Time before it that is not counted; 0s for none."`

	OneWay        bool   `name:"one-way" of:"direct,relay" help:"direct, relay: half of the users send, the others acknowledge by themselves, at most every 200 ms."`
	GroupSize     int    `name:"group-size" of:"group" placeholder:"N" help:"group: members of one group (default 200)."`
	Senders       int    `name:"senders" of:"group" placeholder:"N" help:"group: members of one group who send (default all)."`
	Conversations int    `name:"conversations" of:"direct,sync,fill,cold" placeholder:"N" help:"sync: conversations with offline messages (default 1000). direct, fill, cold: conversations over all users, who send into theirs in turn (default one a pair)."`
	Messages      int    `name:"messages" of:"sync,fill" placeholder:"N" help:"sync, fill: messages over all conversations (default 100000)."`
	Syncs         int    `name:"syncs" of:"sync" placeholder:"N" help:"sync: how often it syncs with nothing new in the end, for at most the measured time (default 10000)."`
	Devices       int    `name:"devices" of:"sync" placeholder:"N" help:"sync: devices of the user that do so at the same time (default 1)."`
	Seed          uint64 `name:"seed" of:"direct,group,idle,sync,fill,cold" placeholder:"N" help:"Names the users. Each run needs a seed of its own (default random); cold takes that of the fill."`

	JSON    bool `name:"json" help:"Print one JSON object."`
	Verbose bool `name:"verbose" short:"v" help:"Log progress to standard error."`
}

// benchTokenTTL is how much longer than the measured time the users' tokens live. What
// comes before and after the measured time takes less.
const benchTokenTTL = 24 * time.Hour

// AfterApply refuses flags on the command line that the workload would not heed, and
// numbers that the load generator would take for "not given". The configuration file
// may have settings of other workloads, since one file serves all commands.
func (c *benchCmd) AfterApply(ctx *kong.Context) error {
	var loops []string
	for _, p := range ctx.Path {
		if p.Flag == nil || p.Flag.Tag.Get("of") == "" {
			continue
		}
		if err := c.heeds(p.Flag, p.Resolved); err != nil {
			return err
		}
		if name := p.Flag.Name; !p.Resolved && (name == "window" || name == "rate") && !slices.Contains(loops, name) {
			loops = append(loops, name)
		}
	}
	if len(loops) == 2 {
		return pim.Errorf(pim.KindInvalid, "--window and --rate are two ways to send; give one")
	}
	return nil
}

// heeds returns an error if the workload does not heed the flag, or if the flag's number
// makes no sense, see AfterApply.
func (c *benchCmd) heeds(f *kong.Flag, fromFile bool) error {
	workloads := strings.Split(f.Tag.Get("of"), ",")
	if !fromFile && !slices.Contains(workloads, string(c.Workload)) {
		return pim.Errorf(pim.KindInvalid, "--%s is not for %s, only for %s", f.Name, c.Workload, strings.Join(workloads, ", "))
	}
	if f.IsBool() {
		return nil
	}
	v, least := f.Target, "more than 0"
	negative := v.CanInt() && v.Int() < 0 || v.CanFloat() && !(v.Float() >= 0)
	zero := v.IsZero()
	if f.Name == "warmup" {
		zero, least = false, "0s or more"
	}
	if negative || zero {
		return pim.Errorf(pim.KindInvalid, "--%s %v: it must be %s", f.Name, v.Interface(), least)
	}
	return nil
}

// Run measures and prints the report.
func (c *benchCmd) Run(ctx context.Context, s streams) error {
	cfg := load.Config{
		Workload: c.Workload, Server: c.Server, MetricsURL: c.Metrics,
		Users: c.Users, Window: c.Window, Rate: c.Rate, Insist: c.Insist,
		Payload: c.Payload, Duration: c.Duration, Warmup: c.Warmup, Slice: c.Slice, OneWay: c.OneWay,
		GroupSize: c.GroupSize, Senders: c.Senders,
		Conversations: c.Conversations, Messages: c.Messages, Syncs: c.Syncs, Devices: c.Devices, Seed: c.Seed,
	}
	if c.Warmup == 0 {
		cfg.Warmup = -1 // 0 would stand for the default
	}
	if c.Verbose {
		cfg.Log = newLogger("info", "text", s.err)
	}
	if err := c.connect(&cfg); err != nil {
		return err
	}
	report, err := load.Run(ctx, cfg)
	if err != nil {
		return c.ownTokenHint(err, c.Server)
	}
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(report)
	} else {
		err = printBench(s.out, &report)
	}
	if broken := report.Err(); broken != nil {
		return errors.Join(errBroken, broken, err)
	}
	return errors.Join(report.Incomplete(), err)
}

// connect sets how the users get in: with tokens or, for the relay, into a process of
// this program that load.Run starts.
func (c *benchCmd) connect(cfg *load.Config) error {
	if c.Workload == load.Relay {
		self, err := os.Executable()
		if err != nil {
			return pim.Errorf(pim.KindUnavailable, "this program does not find itself to start the relay: %w", err)
		}
		cfg.Server, cfg.MetricsURL = "tcp://", "-"
		cfg.RelayCommand = []string{self, "relay"}
		return nil
	}
	if err := c.guard(c.Server); err != nil {
		return err
	}
	keys, err := c.load()
	if err != nil {
		return err
	}
	cfg.Token = func(user pim.UserID) (string, error) { return keys.Issue(user, cfg.Duration+benchTokenTTL, time.Now()) }
	return nil
}

// printBench prints for people the part of a report that the workload is about.
func printBench(w io.Writer, r *load.Report) error {
	p := &printer{w: w}
	switch r.Workload {
	case load.Sync:
		p.printf("sync: %d messages in %d conversations, %.1f s\n", r.Delivered, r.Conversations, r.Seconds)
		p.printf("  first page  %d bytes, %.1f ms\n", r.SyncFirstPageBytes, r.SyncFirstPageMS)
		p.printf("  list        %d bytes, %.1f ms\n", r.SyncListBytes, r.SyncListMS)
		p.printf("  everything  %d bytes, %.1f ms\n", r.SyncBytes, r.SyncMS)
		p.printf("  reconnect   %d bytes, %.1f ms, with nothing new; %.3f CPU ms each of %d\n", r.ReconnectBytes, r.ReconnectMS, r.ReconnectCPU, r.Reconnects)
		p.printf("  sync again  p50 %.2f ms, %.2f in the slowest tenth, p99 %.2f, %.3f CPU ms each of %d, %.3f in the dearest tenth\n",
			r.SyncP50, r.Again.SlowestP50, r.SyncP99, r.SyncCPU, r.Syncs, r.Again.DearestCPU)
	case load.Idle:
		p.printf("idle: %d connections, opened in %.1f s, held for %.1f s\n", r.Users, r.ConnectSeconds, r.Seconds)
		if r.ServerRSS > 0 {
			p.printf("  server      RSS %.1f MiB, %.0f bytes a connection\n", float64(r.ServerRSS)/(1<<20), r.BytesPerConnection)
			printCurve(p, r)
		}
	default:
		printLoad(p, r)
	}
	if r.TurnedAway > 0 {
		p.printf("  connecting  %d were refused, or ended at once, and came again\n", r.TurnedAway)
	}
	p.printf("  lost %d, doubled %d, misordered %d, refused %d, unanswered %d\n", r.Lost, r.Doubled, r.Misordered, r.Refused, r.Unacked)
	return p.err
}

// printCurve prints how an idle server's memory developed and what its connections cost
// meanwhile, if the run was long enough to have a curve.
func printCurve(p *printer, r *load.Report) {
	if len(r.MemoryCurve) == 0 {
		return
	}
	for _, at := range r.MemoryCurve {
		after := time.Duration(at.Seconds * float64(time.Second)).Round(time.Second)
		p.printf("  after %5s %.0f bytes a connection\n", after, at.BytesPerConnection)
	}
	p.printf("  highest     %.0f bytes a connection\n", r.MaxBytesPerConnection)
	p.printf("  CPU         %.3f ms a connection and minute\n", r.ServerCPUTotal*1000/float64(r.Users)/(r.Seconds/60))
}

func printLoad(p *printer, r *load.Report) {
	loop := fmt.Sprintf("window %d", r.Window)
	if r.Rate > 0 {
		loop = fmt.Sprintf("%g/s", r.Rate)
	}
	p.printf("%s: %d users, %s, %d bytes, %.1f s\n", r.Workload, r.Users, loop, r.Payload, r.Seconds)
	if r.FirstMessages != nil {
		p.printf("  first       %.3f CPU ms each, %d loads; ack p50 %.2f ms, p99 %.2f ms\n", r.FirstCPU, r.Loads, r.AckP50, r.AckP99)
		if r.Loads == 0 && r.ServerRSS > 0 {
			p.printf("              (nothing was cold: restart the server between the fill and this)\n")
		}
		p.printf("  second      %.3f CPU ms each, %d loads; ack p50 %.2f ms, p99 %.2f ms\n", r.SecondCPU, r.LoadsAgain, r.SecondAckP50, r.SecondAckP99)
	}
	counted := "deliveries"
	if r.Workload == load.Fill { // nobody receives
		counted = "messages"
		p.printf("  sent        %d (%.0f/s)\n", r.Sent, r.DeliveredPerS)
	} else {
		p.printf("  sent        %d, delivered %d (%.0f/s)\n", r.Sent, r.Delivered, r.DeliveredPerS)
	}
	p.printf("  ack         p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms\n", r.AckP50, r.AckP99, r.AckP999)
	if r.Workload != load.Fill {
		p.printf("  delivery    p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms\n", r.DeliveryP50, r.DeliveryP99, r.DeliveryP999)
	}
	if r.Insist {
		p.printf("  offered     %.0f/s: refused %.0f/s, not sent because too many had no answer %.0f/s\n", r.OfferedPerS, r.RefusedPerS, r.SkippedPerS)
	}
	measured := r.ServerRSS > 0
	if len(r.Slices) > 0 {
		p.printf("  slices      %d of %.1f s, the slowest %.0f/s", len(r.Slices), r.Slices[0].Seconds, r.SlowestPerS)
		if measured {
			p.printf(", the dearest %.4f CPU s per 1,000", r.DearestCPU)
		}
		p.printf("\n")
	}
	if measured {
		p.printf("  server      %.4f CPU s per 1,000 %s, RSS %.1f MiB\n", r.ServerCPU, counted, float64(r.ServerRSS)/(1<<20))
	}
}

// relayCmd is the command of the process that `pim bench relay` starts.
type relayCmd struct{}

// Run serves a relay on a free port, whose address it prints, until ctx ends.
func (relayCmd) Run(ctx context.Context, s streams) error {
	return load.ServeRelay(ctx, "127.0.0.1:0", func(addr string) { fmt.Fprintln(s.out, addr) })
}
