package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lookEvery is how often the files are read again. They are compared by content: times
	// and sizes do not change with every edit, and links may point elsewhere.
	lookEvery = 2 * time.Second
	// expirySayAgain is how often the log says that the certificate should be renewed.
	expirySayAgain = 24 * time.Hour
)

// reloader reads the key file and the certificates again, when it is asked to and by itself
// when they change. One goroutine calls run, which owns said and the files; nobody else reloads certs.
type reloader struct {
	log   *slog.Logger
	now   func() time.Time
	files []*reloadable
	certs *certificates // nil: no TLS
	every time.Duration
	ask   chan chan error // of Reload

	said      map[*certificate]verdict // what was last logged of the certificates' validity
	reloads   *prometheus.CounterVec
	unreadNow *prometheus.GaugeVec
}

// verdict is what was logged of a certificate's validity.
type verdict struct {
	text string // empty: it was good
	at   time.Time
}

// reloadable is one thing that is read from files.
type reloadable struct {
	what string // "keys" or "certificate", a metric label
	// reload reads the files, and returns for each change what the log says of it. It may
	// have taken one file, and return an error about another.
	reload func() (changes [][]any, err error)
	failed string // the text of the last look's error; empty: it had none
	said   bool   // failed is in the log
}

func newReloader(log *slog.Logger, now func() time.Time, certs *certificates, metrics prometheus.Registerer, files ...*reloadable) *reloader {
	r := &reloader{
		log: log, now: now, files: files, certs: certs, said: make(map[*certificate]verdict), every: lookEvery, ask: make(chan chan error),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_reloads_total", Help: "Times that a changed file was read, by what it holds (keys, certificate) and result (ok, failed).",
		}, []string{"what", "result"}),
		unreadNow: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pim_reload_failing", Help: "1 while a file cannot be read again, and what was read before is in use.",
		}, []string{"what"}),
	}
	for _, f := range files {
		r.unreadNow.WithLabelValues(f.what)
		for _, result := range []string{"ok", "failed"} {
			r.reloads.WithLabelValues(f.what, result)
		}
	}
	metrics.MustRegister(r.reloads, r.unreadNow)
	if certs != nil {
		metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pim_tls_certificate_expiry_timestamp_seconds", Help: "When the first of the certificates in use, or of their chains, expires, in seconds since 1970.",
		}, func() float64 {
			return float64(certs.expiry().Unix())
		}))
	}
	return r
}

// run looks at the files until stop is closed.
func (r *reloader) run(stop <-chan struct{}) {
	t := time.NewTicker(r.every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			_ = r.look(false) // look has logged it
		case answer := <-r.ask:
			answer <- r.look(true)
		case <-stop:
			return
		}
	}
}

// look reads every file once. If it was asked for it logs at once what is wrong. Otherwise
// it logs that only if the next look finds the same: this one may have met a file that is
// half written, or a certificate whose key is still to come.
func (r *reloader) look(asked bool) error {
	var errs []error
	for _, f := range r.files {
		changes, err := f.reload()
		if err != nil {
			errs = append(errs, err)
		}
		r.tell(f, changes, err, asked)
	}
	r.judgeCertificates()
	return errors.Join(errs...)
}

func (r *reloader) tell(f *reloadable, changes [][]any, err error, asked bool) {
	for _, about := range changes {
		r.log.Info("read again, and in use from now on", append([]any{"what", f.what}, about...)...)
		r.reloads.WithLabelValues(f.what, "ok").Inc()
	}
	if err == nil {
		if f.said && len(changes) == 0 {
			r.log.Info("what is in use is what the file holds again", "what", f.what)
		}
		f.failed, f.said = "", false
		r.unreadNow.WithLabelValues(f.what).Set(0)
		return
	}
	again := f.failed == err.Error()
	if !again {
		f.failed, f.said = err.Error(), false
	}
	if asked || again && !f.said {
		r.log.Error("cannot be read again; what was read before stays in use", "what", f.what, "error", err)
		r.reloads.WithLabelValues(f.what, "failed").Inc()
		r.unreadNow.WithLabelValues(f.what).Set(1)
		f.said = true
	}
}

// judgeCertificates logs that a certificate is not good, or should have been renewed: when
// that changes, and then once a day.
func (r *reloader) judgeCertificates() {
	if r.certs == nil {
		return
	}
	now := r.now()
	for _, p := range r.certs.pairs {
		text, level := "", slog.LevelError
		if err := validity(p.loaded, now); err != nil {
			text = "clients refuse the TLS certificate: " + err.Error()
		} else if now.After(renewal(p.loaded)) {
			text, level = "the TLS certificate should have been renewed", slog.LevelWarn
		}
		said := r.said[p]
		if text == said.text && now.Sub(said.at).Abs() < expirySayAgain {
			continue
		}
		if text != "" {
			r.log.Log(context.Background(), level, text, append([]any{"file", p.certFile}, about(p.loaded)...)...)
		}
		r.said[p] = verdict{text, now}
	}
}

// Reload reads the key file and the certificates again, as on SIGHUP, and returns what is
// wrong with them. What cannot be read stays as it was. The server also reads them by
// itself, within seconds of a change. If Start was not called yet, Reload waits for it.
func (s *Server) Reload(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case s.reloader.ask <- answer:
	case <-s.stopping:
		return pim.Errorf(pim.KindUnavailable, "the server stops")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
