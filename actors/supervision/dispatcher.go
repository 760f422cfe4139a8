package supervision

import "github.com/asynkron/protoactor-go/actor"

// NewDispatcher returns a dispatcher that runs actors on goroutines which it
// keeps: an actor that is woken by every message would else pay each time for
// a new goroutine and the growth of its stack. At most idle goroutines wait
// for work; any number run, so that an actor never waits for another. Stop
// ends the idle ones, and each of the others after its work.
func NewDispatcher(idle int) *Dispatcher {
	return &Dispatcher{work: make(chan func()), idle: make(chan struct{}, idle), stopped: make(chan struct{})}
}

// Dispatcher implements actor.Dispatcher.
type Dispatcher struct {
	work    chan func() // unbuffered: only a goroutine that waits takes from it
	idle    chan struct{}
	stopped chan struct{}
}

var _ actor.Dispatcher = (*Dispatcher)(nil)

// throughput is how many messages an actor handles before it yields.
const throughput = 300

// Throughput implements actor.Dispatcher.
func (d *Dispatcher) Throughput() int { return throughput }

// Schedule implements actor.Dispatcher.
func (d *Dispatcher) Schedule(run func()) {
	select {
	case d.work <- run:
	default:
		go d.serve(run)
	}
}

// Stop ends the goroutines that wait for work. Actors may still be scheduled.
func (d *Dispatcher) Stop() { close(d.stopped) }

func (d *Dispatcher) serve(run func()) {
	for {
		run()
		select {
		case d.idle <- struct{}{}:
		default:
			return // enough wait already
		}
		select {
		case run = <-d.work:
			<-d.idle
		case <-d.stopped:
			return
		}
	}
}
