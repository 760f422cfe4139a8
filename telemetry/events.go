package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tegami-im/tegami/persistence"
)

// eventMetrics are of what is published for other services.
type eventMetrics struct {
	published, failures prometheus.Counter
	took                prometheus.Histogram
}

func newEventMetrics(registry *prometheus.Registry) eventMetrics {
	e := eventMetrics{
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tegami_events_published_total", Help: "Events published for other services, those published again included.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tegami_events_publish_failures_total", Help: "Batches of events that were not published, and are repeated.",
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tegami_events_publish_seconds", Help: "Time that a batch of events takes to be durable, or to fail.", Buckets: latencies,
		}),
	}
	registry.MustRegister(e.published, e.failures, e.took)
	return e
}

// Publisher measures what a publisher publishes.
func (m *Metrics) Publisher(of persistence.Publisher) persistence.Publisher {
	return &publisher{of, &m.events}
}

type publisher struct {
	persistence.Publisher
	metrics *eventMetrics
}

// Publish implements persistence.Publisher.
func (p *publisher) Publish(events []persistence.Event, done func(error)) {
	began := time.Now()
	p.Publisher.Publish(events, func(err error) {
		p.metrics.took.Observe(time.Since(began).Seconds())
		if err == nil {
			p.metrics.published.Add(float64(len(events)))
		} else {
			p.metrics.failures.Inc()
		}
		done(err)
	})
}
