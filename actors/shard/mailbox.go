package shard

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/persistence"
)

var mailboxKind = &supervision.Kind{Name: "shard.mailbox", Receive: "shard.(*mailboxActor).Receive"}

// mailboxActor owns one mailbox. Until its state is loaded, what it is sent
// waits; while a dedup entry is looked up, its records wait.
type mailboxActor struct {
	*Environment
	shard       *actor.PID
	shardID     uint32
	status      *Status // of the shard
	name        string
	incarnation uint64

	state          *mailbox.State
	waiting        []any          // for the state
	records        []*applyRecord // for a dedup entry
	tail           tail
	storedRevision int64
	unstored       []revisionAt
	dropped        revisionAt // the newest that is not held until it is stored
	subscribers    subscribers
	trimming       bool      // a Trim is under way
	aged           time.Time // when operations too old were last looked for
}

// revisionAt is the head after the record at a position.
type revisionAt struct {
	position persistence.Position
	revision int64
}

// mailboxProps returns the props of all mailboxes of a shard. A mailbox takes
// its name from its address: props of its own would be most of what an idle
// one holds.
func mailboxProps(environment *Environment, shardID uint32, status *Status) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		return &mailboxActor{Environment: environment, shardID: shardID, status: status}
	}, actor.WithDispatcher(environment.Dispatcher), actor.WithMailbox(actor.UnboundedLockfree()))
}

// Receive implements actor.Actor.
func (b *mailboxActor) Receive(ctx actor.Context) {
	defer b.Watchdog.Enter(mailboxKind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		b.shard = ctx.Parent()
		b.name = path.Base(ctx.Self().GetId())
	case *begin:
		b.incarnation = m.incarnation
	case *loaded:
		b.load(ctx, m)
	case *passivate:
		b.passivate(ctx, m.polled)
	case *dedupRead:
		b.dedupRead(ctx, m)
	case *dedupAgain:
		if m.incarnation == b.incarnation {
			b.lookUp(ctx)
		}
	case *trimDue:
		if m.incarnation == b.incarnation && b.state != nil && !b.trimming {
			b.trim(ctx, m.first)
		}
	case *trimmed:
		if m.incarnation == b.incarnation {
			b.trimming = false
			b.aged = time.Time{} // there may be more
			b.retain(ctx)
		}
	case *actor.Restarting, *actor.Stopping:
		b.stop(ctx)
	case *applyRecord, addressed, *storedThrough, *droppedThrough:
		if b.state == nil {
			b.waiting = append(b.waiting, m)
			return
		}
		b.receive(ctx, m)
	}
}

// receive handles what needs the state.
func (b *mailboxActor) receive(ctx actor.Context, message any) {
	switch m := message.(type) {
	case *applyRecord:
		if len(b.records) > 0 {
			b.records = append(b.records, m)
			return
		}
		b.apply(ctx, m)
	case *storedThrough:
		b.stored(ctx, m.position)
	case *droppedThrough:
		b.drop(m.position)
	case *Unsubscribe:
		b.unsubscribe(m)
	case addressed:
		if b.behind() {
			m.refuse(refusal.After(refusal.NotReady, 200*time.Millisecond), ctx)
			return
		}
		b.read(ctx, m)
	}
}

// behind reports whether records wait here that may have been answered before:
// without them, readers would not see what they saw.
func (b *mailboxActor) behind() bool {
	return slices.ContainsFunc(b.records, func(m *applyRecord) bool { return m.read })
}

// read answers what asks about the mailbox.
func (b *mailboxActor) read(ctx actor.Context, message addressed) {
	switch m := message.(type) {
	case *Fetch:
		b.fetch(ctx, m)
	case *Inspect:
		b.inspect(m)
	case *History:
		b.history(m)
	}
}

func (b *mailboxActor) inspect(m *Inspect) {
	view := b.state.View()
	var refused *refusal.Refusal
	if m.Query != nil {
		view.Known, refused = b.state.Query(m.Query)
	}
	m.Answer(view, refused)
}

// load takes the state, applies the records that were dispatched beyond it,
// and then what waited.
func (b *mailboxActor) load(ctx actor.Context, m *loaded) {
	if m.incarnation != b.incarnation || b.state != nil {
		return
	}
	if m.err != nil {
		if passed, due := b.loadFails.Due(time.Now()); due {
			b.Logger.Warn("mailbox does not load; it is tried again", "shard", b.shardID, "others", passed, "error", m.err)
		}
		b.refuseWaiting(ctx)
		b.waiting = slices.DeleteFunc(b.waiting, func(message any) bool {
			_, ok := message.(*applyRecord) // it is loaded with the mailbox
			return ok
		})
		ctx.Send(b.shard, &loadFailed{mailbox: b.name, untold: errors.Is(m.err, errUntold)})
		return
	}
	b.state = m.state
	b.dropped = revisionAt{position: b.state.Position(), revision: b.state.Head()}
	waiting := b.waiting
	b.waiting = nil
	for i := range m.records {
		b.receive(ctx, &m.records[i])
	}
	b.drop(m.dropped)
	b.stored(ctx, m.stored)
	ctx.Send(b.shard, &ready{mailbox: b.name, exists: b.state.Exists()})
	for _, message := range waiting {
		b.receive(ctx, message)
	}
	b.retain(ctx)
}

// refuseWaiting answers those who can be told to come again; records wait on.
func (b *mailboxActor) refuseWaiting(ctx actor.Context) {
	kept := b.waiting[:0]
	for _, message := range b.waiting {
		if m, ok := message.(addressed); ok {
			m.refuse(refusal.After(refusal.StoreUnavailable, time.Second), ctx)
		} else {
			kept = append(kept, message)
		}
	}
	b.waiting = kept
}

// apply applies a record, unless its dedup entry has to be looked up first.
func (b *mailboxActor) apply(ctx actor.Context, m *applyRecord) {
	if _, needed := b.state.LookUp(m.record, m.time); needed {
		b.records = append(b.records, m)
		b.lookUp(ctx)
		return
	}
	b.applyWith(ctx, m, nil)
}

const lookUpTimeout = 5 * time.Second

// lookUp reads the dedup entry of the record that waits first.
func (b *mailboxActor) lookUp(ctx actor.Context) {
	m := b.records[0]
	notBefore, _ := b.state.LookUp(m.record, m.time)
	var key [persistence.DedupKeySize]byte
	copy(key[:], m.record.GetDedupKey())
	root, self, store, shardID, name, incarnation := ctx.ActorSystem().Root, ctx.Self(), b.Store, b.shardID, b.name, b.incarnation
	if !b.Workers.Load.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
		defer cancel()
		answer := &dedupRead{incarnation: incarnation}
		entry, found, err := store.Dedup(ctx, shardID, name, key, notBefore)
		if answer.err = err; found {
			answer.entry = &entry
		}
		root.Send(self, answer)
	}) {
		b.lookUpLater(ctx)
	}
}

func (b *mailboxActor) lookUpLater(ctx actor.Context) {
	root, self, again := ctx.ActorSystem().Root, ctx.Self(), &dedupAgain{b.incarnation}
	time.AfterFunc(minLoadWait, func() { root.Send(self, again) })
}

// dedupRead applies the record that waited for a dedup entry, and those behind
// it as far as they need none.
func (b *mailboxActor) dedupRead(ctx actor.Context, m *dedupRead) {
	if m.incarnation != b.incarnation || len(b.records) == 0 {
		return
	}
	if m.err != nil {
		ctx.Send(b.shard, &lookUpFailed{mailbox: b.name})
		b.lookUpLater(ctx)
		return
	}
	first := b.records[0]
	b.records = b.records[1:]
	b.applyWith(ctx, first, m.entry)
	for len(b.records) > 0 {
		next := b.records[0]
		if _, needed := b.state.LookUp(next.record, next.time); needed {
			b.lookUp(ctx)
			return
		}
		b.records = b.records[1:]
		b.applyWith(ctx, next, nil)
	}
	b.records = nil
}

func (b *mailboxActor) applyWith(ctx actor.Context, m *applyRecord, entry *persistence.DedupEntry) {
	result := &applied{
		position: m.position,
		outcome:  b.state.Apply(mailbox.Input{Position: m.position, Time: m.time, Record: m.record, Dedup: entry}),
		exists:   b.state.Exists(),
	}
	outcome := &result.outcome
	result.events = b.events(m, outcome)
	if outcome.Fault != "" {
		b.Logger.Error("apply failed; the record is refused", "shard", b.shardID, "offset", m.position.Offset, "fault", outcome.Fault)
	}
	ctx.Send(b.shard, result)
	for _, row := range outcome.Write.Rows {
		b.tail.push(row)
		b.unstored = append(b.unstored, revisionAt{position: m.position, revision: row.Revision})
	}
	if n := len(outcome.Operations); n > 0 {
		if b.wake(ctx, outcome.Operations[n-1]) && m.command != nil {
			b.Observe.Stage(Woken, time.Since(m.command.Accepted))
		}
	}
	for _, session := range outcome.Ended {
		b.end(ctx, session)
	}
	b.endOutsiders(ctx, outcome.Operations)
}

// stored lets operations go from memory that the store has.
func (b *mailboxActor) stored(ctx actor.Context, position persistence.Position) {
	if !position.Less(b.dropped.position) {
		b.storedRevision = max(b.storedRevision, b.dropped.revision)
	}
	if newest, some := b.release(position); some {
		b.storedRevision = newest.revision
	}
	b.shrink()
	b.retain(ctx)
}

// drop lets operations go from memory that the store may not have yet.
func (b *mailboxActor) drop(position persistence.Position) {
	if newest, some := b.release(position); some {
		b.dropped = newest
	}
	b.shrink()
}

// release takes those up to a position out of unstored and returns the newest.
func (b *mailboxActor) release(position persistence.Position) (newest revisionAt, some bool) {
	n := 0
	for n < len(b.unstored) && !position.Less(b.unstored[n].position) {
		newest, some = b.unstored[n], true
		n++
	}
	if b.unstored = b.unstored[n:]; len(b.unstored) == 0 {
		b.unstored = nil
	}
	return newest, some
}

func (b *mailboxActor) shrink() {
	b.tail.shrink(max(b.storedRevision, b.dropped.revision), b.Limits.TailOperations, b.Limits.TailBytes)
}

// passivate agrees to be stopped unless something waits here.
func (b *mailboxActor) passivate(ctx actor.Context, polled bool) {
	b.dropSilent(time.Now())
	agreed := len(b.records) == 0 && (polled || b.state != nil && b.subscribers.len() == 0 && !b.trimming)
	ctx.Send(b.shard, &passivated{mailbox: b.name, agreed: agreed})
}

// stop has every poll come again, to the next instance, and whoever waits for
// the state.
func (b *mailboxActor) stop(ctx actor.Context) {
	for i := range b.subscribers.polls {
		s := &b.subscribers.polls[i]
		ctx.Send(s.pid, &Fetched{Token: s.token, Reread: true})
	}
	b.subscribers = subscribers{}
	b.refuseWaiting(ctx)
}
