package supervision

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Budget is how long one Receive may run before the watchdog counts it.
const Budget = 10 * time.Millisecond

// Watchdog finds actors that block. Every Receive of ours runs between Enter
// and the function that it returns; one that takes longer than the budget is
// counted by actor kind and message type, and while it still runs its
// goroutine's stack is logged, at most once a minute for each kind.
//
// It is the tool for the fault this system's design starts from: one event
// loop held up by one disk read.
type Watchdog struct {
	logger *slog.Logger
	stop   chan struct{}
	done   chan struct{}
	slots  [slotCount]slot

	mu     sync.Mutex
	counts map[Stall]uint64
	logged map[string]time.Time // when a stack of this kind was last logged
}

// Stall names what ran too long.
type Stall struct {
	Kind, Message string
}

// slotCount bounds how many running Receives are watched at once. More can
// only run when most of them are blocked, and then enough are seen.
const slotCount = 256

// A slot holds one running Receive. since is 0 when it is free, and nanoseconds
// since start otherwise.
type slot struct {
	since   atomic.Int64
	kind    atomic.Pointer[string]
	message atomic.Pointer[reflect.Type]
	_       [40]byte // keeps two slots off one cache line
}

var start = time.Now()

// NewWatchdog starts watching. Close stops it.
func NewWatchdog(logger *slog.Logger) *Watchdog {
	w := &Watchdog{
		logger: logger,
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		counts: make(map[Stall]uint64),
		logged: make(map[string]time.Time),
	}
	go w.watch()
	return w
}

// Enter marks the beginning of a Receive; the function that it returns marks
// its end. kind must be a constant of the caller's, and outlive the call. A
// nil Watchdog watches nothing.
func (w *Watchdog) Enter(kind *string, message any) (leave func()) {
	if w == nil {
		return func() {}
	}
	began := int64(time.Since(start)) | 1
	var taken *slot
	for i, n := rand.IntN(slotCount), 0; n < 8; i, n = (i+1)%slotCount, n+1 {
		if s := &w.slots[i]; s.since.Load() == 0 && s.since.CompareAndSwap(0, began) {
			messageType := reflect.TypeOf(message)
			s.kind.Store(kind)
			s.message.Store(&messageType)
			taken = s
			break
		}
	}
	return func() {
		if taken != nil {
			taken.since.Store(0)
		}
		if time.Duration(int64(time.Since(start))-began) > Budget {
			w.count(Stall{*kind, reflect.TypeOf(message).String()})
		}
	}
}

// Counts returns how often each kind of actor ran over the budget, by message.
func (w *Watchdog) Counts() map[Stall]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := make(map[Stall]uint64, len(w.counts))
	for stall, n := range w.counts {
		counts[stall] = n
	}
	return counts
}

// Close stops the watchdog.
func (w *Watchdog) Close() {
	close(w.stop)
	<-w.done
}

func (w *Watchdog) count(stall Stall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[stall]++
}

func (w *Watchdog) watch() {
	defer close(w.done)
	ticker := time.NewTicker(Budget)
	defer ticker.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		now := int64(time.Since(start))
		for i := range w.slots {
			s := &w.slots[i]
			if since := s.since.Load(); since != 0 && time.Duration(now-since) > Budget {
				w.report(s, time.Duration(now-since))
			}
		}
	}
}

// report logs the stack of a Receive that is over its budget. The slot may
// have been freed and taken again meanwhile: then the log names the newer
// Receive, which does no harm.
func (w *Watchdog) report(s *slot, running time.Duration) {
	kind, message := s.kind.Load(), s.message.Load()
	if kind == nil || message == nil {
		return
	}
	w.mu.Lock()
	last, seen := w.logged[*kind]
	due := !seen || time.Since(last) >= time.Minute
	if due {
		w.logged[*kind] = time.Now()
	}
	w.mu.Unlock()
	if !due {
		return
	}
	w.logger.Warn("actor runs over its budget",
		"actor", *kind, "message", (*message).String(), "running", running,
		"stack", stackOf("actors/"+*kind+"."))
}

// stackOf returns the stack of a goroutine that is inside a package whose path
// ends in the given text. Which of several does not matter: each is inside
// a Receive.
func stackOf(frame string) string {
	buffer := make([]byte, 1<<20)
	buffer = buffer[:runtime.Stack(buffer, true)]
	for stack := range bytes.SplitSeq(buffer, []byte("\n\n")) {
		if text := string(stack); strings.Contains(text, frame) && strings.Contains(text, ".Receive(") {
			return text
		}
	}
	return ""
}
