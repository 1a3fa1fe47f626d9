package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/avalanche"
)

// simAvalancheCmd plays the death of sites, once for each policy.
type simAvalancheCmd struct {
	Clients   int           `name:"clients" default:"1000000" placeholder:"N" help:"Clients that are connected at the beginning."`
	Cohort    int           `name:"cohort" default:"1" placeholder:"N" help:"How many of them do all at the same time, as one. From 10 million clients on, more than 1."`
	Sites     int           `name:"sites" default:"5" placeholder:"N" help:"Sites, 2 to 16."`
	Policy    []string      `name:"policy" enum:"nothing,jitter,lbs,both" default:"nothing,jitter,lbs,both" help:"What to play: clients that come back every second (nothing), that wait for random times (jitter), that ask an LBS (lbs), or both."`
	Admission bool          `name:"admission" negatable:"" default:"true" help:"Sites refuse what is above their capacity and their accept rate."`
	Capacity  int           `name:"capacity" placeholder:"N" help:"Connections that a site takes; by default half as many more than it has."`
	Accept    int           `name:"accept" placeholder:"N" help:"New connections that a site takes in a second; by default a 200th of those that it has."`
	LBS       int           `name:"lbs" default:"3" placeholder:"N" help:"Sites that have an LBS, the first ones."`
	Questions int           `name:"questions" placeholder:"N" help:"Questions that an LBS takes in a second; by default a 25th of the connections of a site."`
	Dies      []string      `name:"dies" default:"0@30s-4m" placeholder:"SITE@FROM-TO" help:"Sites that go dark, when, and when they start again, if they do."`
	LBSAway   string        `name:"lbs-away" placeholder:"FROM-TO" help:"When no LBS answers."`
	Old       float64       `name:"old" placeholder:"PART" help:"The part of the clients that are of an old version: they know no LBS, and heed no time that they are told."`
	Cold      float64       `name:"cold" default:"3" placeholder:"TIMES" help:"How many times as much a login costs in the first minute after a site has started."`
	Window    time.Duration `name:"window" default:"1s" placeholder:"DURATION" help:"Within which clients come back that have lost a good connection, unless they know better."`
	For       time.Duration `name:"for" default:"5m" placeholder:"DURATION" help:"How long the run is, in its own time."`
	Seed      uint64        `name:"seed" default:"1" placeholder:"SEED" help:"Decides all that is random."`
	SVG       string        `name:"svg" placeholder:"FILE" help:"Draw a picture, too: the policies beside each other, or of a single one its sites."`
	JSON      bool          `name:"json" help:"Print one JSON object for each run, with what happened in each second."`
}

// Run plays and prints.
func (c *simAvalancheCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	// Engines are many, live long, and are all that there is.
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	if !c.JSON {
		if err := avalancheHead(s.out); err != nil {
			return err
		}
	}
	out := json.NewEncoder(s.out)
	var runs []*avalanche.Report
	for _, name := range c.Policy {
		cfg.Policy.Jitter, cfg.Policy.LBS = name == "jitter" || name == "both", name == "lbs" || name == "both"
		r, err := avalanche.Run(ctx, cfg)
		switch {
		case err != nil:
			return err
		case c.JSON:
			err = out.Encode(r)
		default:
			err = avalancheLine(s.out, r)
		}
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	if c.SVG == "" {
		return nil
	}
	return draw(c.SVG, func(w io.Writer) {
		if len(runs) == 1 {
			avalanche.DrawSites(w, runs[0])
			return
		}
		avalanche.Draw(w, c.Policy[:min(len(runs), avalanche.MaxLines)], runs[:min(len(runs), avalanche.MaxLines)])
	})
}

// config returns what the flags say.
func (c *simAvalancheCmd) config() (avalanche.Config, error) {
	cfg := avalanche.Defaults(c.Clients, c.Sites)
	cfg.Cohort, cfg.Seed, cfg.For, cfg.Balancers = c.Cohort, c.Seed, c.For, min(c.LBS, c.Sites)
	cfg.Old, cfg.Cold, cfg.Window, cfg.Policy.Admission = c.Old, c.Cold, c.Window, c.Admission
	for _, set := range []struct {
		to   *int
		flag int
	}{{&cfg.Capacity, c.Capacity}, {&cfg.Accept, c.Accept}, {&cfg.Questions, c.Questions}} {
		if set.flag != 0 {
			*set.to = set.flag
		}
	}
	var err error
	if c.LBSAway != "" {
		if cfg.AwayFrom, cfg.AwayTo, err = span(c.LBSAway); err != nil {
			return cfg, err
		}
	}
	cfg.Deaths = nil
	for _, text := range c.Dies {
		site, when, _ := strings.Cut(text, "@")
		d := avalanche.Death{}
		if d.Site, err = strconv.Atoi(site); err == nil {
			d.At, d.Back, err = span(when)
		}
		if err != nil {
			return cfg, pim.Errorf(pim.KindInvalid, "%q is not as 0@30s-4m: a site, when it dies, and when it starts again", text)
		}
		cfg.Deaths = append(cfg.Deaths, d)
	}
	return cfg, nil
}

// span reads two times with a dash between them; without the second one, that is 0.
func span(text string) (from, to time.Duration, err error) {
	first, second, both := strings.Cut(text, "-")
	if from, err = time.ParseDuration(first); err == nil && both {
		to, err = time.ParseDuration(second)
	}
	if err != nil {
		err = pim.Errorf(pim.KindInvalid, "%q is not as 30s-4m", text)
	}
	return from, to, err
}

// avalancheHead prints the head of the table.
func avalancheHead(w io.Writer) error {
	_, err := fmt.Fprint(w, `Falls: how often a site went down under its load. Attempts to connect, those refused, and questions to the LBS, all in all. The fullest
site, of its capacity; most let in by one site within a second, of its accept rate; for how long work waited for a CPU. When of those that were
out at most a half, 99 %, and all were back for good, after the first death; and how many were out at the end.

| clients | policy | admission | falls | attempts | refused | questions | fullest % | let in % | CPU behind s | half back s | 99 % s | all s | out at the end |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	return err
}

// avalancheLine prints a run as a line of the table.
func avalancheLine(w io.Writer, r *avalanche.Report) error {
	admission := "off"
	if r.Admission {
		admission = "on"
	}
	back := func(seconds float64) string {
		if seconds < 0 {
			return "never"
		}
		return strconv.FormatFloat(seconds, 'f', 0, 64)
	}
	_, err := fmt.Fprintf(w, "| %d | %s | %s | %d | %d | %d | %d | %.0f | %.0f | %.1f | %s | %s | %s | %d |\n",
		r.Clients, r.Policy, admission, r.Falls, r.Attempts, r.Refused, r.Questions, 100*r.MostLoad, 100*float64(r.MostLetIn)/float64(r.Accept),
		r.MostBehind, back(r.Back50), back(r.Back99), back(r.Back), r.OutAtEnd)
	return err
}
