// Weaknet measures a chat over a weak network of real packets, see package weak,
// and prints what came of it. It fails if a message was lost, doubled, misordered
// or late.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"
	"github.com/pim-im/pim/imtest/weak"
)

type cli struct {
	Profile    string        `enum:"rtt,oneway" default:"rtt" help:"rtt: 350 ± 150 ms is the round trip, as in the article. oneway: it is one way, so 700 ± 300 there and back."`
	Delay      time.Duration `placeholder:"D" help:"One way, in place of the profile's."`
	Jitter     time.Duration `placeholder:"D" help:"One way, in place of the profile's."`
	Loss       float64       `default:"7" placeholder:"PERCENT" help:"Packets lost, each way."`
	Reorder    float64       `default:"20" placeholder:"PERCENT" help:"Packets that come late, each way."`
	Late       time.Duration `default:"100ms" placeholder:"D" help:"By up to how much."`
	Rate       int           `placeholder:"BYTES" help:"Bytes a second, each way, for all users together; 0: no limit."`
	CutEvery   time.Duration `default:"30s" placeholder:"D" help:"From one cut to the next; 0: none."`
	CutFor     time.Duration `default:"5s" placeholder:"D" help:"How long a cut lasts."`
	Handover   bool          `help:"In each cut the users' address changes: all connections are dead, and nobody is told."`
	Tell       bool          `help:"After each cut the apps are told that the network has changed, as phones do."`
	Background bool          `help:"The apps are in the background, where heartbeats are minutes apart: who sends nothing may notice a dead connection only then."`
	Users      int           `default:"20" placeholder:"N" help:"In pairs, and all of them in one group."`
	Messages   float64       `default:"10" placeholder:"R" help:"Messages a second, over all users."`
	Duration   time.Duration `default:"3m" placeholder:"D" help:"Of the sending."`
	Within     time.Duration `default:"180s" placeholder:"D" help:"Time for a message to reach everyone."`
	Transport  string        `enum:"mixed,tls,https,quic" default:"mixed" help:"What everybody uses. mixed: half WebSocket, half TCP, without TLS."`
	Seed       uint64        `default:"1" placeholder:"N" help:"Of the packets' fate and of who sends."`
	JSON       bool          `name:"json" help:"Print one JSON object."`
}

func (c *cli) config() weak.Config {
	w := weak.Defaults()
	if c.Profile == "oneway" {
		w.Path.Delay, w.Path.Jitter = 350*time.Millisecond, 150*time.Millisecond
	}
	if c.Delay > 0 {
		w.Path.Delay, w.Path.Jitter = c.Delay, 0
	}
	if c.Jitter > 0 {
		w.Path.Jitter = c.Jitter
	}
	w.Path.Loss, w.Path.Reorder, w.Path.Late, w.Path.Rate = c.Loss/100, c.Reorder/100, c.Late, c.Rate
	w.CutEvery, w.CutFor, w.Handover, w.Tell = c.CutEvery, c.CutFor, c.Handover, c.Tell
	w.Background = c.Background
	w.Users, w.Rate, w.Duration, w.Within, w.Seed = c.Users, c.Messages, c.Duration, c.Within, c.Seed
	if c.Transport != "mixed" {
		w.Transport = c.Transport
	}
	w.Progress = os.Stderr
	return w
}

func main() {
	var c cli
	kong.Parse(&c, kong.Name("weaknet"), kong.Description("A chat over a weak network of real packets, measured. Needs root and /dev/net/tun."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := weak.Run(ctx, c.config())
	if err == nil {
		if c.JSON {
			err = json.NewEncoder(os.Stdout).Encode(report)
		} else {
			err = report.Print(os.Stdout)
		}
	}
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "weaknet:", err)
		os.Exit(1)
	}
}
