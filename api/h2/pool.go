package h2

// pool runs tasks on goroutines that it keeps: a new one for each answer would
// pay each time for the growth of its stack. Any number run; at most cap(idle)
// wait for work.
type pool struct {
	work    chan task // unbuffered: only a goroutine that waits takes from it
	idle    chan struct{}
	stopped chan struct{}
}

// task is what a goroutine of the pool does.
type task interface{ run() }

// taskFunc is a function as a task.
type taskFunc func()

func (f taskFunc) run() { f() }

func newPool(idle int) *pool {
	return &pool{work: make(chan task), idle: make(chan struct{}, idle), stopped: make(chan struct{})}
}

// start runs a task, without waiting for anything.
func (p *pool) start(t task) {
	select {
	case p.work <- t:
	default:
		go p.serve(t)
	}
}

// stop ends the goroutines that wait for work, and the others after theirs.
func (p *pool) stop() { close(p.stopped) }

func (p *pool) serve(t task) {
	for {
		t.run()
		select {
		case p.idle <- struct{}{}:
		default:
			return // enough wait already
		}
		select {
		case t = <-p.work:
			<-p.idle
		case <-p.stopped:
			return
		}
	}
}
