package node

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// heldJournal holds back what is appended to one shard.
type heldJournal struct {
	persistence.Journal
	shard uint32
	hold  chan struct{} // closed when appends may go on
}

func (j *heldJournal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	if shard != j.shard {
		j.Journal.Append(shard, records, done)
		return
	}
	go func() {
		<-j.hold
		j.Journal.Append(shard, records, done)
	}()
}

func TestAnswerWaitsForTheSendersCopy(t *testing.T) {
	held := &heldJournal{Journal: memory.NewJournal(persistence.DurabilityFsync), shard: 1 << 30, hold: make(chan struct{})}
	c := start(t, Options{Journal: held, Store: memory.NewStore(), Keys: memory.NewKeys()})
	users := c.join("alice", "bob", "carol", "dave", "erin")
	from, to := "alice", ""
	for _, name := range []string{"bob", "carol", "dave", "erin"} {
		if c.places.Shard(name) != c.places.Shard(from) {
			to = name
		}
	}
	if to == "" {
		t.Fatal("all users lie in one shard")
	}
	held.shard = c.places.Shard(from) // from here on nothing of Alice's own is durable

	answers := make(chan error, 1)
	c.Send(c.context(), talk.Send{
		From: from, FromDevice: users[from].Device, To: to, ClientMessageID: "1", Body: talk.Body{Text: "hello"},
		Answer: func(_ talk.Sent, err error) { answers <- err },
	})
	c.until("delivered", func() bool {
		head, err := c.Head(c.context(), to)
		return err == nil && head.Revision == 1
	})
	select {
	case err := <-answers:
		t.Errorf("answered before the sender's copy was durable: %v", err)
	default:
	}
	close(held.hold)
	select {
	case err := <-answers:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("never answered")
	}
}

// watchedStore checks after each write that no state is there without its rows.
type watchedStore struct {
	persistence.Store
	mu       sync.Mutex
	problems []string
}

func (s *watchedStore) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	if err := s.Store.Write(ctx, shard, batch); err != nil {
		return err
	}
	for _, write := range batch.Mailboxes {
		loaded, err := s.Load(ctx, shard, write.Mailbox, 1)
		if err != nil {
			return err
		}
		var state record.State
		if err := proto.Unmarshal(loaded.State, &state); err != nil {
			return err
		}
		rows, err := s.Operations(ctx, shard, write.Mailbox, 0, state.GetHead(), 1<<20, 1<<30)
		if err != nil {
			return err
		}
		if int64(len(rows)) != state.GetHead() {
			s.mu.Lock()
			s.problems = append(s.problems, fmt.Sprintf("%s: head %d with %d rows", write.Mailbox, state.GetHead(), len(rows)))
			s.mu.Unlock()
		}
	}
	return nil
}

func TestNoStateIsStoredWithoutItsRows(t *testing.T) {
	store := &watchedStore{Store: memory.NewStore()}
	c := start(t, Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys()})
	users := c.join("alice", "bob")
	for i := range 50 {
		if _, err := c.send(users["alice"], "bob", fmt.Sprint(i), "hello"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Drain(c.context()); err != nil {
		t.Fatal(err)
	}
	for _, problem := range store.problems {
		t.Error(problem)
	}
}

func TestMailboxStaysInMemoryUntilItIsStored(t *testing.T) {
	options := slowWrites()
	options.Limits.MailboxesPerShard = 1
	c := start(t, options)
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("user%02d", i))
	}
	users := c.join(names...)
	for round := range 3 {
		<-time.After(1100 * time.Millisecond) // a sweep, which may take none of them
		for i, name := range names {
			if _, err := c.send(users[names[(i+1)%len(names)]], name, fmt.Sprint(round), "hello"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range names {
		if head, err := c.Head(c.context(), name); err != nil || head.Revision != 6 {
			t.Errorf("%s: head %v, %v; want 6: three received, three copies", name, head, err)
		}
	}
}
