package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/web"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	if s.config.has(bus.RoleGateway) {
		allowed, _ := parseOrigins(s.config.AllowedOrigins) // the settings were checked
		mux.Handle("GET "+wire.WebSocketPath, allowed.only(s.gateway))
		if s.config.Page {
			s.chatPage(mux)
		}
	}
	mux.HandleFunc(gatewaysPath, s.gatewaysPage)
	if s.watchedL == nil {
		s.metricsPage(mux)
	}
	s.healthPages(mux)
	if s.config.TLSSelfSigned { // a browser that was told to be strict would let nobody past its warning
		return mux
	}
	return strict(mux, s.config.HSTSMaxAge)
}

// watchedPages are those for whoever watches the server, at an address of their own.
func (s *Server) watchedPages() http.Handler {
	mux := http.NewServeMux()
	s.metricsPage(mux)
	s.healthPages(mux)
	return mux
}

func (s *Server) metricsPage(mux *http.ServeMux) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
}

func (s *Server) healthPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "ok %s\n", s.version)
	})
	mux.HandleFunc("GET /readyz", s.readyPage)
}

// tokenTTL is how long a token lasts that a developer gets by picking a name. The page asks for a new
// one for each connection.
const tokenTTL = 24 * time.Hour

// chatPage adds the chat page to mux, and the login of developers if there may be one.
func (s *Server) chatPage(mux *http.ServeMux) {
	o := web.Options{}
	if s.config.PicksNames() {
		o.Login = func() bool { return s.ring.Keys().IssuesForDevelopment() }
		o.Issue = func(user pim.UserID) (string, error) {
			return s.ring.Keys().Issue(user, tokenTTL, s.clock.Relied())
		}
	}
	web.Serve(mux, o)
}

// readyPage says whether the node is ready and, in one word, why it is not. Everybody who
// reaches the address can read it, so the rest is only in the log.
func (s *Server) readyPage(w http.ResponseWriter, _ *http.Request) {
	err := s.Ready()
	s.logUnready(err)
	if err != nil {
		http.Error(w, "not ready: "+reason(err), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// logUnready logs why the node is not ready, once for each cause, so that asking for the page
// again and again does not fill the log.
func (s *Server) logUnready(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if old := s.unready.Swap(&text); (old == nil || *old != text) && text != "" {
		s.log.Warn("not ready", "reason", reason(err), "error", err)
	}
}

var (
	errStarting = errors.New("starting")
	errStopping = errors.New("the server stops")
	errDraining = errors.New("draining")
)

// reason returns the word for why a node is not ready: starting, stopping, draining, or the kind of the
// error.
func reason(err error) string {
	switch kind := pim.KindOf(err); {
	case err == errStopping:
		return "stopping"
	case err == errDraining, err == errStarting:
		return err.Error()
	case kind == pim.KindUnknown:
		return pim.KindUnavailable.String()
	default:
		return kind.String()
	}
}

// Ready returns nil if the node acknowledges what it is sent, or why it does not: it is not told of the other nodes yet,
// say, or drains by order.
func (s *Server) Ready() error {
	select {
	case <-s.stopping:
		return errStopping
	default:
	}
	if !s.serves.Load() {
		return errStarting
	}
	if err := s.engine.Health(); err != nil {
		return err
	}
	if err := s.clock.Gate(); err != nil {
		return err
	}
	if s.cluster != nil && s.cluster.isOrdered() {
		return errDraining
	}
	return nil
}

func pprofPages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pim_build_info", Help: "1, labelled with the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	g.Set(1)
	return g
}
