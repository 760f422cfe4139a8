package writebehind

import (
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/persistence"
)

const (
	// publishEvents and publishBytes bound one batch of events.
	publishEvents = 512
	publishBytes  = 256 << 10
	// maxPublishRetry is the longest pause before a batch is repeated: others
	// wait for the events.
	maxPublishRetry = time.Second
)

// published tells what became of a batch of events.
type published struct {
	incarnation uint64
	err         error
}

// publishAgain: the batch that failed is to be repeated.
type publishAgain struct{ incarnation uint64 }

// eventsLane publishes the events of what is put, and hands it on to the store
// lane when they are durable: so what the store has is published, its
// checkpoint is the cursor of the events too, and a replay publishes again what
// may be missing. What waits goes when the batch in flight is done; there is no
// timer.
type eventsLane struct {
	*writer
	waiting []publication
	held    load          // of what waits
	flight  []publication // what is to be published now
	taken   load          // of it
	batch   []persistence.Event

	publishing bool
	retry      time.Duration
	// flushing: the store lane is to write at once what it is handed.
	flushing bool
}

// publication is a put that waits, with its events; or a drop, which waits for
// those put before it: what the store reads from the journal again is published
// too.
type publication struct {
	write  persistence.MailboxWrite
	events []persistence.Event
	bytes  int
	put    time.Time
	drop   *Drop // nil: a put
}

// records is 1 for a put.
func (p *publication) records() int {
	if p.drop != nil {
		return 0
	}
	return 1
}

func (l *eventsLane) put(ctx actor.Context, m *Put) {
	p := publication{write: *m.Write, put: time.Now()}
	for _, e := range m.Events {
		data, err := proto.Marshal(e)
		if err != nil { // only invalid UTF-8 fails, which no record holds
			l.Logger.Error("event does not encode", "shard", l.Shard, "offset", e.GetOffset(), "error", err)
			continue
		}
		p.events = append(p.events, persistence.Event{User: e.GetUser(), Data: data})
		p.bytes += len(data)
	}
	l.add(ctx, p)
}

func (l *eventsLane) drop(ctx actor.Context, m *Drop) {
	l.add(ctx, publication{drop: m, put: time.Now()})
}

func (l *eventsLane) add(ctx actor.Context, p publication) {
	if len(l.waiting) == 0 {
		l.held.since = p.put
	}
	l.waiting = append(l.waiting, p)
	l.held.records += p.records()
	l.held.bytes += p.bytes
	l.flush(ctx)
	l.note()
}

// pass hands to the store lane what is published.
func (l *eventsLane) pass(ctx actor.Context, p *publication) {
	if p.drop != nil {
		l.store.drop(ctx, p.drop)
		return
	}
	l.store.put(ctx, p.write)
}

// idle reports whether nothing is on its way to the store here.
func (l *eventsLane) idle() bool { return len(l.waiting) == 0 && len(l.flight) == 0 }

// flush starts publishing what waits, unless a batch is in flight or about to
// be repeated: then it goes when that one is done.
func (l *eventsLane) flush(ctx actor.Context) {
	if l.publishing || len(l.flight) > 0 {
		return
	}
	l.take(ctx)
	if len(l.flight) > 0 {
		l.publish(ctx)
	}
}

// take makes the next batch. What comes before its first event needs none, and
// goes on to the store.
func (l *eventsLane) take(ctx actor.Context) {
	n := 0
	for n < len(l.waiting) {
		p := &l.waiting[n]
		if len(l.batch) > 0 && (len(l.batch)+len(p.events) > publishEvents || l.taken.bytes+p.bytes > publishBytes) {
			break
		}
		l.held.records -= p.records()
		l.held.bytes -= p.bytes
		if len(l.batch) == 0 && len(p.events) == 0 {
			l.pass(ctx, p)
		} else {
			l.flight = append(l.flight, *p)
			l.batch = append(l.batch, p.events...)
			l.taken.records += p.records()
			l.taken.bytes += p.bytes
		}
		*p = publication{}
		n++
	}
	l.waiting = l.waiting[n:]
	l.held.since, l.taken.since = oldest(l.waiting), oldest(l.flight)
}

// oldest returns when the first was put; zero for none.
func oldest(publications []publication) time.Time {
	if len(publications) == 0 {
		return time.Time{}
	}
	return publications[0].put
}

// note tells the lag.
func (l *eventsLane) note() { l.Lag.Events.set(l.held, l.taken) }

func (l *eventsLane) publish(ctx actor.Context) {
	l.publishing = true
	root, self, incarnation := ctx.ActorSystem().Root, ctx.Self(), l.incarnation
	l.Publisher.Publish(l.batch, func(err error) {
		root.Send(self, &published{incarnation: incarnation, err: err})
	})
}

// done hands the batch on, or repeats it after a back-off that doubles.
func (l *eventsLane) done(ctx actor.Context, m *published) {
	l.publishing = false
	if errors.Is(m.err, persistence.ErrClosed) {
		return
	}
	if m.err != nil {
		l.retry = min(nextRetry(l.retry), maxPublishRetry)
		after(ctx, l.retry, &publishAgain{l.incarnation})
		return
	}
	l.retry = 0
	for i := range l.flight {
		l.pass(ctx, &l.flight[i])
	}
	clear(l.flight)
	l.flight, l.batch, l.taken = l.flight[:0], nil, load{} // a batch's array may still be read
	l.flush(ctx)
	l.note()
	if l.flushing {
		l.flushing = !l.idle()
		l.store.flush(ctx)
	}
}
