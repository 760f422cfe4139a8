package behaviour

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/supervision"
)

const (
	// Attempts is how often an event is tried before it is passed over.
	Attempts = 5
	// Timeout is how long a handler may take.
	Timeout = 10 * time.Second
	// minRetry is how long to wait after the first failure, twice as long after
	// each further one, up to maxRetry.
	minRetry = 100 * time.Millisecond
	maxRetry = time.Minute
	// maxDelay is how long a receiver of posts may have it wait.
	maxDelay = time.Hour
	// grace is how long a handler that took too long, or whose host ends, has to
	// return before it is left behind, and maxLeft how many may be left behind:
	// with so many, which may loop for ever, no further one is called.
	grace   = time.Second
	maxLeft = Attempts
	// backlog is how many bytes may wait to be posted before the behaviour is
	// asked about more.
	backlog = 64 << 10
	// stepBytes is where the messages of a step end, though never before the
	// first.
	stepBytes = 128 << 10
	// hold is the longest wait for operations at a time.
	hold = 25 * time.Second
)

// Outcome is what became of something, where outcomes are counted.
type Outcome string

// The outcomes.
const (
	// Handled is an event that led to a step, Failed an attempt that did not,
	// PassedOver an event that was given up.
	Handled    Outcome = "handled"
	Failed     Outcome = "failed"
	PassedOver Outcome = "passed_over"
	// Overtaken is a step that another host's was taken before.
	Overtaken Outcome = "overtaken"
	// Hops is a message that would have been a hop too far.
	Hops Outcome = "too_many_hops"
	// Posted is a post that was taken, Unposted an attempt that failed, Refused a
	// post that the receiver will never take.
	Posted   Outcome = "posted"
	Unposted Outcome = "unposted"
	Refused  Outcome = "refused"
)

// Options of Run. Kind, Self and Home must be given.
type Options struct {
	Kind *Kind
	// Self is the user id of the behaviour.
	Self string
	Home Home
	// Poster takes posts; nil: they are refused.
	Poster Poster
	// Judge tells whether an error of Poster means that trying again is of no use,
	// and otherwise how long the receiver wants it to wait, of which an hour counts
	// at most. Nil: neither.
	Judge func(error) (permanent bool, after time.Duration)
	// Observe counts outcomes, Stepped is told how long steps take from the
	// handler's call until they are durable. Both must be quick; nil counts
	// nothing.
	Observe func(Outcome)
	Stepped func(time.Duration)
	// Seed is that of each attempt's randomness; nil: seeds are random.
	Seed func() uint64
	// Logger is told what fails. Bodies are never logged.
	Logger *slog.Logger
}

// runner takes one behaviour on, step by step.
type runner struct {
	Options
	progress *Progress // nil: to be loaded

	// operations are read and not dealt with yet, cursor is the revision before
	// the first.
	operations []Operation
	cursor     int64
	event      retry // of the event that is next
	post       retry // of the post that is first
	unposted   supervision.Seldom
	// fired: a timer was dealt with last. Then an operation has its turn, so that
	// one who sets timer upon timer hears what others say.
	fired bool
	// calls is how many calls of the handler have not returned.
	calls atomic.Int32
}

// retry is when what failed is tried again.
type retry struct {
	of       any // what failed
	attempts int
	due      time.Time
}

// failed has something be tried again, not before a delay.
func (r *retry) failed(of any, now time.Time, after time.Duration) {
	if r.of != of {
		*r = retry{of: of}
	}
	r.due = now.Add(max(min(minRetry<<min(r.attempts, 20), maxRetry), after))
	r.attempts++
}

// over forgets about what failed, if that is what is over.
func (r *retry) over(of any) {
	if r.of == of {
		*r = retry{}
	}
}

// advance takes the next step, if there is one to take, or waits until there may
// be. It reports whether it did something. After an error it may be called again;
// the caller waits a while.
func (r *runner) advance(ctx context.Context) (did bool, err error) {
	if r.progress == nil {
		if err := r.load(ctx); err != nil {
			return false, err
		}
	}
	now := time.Now()
	effects := r.progress.Memory.GetEffects()
	var first *record.Effect
	if len(effects) > 0 {
		first = effects[0]
	}
	switch {
	case slices.ContainsFunc(effects, isSend):
		return r.commit(ctx, &Step{Cursor: r.cursor, Memory: r.progress.Memory}, now)
	case first != nil && !now.Before(r.post.due):
		return r.deliver(ctx, first)
	case now.Before(r.event.due):
		wait(ctx, r.event.due)
		return false, nil
	case first != nil && waiting(effects) >= backlog:
		wait(ctx, r.post.due)
		return false, nil
	}
	if timer := r.due(now); timer != nil && !r.fired {
		r.fired, err = r.fire(ctx, timer, now)
		return r.fired, err
	}
	if len(r.operations) == 0 {
		did, err = r.read(ctx, now)
		r.fired = r.fired && len(r.operations) > 0
		return did, err
	}
	did, err = r.consume(ctx, now)
	r.fired = r.fired && !did
	return did, err
}

func (r *runner) count(outcome Outcome) {
	if r.Observe != nil {
		r.Observe(outcome)
	}
}

// load reads how far the behaviour came, and checks that its state is this
// kind's.
func (r *runner) load(ctx context.Context) error {
	p, err := r.Home.Load(ctx)
	if err != nil {
		return err
	}
	if _, err := r.Kind.decode(p.Memory); err != nil {
		return err
	}
	if r.progress = p; p.Memory == nil {
		p.Memory = new(record.Memory)
	}
	r.operations, r.cursor = nil, p.Cursor
	r.event, r.post, r.fired = retry{}, retry{}, false
	return nil
}

// due returns the timer that is due the longest; nil for none.
func (r *runner) due(now time.Time) *record.Timer {
	if first := r.firstTimer(); first != nil && first.GetDueTime() <= now.UnixMilli() {
		return first
	}
	return nil
}

func (r *runner) firstTimer() *record.Timer {
	if len(r.progress.Timers) == 0 {
		return nil
	}
	return slices.MinFunc(r.progress.Timers, func(a, b *record.Timer) int {
		return cmp.Or(cmp.Compare(a.GetDueTime(), b.GetDueTime()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// wait waits until a time or until ctx ends.
func wait(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// read waits for operations, as long as nothing else is to be done: when a timer
// is due already, not at all.
func (r *runner) read(ctx context.Context, now time.Time) (bool, error) {
	until := now.Add(hold)
	if timer := r.firstTimer(); timer != nil {
		until = earlier(until, time.UnixMilli(timer.GetDueTime()))
	}
	if len(r.progress.Memory.GetEffects()) > 0 {
		until = earlier(until, r.post.due)
	}
	operations, err := r.Home.Read(ctx, r.cursor, until)
	if refused, ok := errors.AsType[*refusal.Refusal](err); ok {
		switch refused.Reason {
		case refusal.CursorTooOld:
			r.Logger.Warn("operations are no longer kept that the behaviour has not seen",
				"behaviour", r.Kind.name, "after", r.cursor, "goes_on_after", refused.ResumeRevision)
			r.cursor = max(refused.ResumeRevision, r.cursor)
			return false, nil
		case refusal.CursorAhead: // the journal went back, and the progress with it
			r.progress = nil
		default:
		}
	}
	r.operations = operations
	return false, err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// consume deals with the operation that is next.
func (r *runner) consume(ctx context.Context, now time.Time) (bool, error) {
	operation := r.operations[0]
	event := r.eventOf(operation)
	if event == nil { // nothing that a behaviour is asked about
		r.passOn()
		return false, nil
	}
	step := &Step{Cursor: operation.GetRevision()}
	did, err := r.take(ctx, event, step, operation.GetRevision(), now)
	if did && r.progress != nil && r.progress.Cursor >= operation.GetRevision() {
		r.passOn()
	}
	return did, err
}

func (r *runner) passOn() {
	r.cursor = r.operations[0].GetRevision()
	r.operations = r.operations[1:]
}

func (r *runner) eventOf(o Operation) Event {
	at := time.UnixMilli(o.GetTime())
	switch kind := o.GetKind().(type) {
	case *record.Operation_ReceiveMessage:
		m := kind.ReceiveMessage
		if m.GetFrom() == r.Self {
			return nil
		}
		return &Message{
			ID: string(m.GetMessageId()), From: m.GetFrom(), Chat: o.GetChat(), Body: o.Body,
			Time: at, Revision: o.GetRevision(), hops: m.GetHops(),
		}
	case *record.Operation_ChatChanged:
		return membershipOf(r.Self, o.Operation, at)
	case *record.Operation_Called:
		return &Call{Body: o.Call, Time: at, Revision: o.GetRevision()}
	default:
		return nil
	}
}

// fire deals with a timer that is due.
func (r *runner) fire(ctx context.Context, timer *record.Timer, now time.Time) (bool, error) {
	step := &Step{Cursor: r.cursor, Timers: []*record.Timer{{Name: timer.GetName()}}}
	event := &Timer{Name: timer.GetName(), Due: time.UnixMilli(timer.GetDueTime()), hops: timer.GetHops()}
	if len(timer.GetSealedPayload()) > 0 {
		payload, err := payloadOf(timer)
		if err != nil {
			return r.giveUp(ctx, step, err, now)
		}
		event.Payload = payload
	}
	return r.take(ctx, event, step, timer.GetName(), now)
}

func payloadOf(timer *record.Timer) (proto.Message, error) {
	packed := new(anypb.Any)
	if err := proto.Unmarshal(timer.GetSealedPayload(), packed); err != nil {
		return nil, err
	}
	return packed.UnmarshalNew()
}

// take has the handler deal with an event and commits what comes of it. of tells
// the event from others.
func (r *runner) take(ctx context.Context, event Event, step *Step, of any, now time.Time) (bool, error) {
	if left := r.calls.Load(); left >= maxLeft {
		return false, fmt.Errorf("%d calls of the handler have not returned: it is called again when one has", left)
	}
	c, memory, err := r.call(ctx, event, now)
	if ctx.Err() != nil {
		return false, ctx.Err() // the host ends: that is no failure of the handler's
	}
	var did bool
	if err == nil {
		full := *step
		full.Memory, full.Timers = memory, slices.Concat(step.Timers, c.timers)
		did, err = r.commit(ctx, &full, now)
		refused, ok := errors.AsType[*refusal.Refusal](err)
		if err != nil && (!ok || !refused.Reason.Durable()) {
			return false, err
		}
	}
	if err != nil { // the handler's fault, though only apply may have found it
		return r.failed(ctx, step, err, of, now)
	}
	r.event.over(of)
	if r.progress == nil { // another host was first
		return did, nil
	}
	r.count(Handled)
	for range c.dropped {
		r.count(Hops)
	}
	return did, nil
}

// failed counts an attempt, and passes the event over after the last.
func (r *runner) failed(ctx context.Context, step *Step, err error, of any, now time.Time) (bool, error) {
	r.count(Failed)
	r.event.failed(of, now, 0)
	if r.event.attempts < Attempts {
		r.Logger.Warn("behaviour failed; it is tried again", "behaviour", r.Kind.name, "attempt", r.event.attempts, "error", err)
		return false, nil
	}
	r.event.over(of)
	return r.giveUp(ctx, step, err, now)
}

// giveUp passes an event over: nothing comes of it, and it does not come again.
func (r *runner) giveUp(ctx context.Context, step *Step, cause error, now time.Time) (bool, error) {
	r.Logger.Error("behaviour failed; the event is passed over", "behaviour", r.Kind.name, "error", cause)
	step.Memory, step.Failed = r.progress.Memory, true
	did, err := r.commit(ctx, step, now)
	if did && r.progress != nil {
		r.count(PassedOver)
	}
	return did, err
}

// call calls the handler, in a goroutine of its own: one that does not come back
// when its context has ended is left behind.
func (r *runner) call(ctx context.Context, event Event, now time.Time) (*Context, *record.Memory, error) {
	state, err := r.Kind.decode(r.progress.Memory)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	c := &Context{ctx: ctx, self: r.Self, now: now, hops: event.hopsSoFar(), rand: newRand(r.seed())}
	if m, ok := event.(*Membership); ok && m.Is == Alone {
		c.Leave(m.Chat)
	}
	result := errors.New("the handler ended its goroutine")
	returned := make(chan struct{})
	r.calls.Add(1)
	go func() {
		defer func() {
			r.calls.Add(-1)
			close(returned)
		}()
		result = guarded(func() error { return r.Kind.handle(c, state, event) })
	}()
	select {
	case <-returned:
	case <-ctx.Done():
		last := time.NewTimer(grace)
		defer last.Stop()
		select {
		case <-returned:
		case <-last.C:
		}
		return nil, nil, fmt.Errorf("the handler takes too long: %w", ctx.Err())
	}
	if err := cmp.Or(result, c.err); err != nil {
		return nil, nil, err
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(state)
	if err != nil {
		return nil, nil, err
	}
	if len(encoded) > MaxState {
		return nil, nil, &LimitError{"bytes of state", MaxState}
	}
	return c, &record.Memory{
		Kind:      r.Kind.name,
		StateType: string(state.ProtoReflect().Descriptor().FullName()),
		State:     encoded,
		Effects:   slices.Concat(r.progress.Memory.GetEffects(), c.effects),
	}, nil
}
