// Command measure offers a real server half to ten times what it can take, with shedding and without, and prints what
// became of it as a table in Markdown. The server's store takes so many entries a second
// (overload.Slow), few enough that the generator beside it has CPU left for ten times as many.
//
//	go run ./imtest/overload/measure -svg overload.svg
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest/chart"
	"github.com/pim-im/pim/imtest/load"
	"github.com/pim-im/pim/imtest/overload"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

type options struct {
	capacity float64
	users    int
	duration time.Duration
	warmUp   time.Duration
	svg      string
}

func main() {
	var o options
	flag.Float64Var(&o.capacity, "capacity", 2000, "entries a second that the store takes")
	flag.IntVar(&o.users, "users", 1000, "connections, half of which send")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "measured time of each load")
	flag.DurationVar(&o.warmUp, "warmup", 5*time.Second, "time before it")
	flag.StringVar(&o.svg, "svg", "", "file for a picture")
	serves := flag.String("serve", "", "internal: be the server, with the shed-target")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *serves != "" {
		err = serve(ctx, o.capacity, *serves, os.Stdout)
	} else {
		err = measure(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

// place is where a server is, and where its keys are.
type place struct{ HTTP, TCP, Keys string }

// serve serves until the context ends. It writes a place to out when it does.
func serve(ctx context.Context, capacity float64, target string, out io.Writer) error {
	shed, err := time.ParseDuration(target)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pim-overload-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := server.Defaults()
	c.Consent = false // people here are strangers
	c.Data, c.Listen, c.ListenTCP, c.DrainWindow, c.ShutdownTimeout = dir, "127.0.0.1:0", "127.0.0.1:0", 0, time.Second
	c.ShedTarget = shed
	var slow *overload.Slow
	s, err := server.New(c, server.Options{
		Logger: slog.New(slog.DiscardHandler),
		WrapStore: func(st store.Store) store.Store {
			slow = overload.NewSlow(st, capacity)
			return slow
		},
	})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(place{s.Addr(), s.TCPAddr(), c.KeysPath()}); err != nil {
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.Shutdown(end)
}

// times are the loads, in times what the store takes.
var times = []float64{0.5, 1, 2, 5, 10}

func measure(ctx context.Context, o options, out io.Writer) error {
	curves := make([][]load.Report, 2)
	fmt.Fprintf(out, "| offered, times | with shedding: delivered/s | refused/s | p50, ms | p99, ms | without: delivered/s | refused or not sent/s | p50, ms | p99, ms |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, n := range times {
		fmt.Fprintf(out, "| %g ", n)
		for i, target := range []string{"20ms", "0s"} {
			r, err := one(ctx, o, n, target)
			if err != nil {
				return err
			}
			curves[i] = append(curves[i], r)
			fmt.Fprintf(out, "| %.0f | %.0f | %.0f | %.0f ", r.DeliveredPerS, r.RefusedPerS+r.SkippedPerS, r.AckP50, r.AckP99)
		}
		fmt.Fprintln(out, "|")
	}
	if o.svg == "" {
		return nil
	}
	return draw(o.svg, curves)
}

// one measures one load on a server of its own.
func one(ctx context.Context, o options, times float64, target string) (r load.Report, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, "-serve", target, "-capacity", fmt.Sprint(o.capacity))
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	defer func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}()
	var p place
	if err := json.NewDecoder(bufio.NewReader(said)).Decode(&p); err != nil {
		return r, err
	}
	keys, err := account.LoadKeys(p.Keys)
	if err != nil {
		return r, err
	}
	r, err = load.Run(ctx, load.Config{
		Workload: load.Direct, OneWay: true, Server: "tcp://" + p.TCP, MetricsURL: "http://" + p.HTTP + "/metrics",
		Users: o.users, Rate: times * o.capacity, Insist: true, Duration: o.duration, Warmup: o.warmUp,
		Token: func(u pim.UserID) (string, error) { return keys.Issue(u, time.Hour, time.Now()) },
	})
	return r, errors.Join(err, r.Err())
}

// draw draws goodput and p99 over the load, as a picture.
func draw(file string, curves [][]load.Report) error {
	last := math.Log2(times[len(times)-1] / times[0])
	x := func(n float64) float64 { return math.Log2(n/times[0]) / last }
	p := chart.Picture{Label: "Deliveries and latency over the offered load, with shedding and without", Keys: []string{"with shedding", "without"}, Unit: "offered load, times what the node can take"}
	for _, n := range []float64{0.5, 1, 2, 5, 10} {
		p.Ticks = append(p.Ticks, chart.Tick{X: x(n), Text: fmt.Sprint(n)})
	}
	for _, panel := range []struct {
		title string
		y     func(load.Report) float64
	}{
		{"delivered, messages/s", func(r load.Report) float64 { return r.DeliveredPerS }},
		{"p99 of what was accepted, s", func(r load.Report) float64 { return r.AckP99 / 1000 }},
	} {
		var lines [][]chart.Point
		for _, curve := range curves {
			var line []chart.Point
			for i, r := range curve {
				line = append(line, chart.Point{X: x(times[i]), Y: panel.y(r)})
			}
			lines = append(lines, line)
		}
		p.Panels = append(p.Panels, chart.Panel{Title: panel.title, Lines: lines})
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	p.Draw(w)
	return errors.Join(w.Flush(), f.Close())
}
