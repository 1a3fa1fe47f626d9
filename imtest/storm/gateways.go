package storm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/imtest/process"
)

// gateways are the processes of pim.
type gateways struct {
	list  []*gateway
	known int // the first ones, which clients know
}

type gateway struct {
	*process.Process
	url, tcpURL string
	dead        atomic.Bool
	last        atomic.Int64 // connections when it was asked last
}

// unbound is a rate that nothing comes near to, the highest that pim takes.
const unbound = 1_000_000

// startGateways starts the gateways, each on a loopback address of its own, and returns when all are ready.
func startGateways(ctx context.Context, cfg *Config, keys string, most int) (*gateways, error) {
	g := &gateways{known: cfg.Gateways}
	if !cfg.Unprotected {
		g.known = min(asked, cfg.Gateways)
	}
	var nodes [][]string // HTTP, TCP and the address for the other nodes
	var join []string
	for range cfg.Gateways {
		own, err := loopback.Addresses(3)
		if err != nil {
			return nil, err
		}
		nodes, join = append(nodes, own), append(join, own[2])
		g.list = append(g.list, &gateway{url: "http://" + own[0], tcpURL: "tcp://" + own[1]})
	}
	token := filepath.Join(cfg.Dir, "token")
	if err := os.WriteFile(token, []byte("the token of a storm\n"), 0o600); err != nil {
		return nil, err
	}
	rate := cfg.AcceptRate
	if cfg.Unprotected {
		rate = unbound
	}
	var work sync.WaitGroup
	errs := make([]error, cfg.Gateways)
	for i, own := range nodes {
		roles := "gateway,writer,home"
		if i < asked && !cfg.Unprotected {
			roles += ",lbs"
		}
		dir := filepath.Join(cfg.Dir, fmt.Sprintf("gateway%d", i+1))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		command := []string{
			cfg.Pim, "serve", "--store", cfg.Store, "--keys", keys, "--node", fmt.Sprintf("gateway%d", i+1), "--roles", roles,
			"--advertise", "http://" + own[0], "--cluster-listen", own[2], "--join", strings.Join(join, ","), "--cluster-token-file", token,
			"--max-connections", strconv.Itoa(most), "--accept-rate", strconv.Itoa(rate), "--drain-window", "0s", "--no-consent",
		}
		work.Go(func() { g.list[i].Process, errs[i] = process.StartAt(ctx, command, dir, own[0], own[1]) })
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		g.stop()
		return nil, err
	}
	if err := g.meet(ctx, cfg); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// meet waits until each LBS knows all gateways: one that has just started tells whoever asks to come back in half a minute.
func (g *gateways) meet(ctx context.Context, cfg *Config) error {
	if cfg.Unprotected {
		return nil
	}
	for begun := time.Now(); ; {
		knows := 0
		for _, n := range g.list[:g.known] {
			if f, err := n.scrape(ctx); err == nil && f.open == cfg.Gateways {
				knows++
			}
		}
		if knows == g.known {
			return nil
		}
		if time.Since(begun) > cfg.Patience || !imtest.Pause(ctx, poll) {
			return pim.Errorf(pim.KindTimeout, "after %v only %d LBS know all gateways", time.Since(begun), knows)
		}
	}
}

func (g *gateways) stop() {
	for _, n := range g.list {
		if n.Process != nil {
			n.Stop()
		}
	}
}

// kill ends gateway i with SIGKILL, for good.
func (g *gateways) kill(i int) {
	g.list[i].dead.Store(true)
	g.list[i].Stop()
}

// had returns how many connections gateway i had when it was asked last.
func (g *gateways) had(i int) int { return int(g.list[i].last.Load()) }

// urls returns whom clients know, those that are dead included: nobody has told them. It is the LBS, if there are any.
func (g *gateways) urls() (urls []string) {
	for _, n := range g.list[:g.known] {
		urls = append(urls, n.url)
	}
	return urls
}

// tcp returns the raw TCP of those that are alive.
func (g *gateways) tcp() (urls []string) {
	for _, n := range g.list {
		if !n.dead.Load() {
			urls = append(urls, n.tcpURL)
		}
	}
	return urls
}

func (g *gateways) said() string {
	var b strings.Builder
	for i, n := range g.list {
		if s := n.Said(); s != "" {
			fmt.Fprintf(&b, "gateway %d said: %s ", i+1, s)
		}
	}
	return b.String()
}

// figures are what the page of metrics of a gateway says.
type figures struct {
	connections int
	refused     int // connections and logins, since it started
	asked       int // clients that its LBS has answered
	open        int // gateways that its LBS names to clients
	rss         int64
}

var sample = regexp.MustCompile(`(?m)^(pim_connections|pim_refusals_total|pim_lbs_answers_total|pim_lbs_gateways\{state="open"\}|process_resident_memory_bytes)(?:\{.*\})? (\S+)$`)

// scrapePatience is how long a page of metrics may take. A gateway that has too much to do may need long.
const scrapePatience = 30 * time.Second

// scrape asks a gateway for its figures.
func (n *gateway) scrape(ctx context.Context) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, scrapePatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/metrics", nil)
	if err != nil {
		return f, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return f, err
	}
	if resp.StatusCode != http.StatusOK {
		return f, pim.Errorf(pim.KindUnavailable, "%s: %s", n.url, resp.Status)
	}
	for _, m := range sample.FindAllStringSubmatch(string(page), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return f, err
		}
		switch m[1] {
		case "pim_connections":
			f.connections = int(v)
		case "pim_refusals_total":
			f.refused += int(v)
		case "pim_lbs_answers_total":
			f.asked += int(v)
		case `pim_lbs_gateways{state="open"}`:
			f.open = int(v)
		default:
			f.rss = int64(v)
		}
	}
	n.last.Store(int64(f.connections))
	return f, nil
}
