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

// reloader reads the key file and the certificate again, when it is asked to and by itself
// when they change. One goroutine calls run, which owns said, saidAt and the files.
type reloader struct {
	log   *slog.Logger
	now   func() time.Time
	files []*reloadable
	cert  *certificate // nil: no TLS
	every time.Duration
	ask   chan chan error // of Reload

	said      string    // what was last logged of the certificate's validity; empty: it was good
	saidAt    time.Time // when said was logged
	reloads   *prometheus.CounterVec
	unreadNow *prometheus.GaugeVec
}

// reloadable is one thing that is read from files.
type reloadable struct {
	what   string // "keys" or "certificate", a metric label
	reload func() (changed bool, err error)
	failed string // the text of the last look's error; empty: it had none
	said   bool   // failed is in the log
}

func newReloader(log *slog.Logger, now func() time.Time, cert *certificate, metrics prometheus.Registerer, files ...*reloadable) *reloader {
	r := &reloader{
		log: log, now: now, files: files, cert: cert, every: lookEvery, ask: make(chan chan error),
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
	if cert != nil {
		metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pim_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use, or one of its chain, expires, in seconds since 1970.",
		}, func() float64 {
			return float64(expiry(cert.current.Load()).Unix())
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
		changed, err := f.reload()
		if err != nil {
			errs = append(errs, err)
		}
		r.tell(f, changed, err, asked)
	}
	r.judgeCertificate()
	return errors.Join(errs...)
}

func (r *reloader) tell(f *reloadable, changed bool, err error, asked bool) {
	if err == nil {
		if changed {
			r.log.Info("read again, and in use from now on", "what", f.what)
			r.reloads.WithLabelValues(f.what, "ok").Inc()
		} else if f.said {
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

// judgeCertificate logs that the certificate is not good, or should have been renewed: when
// that changes, and then once a day.
func (r *reloader) judgeCertificate() {
	if r.cert == nil {
		return
	}
	now, current := r.now(), r.cert.current.Load()
	said, level := "", slog.LevelError
	if err := validity(current, now); err != nil {
		said = "clients refuse the TLS certificate: " + err.Error()
	} else if now.After(renewal(current)) {
		said, level = "the TLS certificate should have been renewed", slog.LevelWarn
	}
	if said == r.said && now.Sub(r.saidAt).Abs() < expirySayAgain {
		return
	}
	if said != "" {
		r.log.Log(context.Background(), level, said, "file", r.cert.certFile, "expires", expiry(current).UTC().Format(time.RFC3339))
	}
	r.said, r.saidAt = said, now
}

// Reload reads the key file and the certificate again, as on SIGHUP, and returns what is
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
