package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/simcluster"
)

type simCmd struct {
	Avalanche simAvalancheCmd `cmd:"" help:"Play in virtual time what a million clients do when their site dies, with protections and without, and print what becomes of the others."`
	Cluster   simClusterCmd   `cmd:"" help:"Play the traffic of clusters of 4 to 4,000 nodes in virtual time, and print what a message costs them."`
}

// simClusterCmd plays each scale with conversations of each size.
type simClusterCmd struct {
	Messages int           `name:"messages" default:"2000" placeholder:"N" help:"Messages of each run."`
	Every    time.Duration `name:"every" default:"2s" placeholder:"DURATION" help:"Time between two messages of one conversation, on the average."`
	Payload  int           `name:"payload" default:"100" placeholder:"BYTES" help:"Bytes of a message's text."`
	Seed     uint64        `name:"seed" default:"1" placeholder:"SEED" help:"Decides who is where and who writes when."`
	SVG      string        `name:"svg" placeholder:"FILE" help:"Draw a picture, too."`
	JSON     bool          `name:"json" help:"Print one JSON object for each run."`
}

// Run plays and prints.
func (c *simClusterCmd) Run(ctx context.Context, s streams) error {
	reports := map[int][]simcluster.Report{}
	out := json.NewEncoder(s.out)
	if !c.JSON {
		if err := simHead(s.out); err != nil {
			return err
		}
	}
	for _, members := range simcluster.Sizes {
		for _, scale := range simcluster.Scales {
			if err := ctx.Err(); err != nil {
				return err
			}
			r, err := simcluster.Run(simcluster.Config{
				Users: scale.Users, Nodes: scale.Nodes, Members: members,
				Messages: c.Messages, Every: c.Every, Payload: c.Payload, Seed: c.Seed,
			})
			if err == nil && c.JSON {
				err = out.Encode(&r)
			} else if err == nil {
				err = simLine(s.out, &r)
			}
			if err != nil {
				return err
			}
			reports[members] = append(reports[members], r)
		}
	}
	if c.SVG == "" {
		return nil
	}
	return draw(c.SVG, func(w io.Writer) { simcluster.Draw(w, reports) })
}

// draw writes a picture to a file.
func draw(path string, picture func(io.Writer)) error {
	f, err := os.Create(path)
	if err != nil {
		return pim.Errorf(pim.KindInvalid, "the picture: %w", err)
	}
	w := bufio.NewWriter(f)
	picture(w)
	return errors.Join(w.Flush(), f.Close())
}

// simHead prints the head of the table.
func simHead(w io.Writer) error {
	_, err := fmt.Fprint(w, `For one message. Members are those of the conversation; submits, answers, publishes and pushes are
messages between nodes. A node dies on the way, and another one joins: how much of all has moved then,
what was sent again, appends that another node's were before.

| members | users | nodes | look-ups | submits | answers | publishes | pushes | deliveries | bytes | transactions | moved % | again | conflicts |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	return err
}

// simLine prints a run as a line of the table.
func simLine(w io.Writer, r *simcluster.Report) error {
	_, err := fmt.Fprintf(w, "| %d | %d | %d | %.1f | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f | %.2f | %.2f | %d | %d |\n",
		r.Members, r.Users, r.Nodes, r.Lookups, r.Submits, r.Answers, r.Publishes, r.Pushes, r.Deliveries, r.BusBytes,
		r.Transactions, r.Moved, r.Again, r.Conflicts)
	return err
}
