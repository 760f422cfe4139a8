package node

import (
	"fmt"
	"testing"

	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// The lag is told apart for store and cache: one that is away does not hold up
// the other.
func TestLagOfAStoreThatIsDown(t *testing.T) {
	store := &downStore{Store: memory.NewStore()}
	options := Options{
		Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys(), Cache: memory.NewCache(),
	}
	options.setDefaults()
	c := start(t, options)
	alice := c.join("alice")["alice"]
	// What was answered may be on its way to the store's lane.
	c.until("nothing to wait", func() bool { return c.unstored.Load() == 0 && c.Depths().Store == writebehind.Behind{} })
	store.down.Store(true)
	const sent = 5
	for i := range sent {
		if _, err := c.send(alice, "alice", fmt.Sprint(i), "to myself"); err != nil {
			t.Fatal(err)
		}
	}
	c.until("all to wait for the store, and nothing for the cache", func() bool {
		d := c.Depths()
		return d.Store.Records == sent && d.Store.Bytes > 0 && d.Store.Age > 0 && d.Cache == writebehind.Behind{}
	})
	store.down.Store(false)
	c.until("nothing to wait again", func() bool { return c.Depths().Store == writebehind.Behind{} })
}
