package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// strangers returns two users who lie in different shards: of what one sends
// the other, only the copies are in the sender's.
func (c cell) strangers() (users map[string]talk.Session, from, to string) {
	c.t.Helper()
	from = "alice"
	for i := 0; to == ""; i++ {
		if name := fmt.Sprint("bob", i); c.places.Shard(name) != c.places.Shard(from) {
			to = name
		}
	}
	return c.join(from, to), from, to
}

// While the store stands still, commands under way must not push entries out
// of memory that are not in the store: a retry would find neither.
func TestRetryBehindManyCommandsFindsTheFirst(t *testing.T) {
	held := &heldJournal{Journal: memory.NewJournal(persistence.DurabilityFsync), shard: 1 << 30, hold: make(chan struct{})}
	options := slowWrites()
	options.Limits.WriteRecords = 1 << 30
	options.Journal, options.Store, options.Keys = held, memory.NewStore(), memory.NewKeys()
	c := start(t, options)
	users, from, to := c.strangers()
	first, err := c.send(users[from], to, "0", "hello")
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; err == nil; i++ {
		if i == mailbox.MaxDedupInMemory-200 {
			break // nearly all that may be unstored
		}
		_, err = c.send(users[from], to, strconv.Itoa(i), "hello")
	}
	if err != nil {
		t.Fatal(err)
	}

	held.shard = c.places.Shard(to) // the rest goes to the journal together
	answers := make(chan error, 600)
	under := func(id string, answer func(talk.Sent, error)) {
		c.Send(c.context(), talk.Send{
			From: from, FromDevice: users[from].Device, To: to, ClientMessageID: id, Body: talk.Body{Text: "hello"}, Answer: answer,
		})
	}
	for i := range cap(answers) {
		under(fmt.Sprint("under way ", i), func(_ talk.Sent, err error) { answers <- err })
	}
	type result struct {
		sent talk.Sent
		err  error
	}
	retried := make(chan result, 1)
	under("0", func(sent talk.Sent, err error) { retried <- result{sent, err} })
	close(held.hold)
	taken := 0
	for range cap(answers) {
		if err := <-answers; err == nil {
			taken++
		}
	}
	if taken == 0 {
		t.Error("none was taken though there was room")
	}
	again := <-retried
	if busy, ok := errors.AsType[*refusal.Refusal](again.err); (!ok || busy.Reason != refusal.Busy) && again.sent != first {
		t.Errorf("the retry was answered %v, %v; the first was %v", again.sent, again.err, first)
	}
}

// lookUps is a store whose look-ups of dedup entries wait to be let go, each
// by its number.
type lookUps struct {
	persistence.Store
	mu   sync.Mutex
	wait map[int]chan struct{} // by number, from 1 on; the others do not wait
	made int
}

func (s *lookUps) Dedup(ctx context.Context, shard uint32, name string, key [persistence.DedupKeySize]byte, notBefore int64) (persistence.DedupEntry, bool, error) {
	entry, found, err := s.Store.Dedup(ctx, shard, name, key, notBefore)
	s.mu.Lock()
	s.made++
	wait := s.wait[s.made]
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return entry, found, err
}

// Load has every mailbox with more entries than memory holds loaded without
// them, as it is with one that has a few times more.
func (s *lookUps) Load(ctx context.Context, shard uint32, name string, _ int) (*persistence.Mailbox, error) {
	return s.Store.Load(ctx, shard, name, mailbox.MaxDedupInMemory)
}

func (s *lookUps) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// busyDay fills a mailbox with so many commands that some of its dedup entries
// are in the store alone, stores everything, and returns a new node over it
// that stores nothing. Messages have the ids 0, 1, 2 ….
func busyDay(t *testing.T, store *lookUps) (c cell, users map[string]talk.Session, from, to string, first talk.Sent) {
	t.Helper()
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys()}
	before := start(t, options)
	users, from, to = before.strangers()
	var err error
	if first, err = before.send(users[from], to, "0", "hello"); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < messagesADay; i++ {
		before.until("sent", func() bool {
			_, err := before.send(users[from], to, strconv.Itoa(i), "hello")
			return err == nil
		})
	}
	if err := before.Drain(before.context()); err != nil {
		t.Fatal(err)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	slow := slowWrites()
	slow.Journal, slow.Store, slow.Keys = options.Journal, options.Store, options.Keys
	return start(t, slow), users, from, to, first
}

const messagesADay = mailbox.MaxDedupInMemory + 100

// What was answered before a restart is there for readers as soon as they are
// answered after it, however long the look-ups of the replay take.
func TestNoReaderIsAnsweredInTheMiddleOfAReplay(t *testing.T) {
	store := &lookUps{Store: memory.NewStore()}
	c, users, from, to, _ := busyDay(t, store)
	const more = 3
	for i := range more {
		if _, err := c.send(users[from], to, fmt.Sprint("more ", i), "hello"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil { // nothing of that is stored
		t.Fatal(err)
	}
	slow := make(chan struct{})
	store.wait = map[int]chan struct{}{store.count() + 1: slow}
	options := c.options
	again := start(t, options)
	const cursor = messagesADay + more
	again.until("looking up", func() bool { return store.count() > more })
	if head, err := again.Head(again.context(), to); err == nil && head.Revision != cursor {
		t.Errorf("the head is %d, it was %d", head.Revision, cursor)
	}
	answers, _ := again.poll(users[to], messagesADay, 0)
	if got := again.await(answers); got.refused == nil || got.refused.Reason != refusal.NotReady {
		t.Errorf("a read got %+v", got)
	}
	answers, _ = again.poll(users[to], cursor, time.Minute)
	select {
	case got := <-answers:
		t.Errorf("a poll from the newest operation got %+v", got)
	case <-time.After(50 * time.Millisecond):
	}
	close(slow)
	again.until("replayed", func() bool {
		head, err := again.Head(again.context(), to)
		return err == nil && head.Revision == cursor
	})
	if _, err := again.send(users[from], to, "the next", "hello"); err != nil {
		t.Fatal(err)
	}
	if got := again.await(answers); got.refused != nil || got.page.Revision != cursor+1 {
		t.Errorf("the held poll got %+v", got)
	}
}

// The answer to a look-up of a shard's last incarnation must not be taken for
// that to another one of this incarnation.
func TestLookUpDoesNotOutliveItsShard(t *testing.T) {
	store := &lookUps{Store: memory.NewStore()}
	c, users, from, to, first := busyDay(t, store)
	made := store.count()
	stale, slow := make(chan struct{}), make(chan struct{})
	store.wait = map[int]chan struct{}{made + 2: stale, made + 3: slow}
	// The entry of the first message is in the store alone.
	if again, err := c.send(users[from], to, "0", "hello"); err != nil || again != first {
		t.Fatalf("the retry got %v, %v; the first answer was %v", again, err, first)
	}
	c.Send(c.context(), talk.Send{
		From: from, FromDevice: users[from].Device, To: to, ClientMessageID: "new", Body: talk.Body{Text: "hello"},
		Answer: func(talk.Sent, error) {},
	})
	c.until("looking up what is not there", func() bool { return store.count() == made+2 })

	var once sync.Once
	// The refusal of an unknown recipient is the shard's own.
	c.system.Root.Send(c.shards[c.places.Shard(to)], &shard.Command{
		Record: &record.Record{Mailbox: "nobody", Kind: &record.Record_Trim{Trim: &record.Trim{}}},
		Answer: func(mailbox.Answer, *refusal.Refusal) { once.Do(func() { panic("planted") }) },
	})
	c.until("looking up the retry again", func() bool { return store.count() == made+3 })
	close(stale)
	<-time.After(50 * time.Millisecond) // until its answer has come
	close(slow)
	c.until("replayed", func() bool {
		again, err := c.send(users[from], to, "new", "hello")
		return err == nil && again != first
	})
	if head, err := c.Head(c.context(), to); err != nil || head.Revision != messagesADay+1 {
		t.Errorf("the head is %d, %v, after %d messages", head.Revision, err, messagesADay+1)
	}
}
