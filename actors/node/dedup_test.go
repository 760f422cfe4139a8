package node

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
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
	if busy, ok := again.err.(*refusal.Refusal); (!ok || busy.Reason != refusal.Busy) && again.sent != first {
		t.Errorf("the retry was answered %v, %v; the first was %v", again.sent, again.err, first)
	}
}
