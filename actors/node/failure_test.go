package node

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
)

// slowWrites leaves what is applied unstored, so that a failure has something
// to lose.
func slowWrites() Options {
	var options Options
	options.setDefaults()
	options.Limits.WriteAge = time.Hour
	return options
}

func TestMailboxThatFailsLosesNothing(t *testing.T) {
	c := start(t, slowWrites())
	users := c.join("alice", "bob")
	for i := range 5 {
		if _, err := c.send(users["alice"], "bob", fmt.Sprint(i), "before"); err != nil {
			t.Fatal(err)
		}
	}
	answers, _ := c.poll(users["bob"], 5, time.Minute)
	c.system.Root.Send(c.shards[c.places.Shard("bob")], &shard.Inspect{
		Mailbox: "bob",
		With:    func(*mailbox.State, *refusal.Refusal) { panic("planted") },
	})
	if _, err := c.send(users["alice"], "bob", "after", "after"); err != nil {
		t.Fatal(err)
	}
	got := c.await(answers)
	if got.refused != nil || fmt.Sprint(c.texts("bob", got.page)) != "[after]" || got.page.Revision != 6 {
		t.Errorf("the poll that was held over the failure got %+v", got)
	}
	if _, err := c.send(users["alice"], "bob", "3", "before"); err != nil {
		t.Errorf("retry: %v", err)
	}
	if head, err := c.Head(c.context(), "bob"); err != nil || head.Revision != 6 {
		t.Errorf("head is %v, %v; want 6", head, err)
	}
}

func TestShardThatFailsOpensAgainAndLosesNothing(t *testing.T) {
	c := start(t, slowWrites())
	users := c.join("alice", "bob")
	first, err := c.send(users["alice"], "bob", "1", "before")
	if err != nil {
		t.Fatal(err)
	}
	answers, _ := c.poll(users["bob"], 1, time.Minute)
	var once sync.Once
	c.system.Root.Send(c.shards[c.places.Shard("bob")], &shard.Drain{Done: func() { once.Do(func() { panic("planted") }) }})

	// Until the shard is open again a send may be refused; a retry tells.
	var again talk.Sent
	c.until("open again", func() bool {
		again, err = c.send(users["alice"], "bob", "1", "before")
		return err == nil
	})
	if again != first {
		t.Errorf("the retry got %v, the first answer was %v", again, first)
	}
	if _, err := c.send(users["alice"], "bob", "2", "after"); err != nil {
		t.Fatal(err)
	}
	got := c.await(answers)
	if got.refused != nil || fmt.Sprint(c.texts("bob", got.page)) != "[after]" {
		t.Errorf("the poll that was held over the failure got %+v", got)
	}
}
