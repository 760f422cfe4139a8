package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// An answer promises that both mailboxes have it. Asking once more for what is
// under way is no way around that: neither by a record of its own, which comes
// to nothing, nor by a second copy of the first, as an append of unknown outcome
// leaves.
func TestAskingAgainWaitsForTheFollowUpsOfTheFirst(t *testing.T) {
	held := &heldJournal{Journal: memory.NewJournal(persistence.DurabilityFsync), shard: 1 << 30, hold: make(chan struct{})}
	c := start(t, Options{Journal: held, Store: memory.NewStore(), Keys: memory.NewKeys()})
	home, other := "alice", "bob"
	for i := 0; c.places.Shard(other) == c.places.Shard(home); i++ {
		other = fmt.Sprint("bob", i)
	}
	sessions := c.join(home, other)
	held.shard = c.places.Shard(other) // from here on nothing of the other's is durable

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answers := make(chan error, 4)
	ask := func(r *record.Record) {
		c.command(shard.Command{
			Record: r, Accepted: time.Now(), Deadline: time.Now().Add(patience),
			Answer: func(_ mailbox.Answer, refused *refusal.Refusal) {
				if refused != nil {
					answers <- refused
					return
				}
				answers <- nil
			},
		}, 0, false)
	}
	befriend := func(action talk.FriendAction) *record.Record {
		r := c.newRecord(home)
		r.Kind = &record.Record_Befriend{Befriend: &record.Befriend{Actor: home, Peer: other, Action: action}}
		return r
	}
	ask(befriend(talk.RequestFriend))
	ask(befriend(talk.RequestFriend))
	remove := befriend(talk.RemoveFriend)
	ask(remove)
	ask(proto.CloneOf(remove))
	// What Alice does alone waits for nobody, and is applied behind all that.
	if err := c.UpdateSettings(ctx, sessions[home], &record.Settings{Language: new("ja")}, []string{"language"}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answers:
		t.Errorf("answered before the other mailbox has it: %v", err)
	default:
	}
	close(held.hold)
	for range 4 {
		select {
		case err := <-answers:
			if err != nil {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Fatal("never answered")
		}
	}
}
