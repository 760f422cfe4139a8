package ledger

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the largest latency that is told apart from larger ones.
const longest = 10 * time.Minute

// Latency is a distribution, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Summary tells what happened in a part of a run.
type Summary struct {
	// Acked and Delivered count the messages whose answer or first delivery
	// fell into the window.
	Acked, Delivered int
	// Ack and Delivery are latencies of the messages that were intended in
	// the window, from then on.
	Ack, Delivery Latency
	// Lateness is how far behind its schedule the generator itself sent.
	Lateness Latency
}

// Summary tells what happened from one time up to another.
func (l *Ledger) Summary(from, to time.Time) Summary {
	begin, end := from.Sub(l.began), to.Sub(l.began)
	inside := func(at time.Duration) bool { return begin <= at && at < end }
	ack, delivery, late := newHistogram(), newHistogram(), newHistogram()
	var s Summary

	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.mu.messages {
		m := &l.mu.messages[i]
		acked, arrived := m.acked != 0, m.arrived != 0
		if acked && inside(m.acked) {
			s.Acked++
		}
		if arrived && inside(m.arrived) {
			s.Delivered++
		}
		if !inside(m.intended) {
			continue
		}
		record(late, m.started-m.intended)
		if acked {
			record(ack, m.acked-m.intended)
		}
		if arrived {
			record(delivery, m.arrived-m.intended)
		}
	}
	s.Ack, s.Delivery, s.Lateness = latency(ack), latency(delivery), latency(late)
	return s
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longest.Microseconds(), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(d, longest).Microseconds()) // in range, so no error
}

func latency(h *hdrhistogram.Histogram) Latency {
	milliseconds := func(microseconds int64) float64 { return float64(microseconds) / 1000 }
	return Latency{
		Count: h.TotalCount(),
		P50:   milliseconds(h.ValueAtQuantile(50)),
		P99:   milliseconds(h.ValueAtQuantile(99)),
		P999:  milliseconds(h.ValueAtQuantile(99.9)),
		Max:   milliseconds(h.Max()),
	}
}

// LatencyOf returns the distribution of some times.
func LatencyOf(times []time.Duration) Latency {
	h := newHistogram()
	for _, d := range times {
		record(h, d)
	}
	return latency(h)
}
