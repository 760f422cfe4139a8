package replay

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Summary is what a run found. A turn is counted at both its sides: 2 × Turns
// arrivals are right.
type Summary struct {
	Accounts      int           `json:"accounts"`
	Conversations int           `json:"conversations"`
	Languages     int           `json:"languages"`
	Turns         int           `json:"turns"`
	Bytes         int           `json:"bytes"`
	Arrivals      int           `json:"arrivals"`
	Lost          int           `json:"lost"`
	Duplicated    int           `json:"duplicated"`
	Reordered     int           `json:"reordered"`
	Altered       int           `json:"altered"`
	Strangers     int           `json:"strangers"`
	Duration      time.Duration `json:"durationNanos"`
	// Acknowledged is the time from saying a turn to its acknowledgement,
	// Delivered to its arrival at who hears it.
	Acknowledged Quantiles `json:"acknowledged"`
	Delivered    Quantiles `json:"delivered"`
}

// Quantiles are those of a latency.
type Quantiles struct {
	P50 time.Duration `json:"p50Nanos"`
	P99 time.Duration `json:"p99Nanos"`
	Max time.Duration `json:"maxNanos"`
}

// Faultless reports whether every turn arrived once, in order and unchanged,
// and nothing else.
func (s *Summary) Faultless() bool {
	return s.Lost+s.Duplicated+s.Reordered+s.Altered+s.Strangers == 0
}

func (p *player) summary(took time.Duration) Summary {
	s := Summary{
		Accounts:      len(p.accounts),
		Conversations: int(p.played.Load()),
		Arrivals:      int(p.arrived.Load()),
		Strangers:     int(p.strangers.Load()),
		Duration:      took,
		Acknowledged:  p.acknowledged.quantiles(),
		Delivered:     p.delivered.quantiles(),
	}
	p.languages.Range(func(any, any) bool {
		s.Languages++
		return true
	})
	for _, t := range p.threads {
		t.addTo(&s)
	}
	return s
}

func (t *thread) addTo(s *Summary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Turns += len(t.turns)
	for _, said := range t.turns {
		s.Bytes += len(said.text)
	}
	for i := range t.sides {
		at := &t.sides[i]
		s.Lost += t.lost(at)
		s.Duplicated += at.duplicated
		s.Reordered += at.reordered
		s.Altered += at.altered
	}
}

// latency collects times between 1 µs and 10 min.
type latency struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram // guarded by mu
}

func newLatency() *latency {
	return &latency{histogram: hdrhistogram.New(1, (10 * time.Minute).Microseconds(), 3)}
}

func (l *latency) record(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.histogram.RecordValue(took.Microseconds()) // longer than 10 min is a fault that Lost shows
}

func (l *latency) quantiles() Quantiles {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := func(percent float64) time.Duration {
		return time.Duration(l.histogram.ValueAtQuantile(percent)) * time.Microsecond
	}
	return Quantiles{P50: at(50), P99: at(99), Max: time.Duration(l.histogram.Max()) * time.Microsecond}
}
