package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/imtest/replay"
)

type replayCmd struct {
	keyFlags
	inTheClear
	File      string        `arg:"" placeholder:"FILE.jsonl" help:"Recorded chat, one event a line: at (milliseconds), kind (message, join, leave, rename), user, text, to."`
	Lurkers   int           `name:"lurkers" placeholder:"N" help:"Silent members besides the speakers."`
	Readers   int           `name:"readers" placeholder:"N" help:"Members who read, mark as unread, react, erase what they have written, give receipts no longer and again, and go offline, on two devices each, while messages are edited and recalled. Unread counts, mentions, receipts and displayed messages are compared with a model's."`
	Seed      uint64        `name:"seed" placeholder:"SEED" help:"Decides what the readers do (default: a random one)."`
	Speed     float64       `name:"speed" placeholder:"X" help:"Times as fast as the recording; 0 is as fast as possible."`
	Server    string        `name:"server" placeholder:"URL" help:"Running server to play through. Without it one is started on free ports, with a fresh data directory and its own key."`
	TCP       bool          `name:"tcp" help:"Raw TCP to the server that is started, instead of WebSocket."`
	KillEvery time.Duration `name:"kill-server-every" placeholder:"DURATION" help:"Kill the server that was started with SIGKILL this often, and start it again on its data."`
	JSON      bool          `name:"json" help:"Print one JSON object."`
	Verbose   bool          `name:"verbose" short:"v" help:"Log what the clients do to standard error."`
}

// Run plays, checks and prints the report.
func (c *replayCmd) Run(ctx context.Context, s streams) error {
	cfg := replay.Config{
		File: c.File, Lurkers: c.Lurkers, Readers: c.Readers, Seed: c.Seed, Speed: c.Speed,
		Server: c.Server, TCP: c.TCP, KillEvery: c.KillEvery,
	}
	if err := c.connect(&cfg); err != nil {
		return err
	}
	if c.Verbose {
		cfg.Logger = newLogger("debug", "text", s.err)
	}
	p := progressOn(s.err, c.Verbose)
	cfg.Progress, cfg.ProgressEvery = p, p.every
	report, err := replay.Run(ctx, cfg)
	p.end()
	if err != nil {
		return c.ownTokenHint(err, c.Server)
	}
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(report)
	} else {
		err = printReplay(s.out, &report)
	}
	if broken := report.Err(); broken != nil {
		err = errors.Join(errBroken, broken, err)
	}
	return err
}

// connect sets which server to play through, and how the users get in.
func (c *replayCmd) connect(cfg *replay.Config) error {
	switch {
	case c.Server == "":
		self, err := os.Executable()
		if err != nil {
			return pim.Errorf(pim.KindUnavailable, "this program does not find itself to start a server: %w", err)
		}
		cfg.ServerCommand = []string{self, "serve", "--no-consent"}
		return nil
	case c.TCP:
		return pim.Errorf(pim.KindInvalid, "--tcp is for the server that replay starts; with --server write tcp://HOST:PORT")
	case c.KillEvery != 0:
		return pim.Errorf(pim.KindInvalid, "--kill-server-every is for the server that replay starts; leave out --server")
	}
	if err := c.guard(c.Server); err != nil {
		return err
	}
	cfg.Insecure = c.Insecure
	keys, err := c.load()
	if err != nil {
		return err
	}
	cfg.Token = func(user pim.UserID) (string, error) { return keys.Issue(user, benchTokenTTL, time.Now()) }
	return nil
}

// printReplay prints a report for people.
func printReplay(w io.Writer, r *replay.Report) error {
	p := &printer{w: w}
	p.printf("%d messages in %.1f s through %s", r.Messages, r.Seconds, r.Conversation)
	if r.Kills > 0 {
		p.printf(", the server killed %s", times(r.Kills))
	}
	p.printf("\n  deliveries  %d of %d\n", r.Deliveries, r.ExpectedDeliveries)
	p.printf("  ack         p50 %.2f ms, p99 %.2f ms\n", r.AckP50, r.AckP99)
	p.printf("  delivery    p50 %.2f ms, p99 %.2f ms\n", r.DeliveryP50, r.DeliveryP99)
	if d := r.Reading; d != nil {
		p.printf("  %d readers did %d reads, %d marks as unread, %d edits, %d recalls, %d erases, %d reactions, %d switches of receipts; %d came too late; a device was offline %s; seed %d\n",
			d.Readers, d.Reads, d.Unreads, d.Edits, d.Recalls, d.Erases, d.Reactions, d.Switches, d.Refused, times(d.Offline), d.Seed)
		p.printf("  compared at %d moments of quiet: unread of a device %s (%d mentions), displayed messages %d, by how many read %d, by whom %d; different %d\n",
			d.Quiets, times(d.Counts), d.Mentions, d.Displayed, d.Receipts, d.Named, d.Different)
	}
	p.printf("  lost %d, doubled %d, misordered %d\n", r.Lost, r.Doubled, r.Misordered)
	for _, f := range r.Findings {
		p.printf("    %s\n", chat.Printable(f))
	}
	return p.err
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
