package node

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// twoOwners starts two nodes that both believe to own every shard of one
// journal: what a split or a pause makes of a cluster at its worst.
func twoOwners(t *testing.T) (one, two cell) {
	options := Options{
		Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(),
	}
	return start(t, options), start(t, options)
}

func TestTwoOwnersComputeTheSameState(t *testing.T) {
	one, two := twoOwners(t)
	names := []string{"alice", "bob", "carol", "dave"}
	users := one.join(names...)

	const senders, each = 8, 60
	type key struct{ from, to, id string }
	var mu sync.Mutex
	answers := map[key]talk.Sent{}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(s), 1))
			for i := range each {
				from, to := names[random.IntN(4)], names[random.IntN(4)]
				k := key{from, to, fmt.Sprintf("%d-%d", s, i)}
				first, second := one, two
				if random.IntN(2) == 0 {
					first, second = two, one
				}
				got, err := first.send(users[from], to, k.id, k.id)
				if err != nil {
					t.Errorf("send: %v", err)
					return
				}
				if again, err := second.send(users[from], to, k.id, k.id); err != nil || again != got {
					t.Errorf("the other owner answered the retry %v, %v; the first answer was %v", again, err, got)
					return
				}
				mu.Lock()
				answers[k] = got
				mu.Unlock()
			}
		})
	}
	wg.Wait()

	received, copies := map[string]int{}, map[string]int{}
	for _, name := range names {
		head, err := one.Head(one.context(), name)
		if err != nil {
			t.Fatal(err)
		}
		two.until("as far as the other", func() bool {
			other, err := two.Head(two.context(), name)
			return err == nil && other == head
		})
		pages := [2]talk.Page{}
		for i, owner := range []cell{one, two} {
			answer, _ := owner.poll(users[name], 0, 0)
			for int64(len(pages[i].Operations)) < head.Revision {
				got := owner.await(answer)
				if got.refused != nil {
					t.Fatal(got.refused)
				}
				pages[i].Operations = append(pages[i].Operations, got.page.Operations...)
				answer, _ = owner.poll(users[name], got.page.Revision, 0)
			}
		}
		others := two.decoded(pages[1])
		for i, operation := range one.decoded(pages[0]) {
			if operation.GetRevision() != int64(i+1) {
				t.Fatalf("%s: operation %d has revision %d", name, i+1, operation.GetRevision())
			}
			other := others[i]
			if operation.String() != other.String() {
				t.Fatalf("%s: the owners disagree on revision %d:\n%v\n%v", name, i+1, operation, other)
			}
			if m := operation.GetReceiveMessage(); m != nil {
				received[string(m.GetMessageId())]++
			} else {
				copies[string(operation.GetSendMessage().GetMessageId())]++
			}
		}
	}
	for k, sent := range answers {
		id := string(sent.MessageID[:])
		wantCopies := 1
		if k.from == k.to {
			wantCopies = 0
		}
		if received[id] != 1 || copies[id] != wantCopies {
			t.Errorf("%v: %d times at the recipient, %d copies", k, received[id], copies[id])
		}
		delete(received, id)
	}
	if len(received) > 0 {
		t.Errorf("%d messages that nobody sent", len(received))
	}
}

func TestAnOwnerBehindDoesNotCallAGoodCursorTooNew(t *testing.T) {
	one, two := twoOwners(t)
	users := one.join("alice", "bob")
	for i := range 10 {
		if _, err := one.send(users["alice"], "bob", fmt.Sprint(i), "hello"); err != nil {
			t.Fatal(err)
		}
		answers, _ := two.poll(users["bob"], int64(i+1), 0)
		if got := two.await(answers); got.refused != nil && got.refused.Reason != refusal.NotReady {
			t.Fatalf("cursor %d, which the other owner gave: %v", i+1, got.refused)
		}
	}
}

// deaf is a journal that tells no owner of what another appends.
type deaf struct{ persistence.Journal }

func (deaf) Tail(uint32, func(int64)) (stop func()) { return func() {} }

// What one owner has answered, the other does not deny because it has not heard
// of it yet.
func TestAnOwnerBehindDeniesNothing(t *testing.T) {
	journal, store, keys := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore(), memory.NewKeys()
	one := start(t, Options{Journal: journal, Store: store, Keys: keys})
	two := start(t, Options{Journal: deaf{journal}, Store: store, Keys: keys})
	users := one.join("alice")
	for i := range 10 {
		name := fmt.Sprintf("user%d", i)
		session := one.join(name)[name]
		two.eventually(func() error { return two.CheckSession(two.context(), session) })
		other := fmt.Sprintf("other%d", i)
		one.join(other)
		two.eventually(func() error {
			_, err := two.send(users["alice"], other, fmt.Sprint(i), "hello")
			return err
		})
		if _, err := one.send(users["alice"], name, fmt.Sprint(i), "hello"); err != nil {
			t.Fatal(err)
		}
		two.eventually(func() error {
			head, err := two.Head(two.context(), name)
			if err == nil && head.Revision != 1 {
				t.Errorf("%s has revision %d, want 1", name, head.Revision)
			}
			return err
		})
	}
}

// eventually does what may be refused because an owner is not ready, and for no
// other reason.
func (c cell) eventually(do func() error) {
	c.t.Helper()
	c.until("done", func() bool {
		err := do()
		if err != nil && refusal.From(err).Reason != refusal.NotReady {
			c.t.Fatalf("refused: %v", err)
		}
		return err == nil
	})
}
