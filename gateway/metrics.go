package gateway

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the gateway's counts and gauges. Their labels have as values the names of error
// kinds, of close codes and of limit.Reasons, and the reasons below.
type Metrics struct {
	registry prometheus.Registerer // nil: not registered

	connections prometheus.Gauge
	transports  *prometheus.GaugeVec
	sends       prometheus.Counter
	answers     prometheus.Counter
	pushes      prometheus.Counter
	pushAcks    prometheus.Counter
	pulls       prometheus.Counter
	receipts    prometheus.Counter
	members     prometheus.Counter
	pulled      prometheus.Counter
	syncs       prometheus.Counter
	errors      *prometheus.CounterVec
	closes      *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	tls         *prometheus.CounterVec
	insists     *prometheus.CounterVec

	// Seconds that connections were not read because they had sent too much.
	slowFrames prometheus.Counter
	slowBytes  prometheus.Counter

	// Frames that were not passed on. There may be many, so the labels are looked up once.
	dropSlow    prometheus.Counter // the device's queue was full; from then on the device is behind
	dropLook    prometheus.Counter // of what is on a screen; the device is slow, or the store has failed
	dropLooks   prometheus.Counter // PIMLooks of which some is not looked at, or no more: the user or all together look at too much
	dropTyping  prometheus.Counter // too many, or refused
	dropBehind  prometheus.Counter // the device is behind, and will sync
	dropUnknown prometheus.Counter // of a type this version does not know

	toldToSync prometheus.Counter // see Sessions.Behind
	revoked    prometheus.Counter // logins refused and connections ended

	// Acknowledgements that were not noted.
	ackStrangers prometheus.Counter // of conversations that cannot be the user's
	ackExcess    prometheus.Counter // above inbox.AckShare, in one frame
}

// NewMetrics registers the gateway's metrics with r, or with nothing if r is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		all = append(all, c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		all = append(all, v)
		return v
	}
	drops := vec("pim_drops_total", "Frames not passed on, by reason.", "reason")
	acks := vec("pim_push_acks_refused_total", "Acknowledgements of PIMPushAck frames not noted, by reason.", "reason")
	slow := vec("pim_read_pauses_seconds_total", "Seconds for which connections that sent too much were not read, by the bound.", "reason")
	m := &Metrics{
		registry:    r,
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pim_connections", Help: "Open connections, handshakes included."}),
		transports:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pim_transport_connections", Help: "Open connections by transport (tcp, websocket, quic), those before their Hello included."}, []string{"transport"}),
		sends:       counter("pim_send_requests_total", "PIMSendReq frames read."),
		answers:     counter("pim_send_answers_total", "Sends answered, with PIMSendAck or PIMError."),
		pushes:      counter("pim_pushes_total", "PIMPush frames queued for a connection."),
		pushAcks:    counter("pim_push_acks_total", "PIMPushAck frames read."),
		pulls:       counter("pim_pulls_total", "PIMPullReq frames served."),
		receipts:    counter("pim_receipts_total", "PIMReceiptReq frames served."),
		members:     counter("pim_members_total", "PIMMembersReq frames served."),
		pulled:      counter("pim_pulled_entries_total", "Entries handed out by pulls."),
		syncs:       counter("pim_syncs_total", "PIMSyncReq frames served."),
		toldToSync:  counter("pim_connections_told_to_sync_total", "Connections told to sync, because pushes may have been lost between nodes."),
		revoked:     counter("pim_revoked_total", "Logins refused, and connections ended, because the token was revoked or the user is blocked."),
		errors:      vec("pim_request_errors_total", "Requests answered with PIMError, by kind.", "kind"),
		closes:      vec("pim_closes_total", "Connections closed by the server, by code.", "code"),
		refusals:    vec("pim_refusals_total", "Connections and logins not let in because of a bound, by its name.", "reason"),
		tls:         vec("pim_tls_failures_total", "Connections that came to nothing because client and server did not agree about TLS, by reason (plain, spoken, old, refused, other).", "reason"),
		insists:     vec("pim_insistent_connections_total", "Connections that were sent away because they went on sending too much, by the bound.", "reason"),
		slowFrames:  slow.WithLabelValues(limit.ConnectionFrames.String()),
		slowBytes:   slow.WithLabelValues(limit.ConnectionBytes.String()),
		dropSlow:    drops.WithLabelValues("slow_device"),
		dropLook:    drops.WithLabelValues("look"),
		dropLooks:   drops.WithLabelValues("looks"),
		dropTyping:  drops.WithLabelValues("typing"),
		dropBehind:  drops.WithLabelValues("behind"),
		dropUnknown: drops.WithLabelValues("unknown_frame"),

		ackStrangers: acks.WithLabelValues("name"),
		ackExcess:    acks.WithLabelValues("share"),
	}
	for _, transport := range []string{TransportTCP, TransportWebSocket, TransportQUIC} {
		m.transports.WithLabelValues(transport)
	}
	for _, reason := range tlsReasons {
		m.tls.WithLabelValues(reason)
	}
	for _, reason := range []limit.Reason{limit.ConnectionFrames, limit.ConnectionBytes} {
		m.insists.WithLabelValues(reason.String())
	}
	if r != nil {
		r.MustRegister(append(all, m.connections, m.transports)...)
	}
	return m
}

func (m *Metrics) answered(n int)        { m.answers.Add(float64(n)) }
func (m *Metrics) failed(err error)      { m.errors.WithLabelValues(pim.KindOf(err).String()).Inc() }
func (m *Metrics) closed(code wire.Code) { m.closes.WithLabelValues(code.String()).Inc() }

// refused counts a connection or a login that v does not let in.
func (m *Metrics) refused(v limit.Verdict) { m.refusals.WithLabelValues(v.Reason.String()).Inc() }

// slowed counts a pause for which a connection is not read, because of reason.
func (m *Metrics) slowed(reason limit.Reason, pause time.Duration) {
	if reason == limit.ConnectionFrames {
		m.slowFrames.Add(pause.Seconds())
	} else {
		m.slowBytes.Add(pause.Seconds())
	}
}

// queues are gauges of what waits to be written or served. Each is the sum over all connections
// at the time when it is collected.
type queues struct {
	sessions                        *Sessions
	unsent, sends, requests, behind *prometheus.Desc
}

func newQueues(s *Sessions) *queues {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &queues{
		sessions: s,
		unsent:   desc("pim_unsent_bytes", "Bytes that wait to be written to connections."),
		sends:    desc("pim_sends_in_flight", "Sends whose answer has not been written."),
		requests: desc("pim_requests_waiting", "Pulls and syncs that wait for those before them on their connection."),
		behind:   desc("pim_connections_behind", "Connections that pushes are dropped for until they have taken what is queued."),
	}
}

// Describe implements prometheus.Collector.
func (q *queues) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(q, ch) }

// Collect implements prometheus.Collector.
func (q *queues) Collect(ch chan<- prometheus.Metric) {
	var unsent, sends, requests, behind int
	q.sessions.each(func(c *conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		unsent += c.unsent()
		sends += int(c.inFlight)
		if c.tasks != nil {
			requests += len(c.tasks.waiting)
		}
		if c.behind() {
			behind++
		}
	})
	for desc, n := range map[*prometheus.Desc]int{q.unsent: unsent, q.sends: sends, q.requests: requests, q.behind: behind} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n))
	}
}
