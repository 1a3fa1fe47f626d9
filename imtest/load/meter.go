package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/pim-im/pim"
)

// meter reads what the server's process has used from its metrics.
type meter struct {
	url   string // "-" for none
	apart string // where the server listens, HOST:PORT, if its metrics are elsewhere
}

// meter returns a meter of the server that cfg measures.
func (cfg *Config) meter() meter {
	m := meter{url: cfg.MetricsURL}
	page, errPage := url.Parse(cfg.MetricsURL)
	server, errServer := url.Parse(cfg.Server)
	if errPage == nil && errServer == nil && page.Host != server.Host {
		m.apart = server.Host
	}
	return m
}

// usage is one reading.
type usage struct {
	cpu   float64 // seconds since the process began
	rss   int64   // bytes
	loads uint64  // conversations loaded from the store
}

// read returns the usage now; zeros if there is no URL to read from.
func (m *meter) read(ctx context.Context) (usage, error) {
	if m.url == "-" {
		return usage{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return usage{}, pim.Errorf(pim.KindInvalid, "metrics URL: %w", err)
	}
	// Each reading has its own connection, so that none stays open beside those counted.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		if m.apart != "" && answers(ctx, m.apart) {
			var asked *url.Error // its text would repeat the URL
			if errors.As(err, &asked) {
				err = asked.Err
			}
			return usage{}, pim.Errorf(pim.KindUnavailable, "no metrics at %s (%v): name their page with --metrics, or - for none", m.url, err)
		}
		return usage{}, pim.Errorf(pim.KindUnavailable, "reading metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return usage{}, pim.Errorf(pim.KindUnavailable, "reading metrics of %s: %s", m.url, resp.Status)
	}
	found := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == cpuMetric || name == rssMetric || name == loadsMetric {
			if found[name], err = strconv.ParseFloat(value, 64); err != nil {
				return usage{}, pim.Errorf(pim.KindInvalid, "metrics of %s: %q", m.url, lines.Text())
			}
		}
	}
	if err := lines.Err(); err != nil {
		return usage{}, pim.Errorf(pim.KindUnavailable, "reading metrics of %s: %w", m.url, err)
	}
	if found[rssMetric] == 0 {
		return usage{}, pim.Errorf(pim.KindInvalid, "no metrics at %s: it says no %s", m.url, rssMetric)
	}
	return usage{cpu: found[cpuMetric], rss: int64(found[rssMetric]), loads: uint64(found[loadsMetric])}, nil
}

// answers reports whether anything listens at addr.
func answers(ctx context.Context, addr string) bool {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

const (
	cpuMetric   = "process_cpu_seconds_total"
	rssMetric   = "process_resident_memory_bytes"
	loadsMetric = "pim_conversation_loads_total" // the relay has none
)

// metricsURL returns where the metrics of the server at u are, see
// Config.MetricsURL. The relay has everything on one port.
func metricsURL(w Workload, u *url.URL) string {
	host := u.Host
	if u.Scheme == "tcp" && w != Relay {
		if name, port, err := net.SplitHostPort(host); err == nil {
			if n, err := strconv.Atoi(port); err == nil {
				host = net.JoinHostPort(name, strconv.Itoa(n-1))
			}
		}
	}
	return fmt.Sprintf("http://%s/metrics", host)
}
