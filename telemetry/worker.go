package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tegami-im/tegami/worker"
)

// Worker is the registry of a process that runs background tasks.
type Worker struct {
	Registry

	events   *prometheus.CounterVec
	attempts *prometheus.HistogramVec
}

// NewWorker returns the metrics of a worker.
func NewWorker() *Worker {
	w := &Worker{Registry: newRegistry()}
	w.events = w.counters("tegami_task_events_total", "Events of each task, by outcome: handled, failed and to be tried again, dead, or skipped because it was published again.", "task", "outcome")
	w.attempts = w.histograms("tegami_task_seconds", "Time that a task takes for an attempt.", "task")
	return w
}

// Tasks returns the hooks of the task processor.
func (w *Worker) Tasks() worker.Observer {
	return worker.Observer{
		Event:   func(task string, outcome worker.Outcome) { w.events.WithLabelValues(task, string(outcome)).Inc() },
		Attempt: func(task string, took time.Duration) { w.attempts.WithLabelValues(task).Observe(took.Seconds()) },
	}
}

// Analytics returns a hook that counts messages.
func (w *Worker) Analytics() func(messages int64) {
	counter := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tegami_analytics_messages_total", Help: "Messages that this process counted into minutes.",
	})
	w.registry.MustRegister(counter)
	return func(messages int64) { counter.Add(float64(messages)) }
}

// Watch adds what the groups have in flight and how far they are behind.
func (w *Worker) Watch(groups []*worker.Group) { w.registry.MustRegister(groupCollector(groups)) }

type groupCollector []*worker.Group

var (
	taskInFlight   = prometheus.NewDesc("tegami_task_in_flight", "Events that a task is handling.", []string{"task"}, nil)
	taskLagRecords = prometheus.NewDesc("tegami_task_lag_records", "Records of a partition that a task has yet to get through, as of the last read.", []string{"task", "topic", "partition"}, nil)
	taskLagSeconds = prometheus.NewDesc("tegami_task_lag_seconds", "Age of the oldest event of a partition that a task has read and not finished.", []string{"task", "topic", "partition"}, nil)
)

// Describe implements prometheus.Collector.
func (groupCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{taskInFlight, taskLagRecords, taskLagSeconds} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector.
func (c groupCollector) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, group := range c {
		stats := group.Stats()
		gauge(taskInFlight, float64(stats.InFlight), group.Name())
		for _, lag := range stats.Lag {
			partition := strconv.Itoa(int(lag.Source.Partition))
			gauge(taskLagRecords, float64(lag.Records), group.Name(), lag.Source.Topic, partition)
			gauge(taskLagSeconds, lag.Age.Seconds(), group.Name(), lag.Source.Topic, partition)
		}
	}
}
