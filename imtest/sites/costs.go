package sites

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/load"
)

// Cost is what messages cost: those of the measured time of a run of package load.
type Cost struct {
	load.Report
	Messages     float64 // entries that were appended
	Pim, Store   float64 // CPU seconds for 1,000 messages: of all nodes of pim, of all of Cassandra
	Transactions float64 // for each message
	Rows         float64 // written, for each message
	Bus          float64 // the share of pim's CPU in which something of the bus was on the stack
	Route        float64 // the same for route and home, without the bus
}

// Measure runs a workload against all nodes.
func (p *Pim) Measure(ctx context.Context, cfg load.Config) (Cost, error) {
	urls := p.URLs(true)
	cfg.Server, cfg.Others, cfg.MetricsURL = urls[0], urls[1:], "-"
	cfg.Token = func(user pim.UserID) (string, error) { return p.keys.Issue(user, time.Hour, time.Now()) }
	var before, after reading
	profile := profile{dir: p.o.Dir, nodes: p.pprof, lasts: cfg.Duration}
	cfg.Measured = func(ctx context.Context, ended bool) (err error) {
		if !ended {
			profile.begin(ctx)
			before, err = p.read(ctx)
			return err
		}
		after, err = p.read(ctx)
		return err
	}
	rep, err := load.Run(ctx, cfg)
	err = errors.Join(err, profile.end())
	if err == nil {
		err = errors.Join(rep.Err(), rep.Incomplete())
	}
	if err != nil {
		return Cost{}, fmt.Errorf("%w\n%s", err, p.Said())
	}
	n := after.entries - before.entries
	c := Cost{
		Report: rep, Messages: n, Pim: (after.pim - before.pim) / n * 1000, Store: (after.store - before.store) / n * 1000,
		Transactions: (after.transactions - before.transactions) / n, Rows: (after.rows - before.rows) / n,
	}
	if c.Bus, err = profile.share(ctx, busCode, ""); err == nil {
		c.Route, err = profile.share(ctx, routeCode, busCode)
	}
	return c, err
}

// reading is what was used and written up to a moment, over all nodes.
type reading struct {
	pim, store                  float64 // CPU seconds
	entries, transactions, rows float64
}

func (p *Pim) read(ctx context.Context) (r reading, err error) {
	for _, url := range p.URLs(false) {
		page, err := metrics(ctx, url+"/metrics")
		if err != nil {
			return reading{}, err
		}
		r.pim += page["process_cpu_seconds_total"]
		r.entries += page["pim_entries_total"]
		r.transactions += page["pim_store_transactions_total"]
		r.rows += page["pim_store_rows_total"]
	}
	if p.o.Cassandra != nil {
		for n := range p.o.Stores {
			used, err := p.o.Cassandra.CPU(n + 1)
			if err != nil {
				return reading{}, err
			}
			r.store += used.Seconds()
		}
	}
	return r, nil
}

// metrics reads a page of Prometheus metrics: values by name and labels, as they stand there.
func metrics(ctx context.Context, url string) (map[string]float64, error) {
	body, err := get(ctx, url)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	found := map[string]float64{}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			found[name] = v
		}
	}
	return found, lines.Err()
}

func get(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp.Body, nil
}

// What a profile says of the bus, and of what stands between a gateway and writers and homes elsewhere.
const (
	busCode   = `pim/bus/|nats-io/`
	routeCode = `pim/(route|home)\.`
)

// profile is a CPU profile of all nodes.
type profile struct {
	dir   string
	nodes []string // addresses for Go's profiler
	lasts time.Duration

	work sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

// begin has all nodes be profiled.
func (p *profile) begin(ctx context.Context) {
	for i, node := range p.nodes {
		p.work.Go(func() {
			err := p.take(ctx, node, p.file(i))
			p.mu.Lock()
			defer p.mu.Unlock()
			p.errs = append(p.errs, err)
		})
	}
}

func (p *profile) take(ctx context.Context, node, to string) error {
	body, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", node, int(p.lasts.Seconds())))
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

// end waits for the profiles.
func (p *profile) end() error {
	p.work.Wait()
	return errors.Join(p.errs...)
}

func (p *profile) file(i int) string { return filepath.Join(p.dir, fmt.Sprintf("cpu%d", i+1)) }

// total is the line in which go tool pprof tells what the rest of its output is a part of.
var total = regexp.MustCompile(`(?m)^Showing nodes accounting for .*, ([0-9.]+)% of .* total`)

// share returns the share of the samples with code of focus on the stack, but none of ignore.
func (p *profile) share(ctx context.Context, focus, ignore string) (float64, error) {
	args := []string{"tool", "pprof", "-top", "-nodefraction=0", "-focus=" + focus}
	if ignore != "" {
		args = append(args, "-ignore="+ignore)
	}
	for i := range p.nodes {
		args = append(args, p.file(i))
	}
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if strings.Contains(string(out), "no samples") || strings.Contains(string(out), "focus expression matched no samples") {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("go tool pprof: %w: %s", err, out)
	}
	m := total.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("go tool pprof says: %.300s", out)
	}
	percent, err := strconv.ParseFloat(string(m[1]), 64)
	return percent / 100, err
}
