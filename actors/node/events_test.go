package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// unreliablePublisher fails now and then, also after it has published.
type unreliablePublisher struct {
	mu        sync.Mutex // guards the following
	rng       *rand.Rand
	fails     float64
	published []*eventsv1.Event
	revisions map[string]bool // published, as user/revision
}

func newUnreliablePublisher(fails float64) *unreliablePublisher {
	return &unreliablePublisher{rng: rand.New(rand.NewPCG(1, 0)), fails: fails, revisions: map[string]bool{}}
}

// recover ends its failures.
func (p *unreliablePublisher) recover() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = 0
}

var errUnpublished = errors.New("not published")

func (p *unreliablePublisher) Publish(events []persistence.Event, done func(error)) {
	go func() {
		p.mu.Lock()
		before, after := p.rng.Float64() < p.fails, p.rng.Float64() < p.fails
		if !before {
			p.take(events)
		}
		p.mu.Unlock()
		if before || after {
			done(errUnpublished)
			return
		}
		done(nil)
	}()
}

func (p *unreliablePublisher) take(events []persistence.Event) {
	for _, e := range events {
		decoded := new(eventsv1.Event)
		if err := proto.Unmarshal(e.Data, decoded); err != nil || decoded.User != e.User {
			panic(fmt.Sprint("event of ", e.User, ": ", decoded, err))
		}
		p.published = append(p.published, decoded)
		if revision := revisionOf(decoded); revision > 0 {
			p.revisions[fmt.Sprint(decoded.User, "/", revision)] = true
		}
	}
}

func (p *unreliablePublisher) has(user string, revision int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.revisions[fmt.Sprint(user, "/", revision)]
}

func revisionOf(e *eventsv1.Event) int64 {
	return max(e.GetMessageReceived().GetRevision(), e.GetMessageSent().GetRevision())
}

// afterEvents is a store that is written to only behind the events.
type afterEvents struct {
	persistence.Store
	t         *testing.T
	publisher *unreliablePublisher
}

func (s *afterEvents) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	for _, m := range batch.Mailboxes {
		for _, row := range m.Rows {
			if !s.publisher.has(m.Mailbox, row.Revision) {
				s.t.Errorf("%s revision %d is stored and not published", m.Mailbox, row.Revision)
			}
		}
	}
	return s.Store.Write(ctx, shard, batch)
}

// once returns the events of a user as a consumer sees them that ignores what
// is not above the highest that it has seen.
func (p *unreliablePublisher) once(user string) []*eventsv1.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var seen []*eventsv1.Event
	for _, e := range p.published {
		if e.User == user && (len(seen) == 0 || compareEvents(seen[len(seen)-1], e) < 0) {
			seen = append(seen, e)
		}
	}
	return seen
}

func compareEvents(a, b *eventsv1.Event) int {
	return slices.Compare(
		[]int64{int64(a.Generation), a.Offset, int64(a.Index)},
		[]int64{int64(b.Generation), b.Offset, int64(b.Index)},
	)
}

// Through crashes, and a publisher that fails, every operation of every mailbox
// has its event once, in order, for a consumer that ignores what it has seen.
func TestEveryOperationHasItsEvent(t *testing.T) {
	publisher := newUnreliablePublisher(0.4)
	store := memory.NewStore()
	options := Options{
		Journal: memory.NewJournal(persistence.DurabilityFsync), Keys: memory.NewKeys(), Publisher: publisher,
		Store: &afterEvents{Store: store, t: t, publisher: publisher}, Cache: memory.NewCache(),
	}
	options.setDefaults()
	options.Limits.MailboxesPerShard, options.Limits.Tick, options.Limits.WriteAge = 0, 10*time.Millisecond, 5*time.Millisecond
	names := []string{"alice", "bob", "carol", "dave"}
	var users map[string]talk.Session
	const lives, each = 8, 8
	for life := range lives {
		c := start(t, options)
		if life == 0 {
			users = c.join(names...)
		}
		for i := range each {
			for k, from := range names {
				id := fmt.Sprint(life, ".", i)
				if _, err := c.send(users[from], names[(i+k)%len(names)], id, "hello"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Close(); err != nil { // with whatever is under way
			t.Fatal(err)
		}
	}
	publisher.recover()
	c := start(t, options)
	if err := errors.Join(c.Drain(c.context()), c.Close()); err != nil {
		t.Fatal(err)
	}
	if waiting := c.Depths().Events; waiting.Records != 0 {
		t.Errorf("after a drain %d records wait for their events", waiting.Records)
	}
	for _, name := range names {
		operations := publisher.compare(c, store, name, "account", "session")
		if operations < lives*each {
			t.Errorf("%s has %d operations, which shows too little", name, operations)
		}
	}
	t.Logf("%d events of %d operations", len(publisher.published), len(publisher.revisions))
}

// While the store is away, records are dropped from memory and come to it from
// the journal later: their events are published all the same, before that, and
// in order.
func TestEventsThroughAnOutageOfTheStore(t *testing.T) {
	o := newOutage(t, nil, 6, 64)
	o.caughtUp() // what was stored without a publisher is never published
	publisher := newUnreliablePublisher(0.1)
	o.options.Publisher, o.options.Store = publisher, &afterEvents{Store: o.store, t: t, publisher: publisher}
	o.crash()
	for _, crashes := range []bool{false, true} {
		o.traffic(10)
		o.store.writes.Store(0)
		o.traffic(50)
		o.until("dropped", func() bool { return o.Depths().Dropped > 0 })
		o.bounded()
		if crashes {
			o.crash()
		}
		o.store.heal()
		o.traffic(10)
		o.caughtUp()
	}
	publisher.recover()
	o.judge()
	for _, name := range o.names {
		publisher.compare(o.cell, o.store, name)
	}
	t.Logf("%d events of %d operations", len(publisher.published), len(publisher.revisions))
}

// stuckPublisher answers nothing while it is stuck.
type stuckPublisher struct {
	*unreliablePublisher
	stuck atomic.Bool
}

func (p *stuckPublisher) Publish(events []persistence.Event, done func(error)) {
	if !p.stuck.Load() {
		p.unreliablePublisher.Publish(events, done)
	}
}

// What is dropped from memory stays there while its events wait: when they do
// not get published either, commands are refused.
func TestWhatWaitsForItsEventsIsBounded(t *testing.T) {
	o := newOutage(t, nil, 2, 64)
	publisher := &stuckPublisher{unreliablePublisher: newUnreliablePublisher(0)}
	o.options.Publisher = publisher
	o.crash()
	o.store.writes.Store(0)
	o.traffic(100)
	o.until("dropped", func() bool { return o.Depths().Dropped > 0 })
	publisher.stuck.Store(true)
	alice := o.users["alice"]
	for i := 0; ; i++ {
		_, err := o.send(alice, "alice", fmt.Sprint("stuck.", i), "hello")
		if refused := refusal.From(err); err != nil && refused.Reason == refusal.Busy {
			break
		}
		if i == 10*o.options.Limits.Unstored {
			t.Fatalf("%d messages were taken: %+v", i, o.Depths())
		}
	}
	if waiting := o.Depths().Events.Records; waiting > int64(2*4*o.options.Limits.Unstored) {
		t.Errorf("%d records wait for their events, for 4 shards with %d in memory and as many dropped", waiting, o.options.Limits.Unstored)
	}
}

// compare fails the test unless the events of a user are some others and then
// those of the mailbox, whose operations it counts.
func (p *unreliablePublisher) compare(c cell, store persistence.Store, name string, want ...string) int {
	c.t.Helper()
	rows, err := store.Operations(c.t.Context(), c.places.Shard(name), name, 0, 1<<30, 1<<20, 1<<30)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, row := range rows {
		want = append(want, describeRow(c.t, row))
	}
	var got []string
	for _, e := range p.once(name) {
		got = append(got, describeEvent(e))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("%s: events (-mailbox +published):\n%s", name, diff)
	}
	return len(rows)
}

func describeRow(t *testing.T, row persistence.Row) string {
	operation := new(record.Operation)
	if err := proto.Unmarshal(row.Data, operation); err != nil {
		t.Fatal(err)
	}
	if m := operation.GetReceiveMessage(); m != nil {
		return fmt.Sprint(row.Revision, " from ", m.From, " ", m.ClientMessageId)
	}
	m := operation.GetSendMessage()
	return fmt.Sprint(row.Revision, " to ", m.To, " ", m.ClientMessageId)
}

func describeEvent(e *eventsv1.Event) string {
	switch k := e.Kind.(type) {
	case *eventsv1.Event_MessageReceived:
		return fmt.Sprint(k.MessageReceived.Revision, " from ", k.MessageReceived.From, " ", k.MessageReceived.ClientMessageId)
	case *eventsv1.Event_MessageSent:
		return fmt.Sprint(k.MessageSent.Revision, " to ", k.MessageSent.To, " ", k.MessageSent.ClientMessageId)
	case *eventsv1.Event_AccountCreated:
		return "account"
	case *eventsv1.Event_SessionStarted:
		return "session"
	default:
		return fmt.Sprint(e)
	}
}

// A device that holds a poll when a message arrives needs no push.
func TestAbsentDevicesHoldNoPoll(t *testing.T) {
	publisher := newUnreliablePublisher(0)
	options := Options{
		Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(), Publisher: publisher,
	}
	c := start(t, options)
	users := c.join("alice", "bob")
	tablet, err := c.SignIn(c.context(), "bob", "bob-tablet", [32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	revision := int64(0)
	// received sends a message to bob and returns the devices that its event
	// names.
	received := func(from talk.Session) []string {
		revision++
		if _, err := c.send(from, "bob", fmt.Sprint(revision), "hello"); err != nil {
			t.Fatal(err)
		}
		c.until("published", func() bool { return publisher.has("bob", revision) })
		events := publisher.once("bob")
		return events[len(events)-1].GetMessageReceived().GetAbsentDevices()
	}
	// The poll may come to be held only when the message is there already.
	c.until("told of one device that holds a poll", func() bool {
		answers, _ := c.poll(tablet, revision, time.Minute)
		absent := received(users["alice"])
		c.await(answers)
		return slices.Equal(absent, []string{"bob-phone"})
	})
	if absent := received(users["bob"]); !slices.Equal(absent, []string{"bob-tablet"}) {
		t.Errorf("absent %v, want the tablet, which got its page; the phone sent it", absent)
	}
	if absent := received(users["alice"]); !slices.Equal(absent, []string{"bob-tablet", "bob-phone"}) {
		t.Errorf("absent %v, want both", absent)
	}
}

// What was dropped from memory while the store was away is published before the
// store has it, as everything is.
func TestWhatWasDroppedIsPublishedBeforeItIsStored(t *testing.T) {
	o := newOutage(t, nil, 6, 32)
	publisher := newUnreliablePublisher(0.2)
	if err := o.Drain(o.context()); err != nil { // what is not published is stored
		t.Fatal(err)
	}
	o.options.Publisher = publisher
	o.store.Store = &afterEvents{Store: o.store.Store, t: t, publisher: publisher}
	o.crash()
	o.traffic(5)
	o.store.away()
	o.traffic(40)
	o.bounded()
	o.until("dropped", func() bool { return o.Depths().Dropped > 0 })
	o.store.heal()
	o.traffic(20)
	o.caughtUp()
	o.judge()
}
