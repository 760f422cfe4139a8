package persisttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is a way to fail.
type Fault string

// The faults of a journal. Those whose outcome is unknown answer
// persistence.ErrUnknownOutcome.
const (
	AppendHappened Fault = "append happened, outcome unknown"
	AppendLost     Fault = "append did not happen, outcome unknown"
	AppendLate     Fault = "append happens later, outcome unknown"
	AppendFull     Fault = "append refused, disk full"
	AppendBusy     Fault = "append refused, too much is queued"
	AppendSlow     Fault = "append answered late"
	ReadFailed     Fault = "journal not read"
	ReadSlow       Fault = "journal read slowly"
)

// The faults of a store.
const (
	WriteLost  Fault = "write failed before its effect"
	WriteDone  Fault = "write failed after its effect"
	WriteFull  Fault = "write refused, disk full"
	WriteSlow  Fault = "write is slow"
	LoadFailed Fault = "store not read"
	LoadSlow   Fault = "store read slowly"
	SyncFailed Fault = "store not synced"
)

// ErrInjected is what a fault returns that has no error of its own.
var ErrInjected = errors.New("injected fault")

// Plan decides which calls fail, and how: at random from a seed, or as told.
// All methods are safe for concurrent use; with concurrent callers, which call
// gets which fault depends on their order.
type Plan struct {
	seed  uint64
	delay time.Duration

	mu      sync.Mutex // guards the following
	rng     *rand.Rand
	rates   map[Fault]float64
	pending map[Fault]int
	counts  map[Fault]int
}

// NewPlan returns a plan that makes each fault of a call with its rate, 0 to 1.
// What is slow or late takes up to delay more.
func NewPlan(seed uint64, delay time.Duration, rates map[Fault]float64) *Plan {
	return &Plan{
		seed:    seed,
		delay:   delay,
		rng:     rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // a run must be repeatable
		rates:   maps.Clone(rates),
		pending: map[Fault]int{},
		counts:  map[Fault]int{},
	}
}

// Next makes the next call that can fail so do so, before any chance.
func (p *Plan) Next(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending[fault]++
}

// Stop ends all faults but those already on their way.
func (p *Plan) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.pending)
	p.rates = nil
}

// Count returns how often a fault was made.
func (p *Plan) Count(fault Fault) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[fault]
}

// String tells the seed and what was made.
func (p *Plan) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := []string{fmt.Sprintf("seed %d", p.seed)}
	for _, fault := range slices.Sorted(maps.Keys(p.counts)) {
		text = append(text, fmt.Sprintf("%s: %d", fault, p.counts[fault]))
	}
	return strings.Join(text, ", ")
}

// choose returns the fault of one call, of those that it can have; "" for
// none.
func (p *Plan) choose(faults ...Fault) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fault := range faults {
		if p.pending[fault] > 0 {
			p.pending[fault]--
			p.counts[fault]++
			return fault
		}
	}
	for _, fault := range faults {
		if rate := p.rates[fault]; rate > 0 && p.rng.Float64() < rate {
			p.counts[fault]++
			return fault
		}
	}
	return ""
}

// wait is how long something slow takes.
func (p *Plan) wait() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.delay <= 0 {
		return 0
	}
	return time.Duration(p.rng.Int64N(int64(p.delay)))
}

// pause waits for something slow.
func (p *Plan) pause(ctx context.Context) error {
	timer := time.NewTimer(p.wait())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
