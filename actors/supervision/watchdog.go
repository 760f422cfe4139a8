package supervision

import (
	"bytes"
	"log/slog"
	"maps"
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
// and Leave; one that takes longer than the budget is counted by actor kind
// and message type, and while it still runs its goroutine's stack is logged,
// at most once a minute for each kind.
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

// Stall names what ran too long: a kind of actor, and the type of the message.
type Stall struct {
	Kind, Message string
}

// slotCount bounds how many running Receives are watched at once. More can
// only run when most of them are blocked, and then enough are seen. A Receive
// that finds no free slot after a few probes is counted, but not watched.
const (
	slotCount = 256
	probes    = 8
)

// A slot holds one running Receive. since is 0 when it is free, and nanoseconds
// since start otherwise.
type slot struct {
	since atomic.Int64
	kind  atomic.Pointer[Kind]
	_     [48]byte // keeps two slots off one cache line
}

var start = time.Now()

// Kind is a kind of actor: the name of its package below actors/ and, after a
// dot, the actor where the package has several. Make one for each, as a
// variable.
type Kind struct {
	Name string
	// Receive is how the actor's Receive appears in a stack, such as
	// "connection.(*connection).Receive".
	Receive string
}

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

// Running is a Receive between Enter and Leave.
type Running struct {
	watchdog *Watchdog
	slot     *slot
	kind     *Kind
	message  any
	began    int64
}

// Enter marks the beginning of a Receive. A nil Watchdog watches nothing.
func (w *Watchdog) Enter(kind *Kind, message any) Running {
	if w == nil {
		return Running{}
	}
	r := Running{watchdog: w, kind: kind, message: message, began: int64(time.Since(start)) | 1}
	first := rand.IntN(slotCount) //nolint:gosec // spreads load, guards nothing
	for i := range probes {
		s := &w.slots[(first+i)%slotCount]
		if s.since.Load() == 0 && s.since.CompareAndSwap(0, r.began) {
			s.kind.Store(kind)
			r.slot = s
			break
		}
	}
	return r
}

// Leave marks the end of a Receive.
func (r Running) Leave() {
	if r.watchdog == nil {
		return
	}
	if r.slot != nil {
		r.slot.since.Store(0)
	}
	if time.Duration(int64(time.Since(start))-r.began) > Budget {
		r.watchdog.count(Stall{Kind: r.kind.Name, Message: reflect.TypeOf(r.message).String()})
	}
}

// Counts returns how often each kind of actor ran over the budget, by message.
func (w *Watchdog) Counts() map[Stall]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.counts)
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
				w.report(s.kind.Load(), time.Duration(now-since))
			}
		}
	}
}

// report logs the stack of a Receive that is over its budget. Its slot may have
// been freed and taken again meanwhile: then the log names the newer Receive,
// which does no harm.
func (w *Watchdog) report(kind *Kind, running time.Duration) {
	if kind == nil { // taken a moment ago
		return
	}
	w.mu.Lock()
	last, seen := w.logged[kind.Name]
	due := !seen || time.Since(last) >= time.Minute
	if due {
		w.logged[kind.Name] = time.Now()
	}
	w.mu.Unlock()
	if !due {
		return
	}
	w.logger.Warn("actor runs over its budget", "actor", kind.Name, "running", running, "stack", stackOf("/"+kind.Receive+"("))
}

// stackOf returns the stack of a goroutine that is inside a function. Which
// one, if several are, does not matter: it is the kind of actor that blocks.
func stackOf(frame string) string {
	buffer := make([]byte, 1<<20)
	buffer = buffer[:runtime.Stack(buffer, true)]
	for stack := range bytes.SplitSeq(buffer, []byte("\n\n")) {
		if text := string(stack); strings.Contains(text, frame) {
			return text
		}
	}
	return ""
}
