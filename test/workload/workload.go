// Package workload puts real users on a server and reports what they do and
// see to a checker: devices that poll, senders that retry under the same client
// message id until they know what became of a message, or give up. It goes on
// through every restart of the server, as real clients do.
package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/checker"
	"github.com/tegami-im/tegami/test/process"
)

// Options say how many do what.
type Options struct {
	// Users, each with Devices devices; each user sends from the first, from
	// Senders goroutines.
	Users, Devices, Senders int
	// Also are further servers that know the same users: devices are spread over
	// all, in turn.
	Also []*process.Server
	// Every is the least time from one message of a sender to its next; 0 for none.
	Every time.Duration
	// Mix is the least time from one thing that a user does beside sending to the
	// next: befriend, set, read, edit, react, forward; 0 for nothing. It takes limits
	// above those that are usual.
	Mix time.Duration
	// Seed of everything random; from Seed.
	Seed uint64
}

// Workload is a population of users.
type Workload struct {
	History *checker.History

	t       testing.TB
	server  *process.Server
	options Options
	users   []string
	devices []*device
	chats   []*chat

	// ctx ends with the test, or when the workload is abandoned.
	ctx     context.Context
	abandon context.CancelFunc

	acked, unknown, turnedAway, answered, failed atomic.Int64

	mixers     []*mixer
	unexpected findings
	took       latencies
	// round counts the calls of StartSending: client message ids are not used
	// again.
	round     int
	receiving running
	sending   running
}

// Abandon ends every sender and poll where it is, and starts a new history in
// which all that was sent before may be lost. The server may be down.
func (w *Workload) Abandon() {
	w.abandon()
	w.StopSending()
	w.StopReceiving()
	w.ctx, w.abandon = context.WithCancel(w.t.Context())
	w.History.LoseAll()
	for _, m := range w.mixers {
		m.facts, m.said = facts{}, nil
	}
	for _, c := range w.chats {
		c.forget()
	}
}

// running is a group of goroutines and the way to end it.
type running struct {
	sync.WaitGroup

	stop func()
}

// Seed returns the seed of this run: TEGAMI_TEST_SEED when set, else a new one.
// It is logged, so that a run can be made again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("TEGAMI_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TEGAMI_TEST_SEED: %v", err)
		}
	}
	t.Logf("progress: seed %d (TEGAMI_TEST_SEED repeats it)", seed)
	return seed
}

// Cycles returns how often a test breaks its server: as often as it says, or
// TEGAMI_TEST_CYCLES times, which the tests of planted bugs set.
func Cycles(usual int) int {
	if cycles, err := strconv.Atoi(os.Getenv("TEGAMI_TEST_CYCLES")); err == nil && cycles > 0 {
		return min(cycles, usual)
	}
	return usual
}

// New makes the users and signs their devices in. Nothing moves yet.
func New(t testing.TB, server *process.Server, options Options) *Workload {
	t.Helper()
	w := &Workload{History: checker.New(), t: t, server: server, options: options}
	w.ctx, w.abandon = context.WithCancel(t.Context())
	for i := range options.Users {
		w.users = append(w.users, fmt.Sprintf("user%03d", i))
	}
	server.CreateUsers(w.users...)
	servers := append([]*process.Server{server}, options.Also...)
	for i, user := range w.users {
		for n := range options.Devices {
			server := servers[(i+n)%len(servers)]
			name := fmt.Sprintf("device%d", n)
			w.devices = append(w.devices, &device{
				workload: w, user: user, name: name,
				client: server.Device(user, name), seen: w.History.Device(user, name, 0),
				rand: w.newRand(len(w.devices)),
			})
		}
	}
	if options.Mix > 0 {
		w.newMixers()
	}
	t.Cleanup(func() {
		w.abandon()
		w.StopSending()
		w.StopReceiving()
	})
	return w
}

// newRand returns the random numbers of one goroutine.
func (w *Workload) newRand(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(w.options.Seed, uint64(stream)))
}

// StartReceiving has every device poll.
func (w *Workload) StartReceiving() {
	ctx, stop := context.WithCancel(w.ctx)
	w.receiving.stop = stop
	for _, d := range w.readers() {
		w.receiving.Go(func() { d.poll(ctx) })
	}
	for _, c := range w.chats {
		w.receiving.Go(func() { c.visitor.read(ctx) })
	}
}

// StartSending has every user send.
func (w *Workload) StartSending() {
	ctx, stop := w.ctx, make(chan struct{})
	w.round++
	w.sending.stop = sync.OnceFunc(func() { close(stop) })
	for i, user := range w.users {
		for n := range w.options.Senders {
			s := &sender{
				workload: w, user: user, name: fmt.Sprintf("%s.%d.%d", user, n, w.round),
				client: w.devices[i*w.options.Devices].client,
				rand:   w.newRand(w.round<<20 + i*w.options.Senders + n),
			}
			w.sending.Go(func() { s.run(ctx, stop) })
		}
	}
	for _, m := range w.mixers {
		w.sending.Go(func() { m.run(ctx, stop) })
	}
}

// StopSending returns when every sender knows what became of its last message
// or gave it up. The server must run.
func (w *Workload) StopSending() { w.sending.end() }

// StopReceiving ends every poll.
func (w *Workload) StopReceiving() { w.receiving.end() }

func (r *running) end() {
	if r.stop != nil {
		r.stop()
	}
	r.Wait()
}

// Acked counts the messages that were acknowledged.
func (w *Workload) Acked() int64 { return w.acked.Load() }

// Tally counts what clients met with.
type Tally struct {
	// Acked counts messages; Unknown and TurnedAway count attempts to send one
	// that ended without an answer, or with the answer that the server cannot take
	// it now. Each was followed by another, until the sender knew or gave up.
	Acked, Unknown, TurnedAway int64
	// Answered and Failed count polls.
	Answered, Failed int64
}

// Tally returns what clients met with so far.
func (w *Workload) Tally() Tally {
	return Tally{
		Acked: w.acked.Load(), Unknown: w.unknown.Load(), TurnedAway: w.turnedAway.Load(),
		Answered: w.answered.Load(), Failed: w.failed.Load(),
	}
}

// Since returns what was added since an earlier tally.
func (t Tally) Since(before Tally) Tally {
	return Tally{
		Acked: t.Acked - before.Acked, Unknown: t.Unknown - before.Unknown, TurnedAway: t.TurnedAway - before.TurnedAway,
		Answered: t.Answered - before.Answered, Failed: t.Failed - before.Failed,
	}
}

// AwaitAcked waits until so many messages were acknowledged, and reports
// whether they were before the limit.
func (w *Workload) AwaitAcked(count int64, limit time.Duration) bool {
	return w.await(limit, func() bool { return w.Acked() >= count })
}

// await looks at a condition until it holds.
func (w *Workload) await(limit time.Duration, condition func() bool) bool {
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return condition()
		case <-look.C:
		}
	}
	return true
}

// latencies are how long messages took from the first attempt to the
// acknowledgement.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, took)
}

// TakeLatencies returns how long messages took from the first attempt to the
// acknowledgement, shortest first: those that were acknowledged since it was
// called last.
func (w *Workload) TakeLatencies() []time.Duration {
	w.took.mu.Lock()
	defer w.took.mu.Unlock()
	all := w.took.all
	w.took.all = nil
	slices.Sort(all)
	return all
}

// findings are answers that no client may ever get.
type findings struct {
	mu    sync.Mutex
	count int
	first []string
}

// maxFindings are kept: more of the same tells nothing.
const maxFindings = 10

func (f *findings) add(format string, arguments ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if len(f.first) < maxFindings {
		f.first = append(f.first, fmt.Sprintf(format, arguments...))
	}
}

// Unexpected returns the answers that no client may ever get: how many, and
// the first of them.
func (w *Workload) Unexpected() (int, []string) {
	w.unexpected.mu.Lock()
	defer w.unexpected.mu.Unlock()
	return w.unexpected.count, w.unexpected.first
}
