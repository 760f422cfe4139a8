// Package telemetry turns what the parts of a server report into Prometheus
// metrics. The parts know nothing of it: they call hooks.
//
// No label ever holds a user, device or message: label values are methods,
// codes, stages, pools, servers and actor kinds, all of them few.
package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/node"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/api/server"
)

// Registry holds the metrics of one process.
type Registry struct{ registry *prometheus.Registry }

// newRegistry returns a registry with Go's and the process's own metrics.
func newRegistry() Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return Registry{registry}
}

// Metrics is one server's registry.
type Metrics struct {
	Registry

	stage         [4]prometheus.Observer
	edge          *prometheus.HistogramVec
	polls         *prometheus.CounterVec
	batch         prometheus.Histogram
	batchRecords  prometheus.Counter
	requests      *prometheus.CounterVec
	requestLength *prometheus.HistogramVec
	held          prometheus.Gauge
	behaviours    *prometheus.CounterVec
	steps         *prometheus.HistogramVec
	shed          *prometheus.CounterVec // by class
	providerKeys  *prometheus.CounterVec // by outcome
	storage       storageMetrics
	events        eventMetrics
}

// latencies spans 50 µs to 6.5 s, each bucket 1.6 times the one before.
var latencies = prometheus.ExponentialBuckets(50e-6, 1.6, 26)

// stages has the label values of shard.Stage, in order.
var stages = [...]string{"appended", "applied", "woken", "answered"}

// New returns the metrics of a server.
func New() *Metrics {
	m := &Metrics{Registry: newRegistry()}

	stage := m.histograms("tegami_send_stage_seconds", "Time from the arrival of a command to each stage of it.", "stage")
	for i, name := range stages {
		m.stage[i] = stage.WithLabelValues(name)
	}
	m.edge = m.histograms("tegami_edge_stage_seconds", "Time that the calls of SendMessage and FetchOps spend in each stage at the edge.", "method", "stage")
	m.polls = m.counters("tegami_polls_total", "Polls answered with a page, by reason.", "reason")
	m.requests = m.counters("tegami_requests_total", "Requests, by method and code.", "method", "code")
	m.behaviours = m.counters("tegami_behaviour_events_total", "What became of what behaviours were asked and did, by kind and outcome.", "kind", "outcome")
	m.steps = m.histograms("tegami_behaviour_step_seconds", "Time from the call of a behaviour's handler until its step and what it sends are durable.", "kind")
	m.shed = m.counters("tegami_shed_total", "Requests and connections refused because there are too many, by class.", "class")
	m.providerKeys = m.counters("tegami_oidc_fetches_total", "Fetches of the keys of the OpenID provider, by outcome.", "outcome")
	m.requestLength = m.histograms("tegami_request_seconds", "Time that requests take, held polls included.", "method")
	m.batch = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "tegami_writebehind_batch_seconds", Help: "Time to write a batch to the store.", Buckets: latencies,
	})
	m.batchRecords = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tegami_writebehind_records_total", Help: "Records written to the store.",
	})
	m.held = prometheus.NewGauge(prometheus.GaugeOpts{Name: "tegami_polls_held", Help: "Polls held open."})
	m.registry.MustRegister(m.batch, m.batchRecords, m.held)
	m.storage = newStorageMetrics(m)
	m.events = newEventMetrics(m.registry)
	return m
}

func (r Registry) histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencies}, labels)
	r.registry.MustRegister(v)
	return v
}

func (r Registry) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.registry.MustRegister(v)
	return v
}

// Handler serves the metrics.
func (r Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{Registry: r.registry})
}

// Gauge adds a metric that is read when it is asked for.
func (r Registry) Gauge(name, help string, read func() float64) {
	r.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Counter adds a metric that only rises and is read when it is asked for.
func (r Registry) Counter(name, help string, read func() float64) {
	r.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// Node returns the hooks of the talk tier.
func (m *Metrics) Node() node.Observer {
	return node.Observer{
		Stage: func(stage shard.Stage, took time.Duration) { m.stage[stage].Observe(took.Seconds()) },
		Written: func(records int, took time.Duration) {
			m.batch.Observe(took.Seconds())
			m.batchRecords.Add(float64(records))
		},
		Poll: func(reason talk.Reason) { m.polls.WithLabelValues(pollReasons[reason]).Inc() },
		Behaviours: node.BehaviourObserver{
			Outcome: func(kind string, outcome behaviour.Outcome) {
				m.behaviours.WithLabelValues(kind, string(outcome)).Inc()
			},
			Stepped: func(kind string, took time.Duration) { m.steps.WithLabelValues(kind).Observe(took.Seconds()) },
		},
	}
}

var pollReasons = map[talk.Reason]string{
	talk.Operations: "operations",
	talk.Timeout:    "timeout",
	talk.Superseded: "superseded",
	talk.Draining:   "draining",
}

// Server returns the hooks of the API.
func (m *Metrics) Server() server.Hooks {
	return server.Hooks{
		Request: func(method, code string, took time.Duration) {
			m.requests.WithLabelValues(method, code).Inc()
			m.requestLength.WithLabelValues(method).Observe(took.Seconds())
		},
		Held: func(delta int) { m.held.Add(float64(delta)) },
		Shed: func(class server.Class) { m.shed.WithLabelValues(class.String()).Inc() },
		Stage: func(method string, stage server.Stage, took time.Duration) {
			m.edge.WithLabelValues(method, stage.String()).Observe(took.Seconds())
		},
	}
}

// ProviderFetched counts a fetch of an OpenID provider's keys.
func (m *Metrics) ProviderFetched(err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.providerKeys.WithLabelValues(outcome).Inc()
}

// WatchNode adds the depths of a node's queues, and what its watchdog counts.
func (m *Metrics) WatchNode(n *node.Node) { m.registry.MustRegister(nodeCollector{n}) }

type nodeCollector struct{ node *node.Node }

var (
	commandsInFlight = prometheus.NewDesc("tegami_commands_in_flight", "Commands not yet answered.", nil, nil)
	recordsUnstored  = prometheus.NewDesc("tegami_records_unstored", "Records in memory that are dispatched and not yet in the store: the lag of the write-behind, together with those dropped.", nil, nil)
	recordsDropped   = prometheus.NewDesc("tegami_records_dropped", "Records that were dropped from memory while the store was away, and wait to be read from the journal again.", nil, nil)
	mailboxesLoaded  = prometheus.NewDesc("tegami_mailboxes_loaded", "Mailboxes in memory.", nil, nil)
	lagRecords       = prometheus.NewDesc("tegami_writebehind_lag_records", "Records handed to the write-behind and not yet in store or cache, or that wait for their events to be published.", []string{"part"}, nil)
	lagBytes         = prometheus.NewDesc("tegami_writebehind_lag_bytes", "Bytes of rows and states in these records, or of their events.", []string{"part"}, nil)
	lagSeconds       = prometheus.NewDesc("tegami_writebehind_lag_seconds", "Age of the oldest of these records.", []string{"part"}, nil)
	workersQueued    = prometheus.NewDesc("tegami_workers_queued", "Jobs that wait for a worker, by pool.", []string{"pool"}, nil)
	shardsInState    = prometheus.NewDesc("tegami_shards", "Shards, by state: open, opening, or halted until an operator acts.", []string{"state"}, nil)
	unfit            = prometheus.NewDesc("tegami_unfit", "1 when this talk node is not fit to have shards, by reason: journal, network or clock.", []string{"reason"}, nil)
	watchdogStalls   = prometheus.NewDesc("tegami_watchdog_stalls_total", "Messages that an actor took longer for than its budget of 10 ms.", []string{"actor", "message"}, nil)
)

// Describe implements prometheus.Collector.
func (nodeCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{commandsInFlight, recordsUnstored, recordsDropped, mailboxesLoaded, lagRecords, lagBytes, lagSeconds, workersQueued, shardsInState, unfit, watchdogStalls} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value int64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	depths := c.node.Depths()
	gauge(commandsInFlight, depths.Commands)
	gauge(recordsUnstored, depths.Unstored)
	gauge(recordsDropped, depths.Dropped)
	gauge(mailboxesLoaded, depths.Mailboxes)
	for part, behind := range map[string]writebehind.Behind{partStore: depths.Store, partCache: depths.Cache, partEvents: depths.Events} {
		gauge(lagRecords, behind.Records, part)
		gauge(lagBytes, behind.Bytes, part)
		metrics <- prometheus.MustNewConstMetric(lagSeconds, prometheus.GaugeValue, behind.Age.Seconds(), part)
	}
	for pool, queued := range depths.Workers {
		gauge(workersQueued, int64(queued), pool)
	}
	for state, shards := range depths.Shards {
		gauge(shardsInState, int64(shards), state)
	}
	for _, reason := range node.UnfitReasons {
		is := int64(0)
		if c.node.Unfit() == reason {
			is = 1
		}
		gauge(unfit, is, reason)
	}
	for stall, n := range c.node.Stalls() {
		metrics <- prometheus.MustNewConstMetric(watchdogStalls, prometheus.CounterValue, float64(n), stall.Kind, stall.Message)
	}
}
