package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
)

// A gateway cannot reach one of two owners. Whoever writes to users of that one
// does not wait in Send, which a connection's reader calls, and those who write
// to users of the other are answered, however many wait for the first.
func TestAnOwnerThatIsAwayHoldsUpNobodyElse(t *testing.T) {
	f := newFleet(t)
	near := f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	near.until("each has its shards", func() bool {
		its := len(f.places().Owned("talk-2.1"))
		return f.serves("talk-2") == its && f.serves("talk-1") == fleetShards-its
	})
	const far = 200 // more than are read at a time from a store
	var here, away []string
	for i := 0; len(here) < 3 || len(away) < far; i++ {
		user := fmt.Sprintf("user%d", i)
		switch {
		case near.local(near.places.Shard(user)) == nil:
			away = append(away, user)
		case len(here) < 3:
			here = append(here, user)
		}
	}
	sessions := near.join(append(here, away[:far]...)...)

	f.network.Lose(func(from, to string) bool {
		return from == "talk-2" && to == "gateway-1" || from == "gateway-1" && to == "talk-2"
	})
	results := make(chan error, far)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		for _, user := range away[:far] {
			gateway.Send(t.Context(), talk.Send{
				From: here[0], To: user, ClientMessageID: "1", Body: talk.Body{Text: "hello"},
				Answer: func(_ talk.Sent, err error) { results <- err },
			})
		}
	}()
	select {
	case <-returned:
	case <-time.After(patience):
		t.Fatal("Send waits for an owner that is away")
	}
	if _, err := gateway.send(sessions[here[1]], here[2], "2", "hello"); err != nil {
		t.Errorf("a send that has nothing to do with it: %v", err)
	}
	f.network.Lose(nil)
	for range far {
		select {
		case err := <-results:
			if err != nil && refusal.From(err).Reason != refusal.StoreUnavailable {
				t.Errorf("a send that waited: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("a send has no answer")
		}
	}
}
