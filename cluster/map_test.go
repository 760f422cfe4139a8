package cluster

import (
	"fmt"
	"testing"
)

func TestEveryMailboxHasOneShardForEver(t *testing.T) {
	// These placements are stored in every data folder: they may never change.
	m, err := NewMap(1, 256, []Member{{ID: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	for user, shard := range map[string]uint32{"alice": m.Shard("alice"), "bob": m.Shard("bob")} {
		other, err := NewMap(7, 256, []Member{{ID: "b"}, {ID: "c"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := other.Shard(user); got != shard {
			t.Errorf("%s moved from shard %d to %d when the members changed", user, shard, got)
		}
	}
}

func TestNamesThatDifferInOneCharacterSpread(t *testing.T) {
	m, err := NewMap(1, 256, []Member{{ID: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	var users [256]int
	const n = 256 * 400
	for i := range n {
		users[m.Shard(fmt.Sprintf("user%07d", i))]++
	}
	for shard, count := range users {
		if count < 300 || count > 500 {
			t.Errorf("shard %d has %d of %d users, want about 400", shard, count, n)
		}
	}
}

func TestShardsMoveOnlyToOrFromTheMemberThatChanged(t *testing.T) {
	three := []Member{{ID: "10.0.0.11:8090"}, {ID: "10.0.0.12:8090"}, {ID: "10.0.0.13:8090"}}
	before, err := NewMap(1, 4096, three)
	if err != nil {
		t.Fatal(err)
	}
	after, err := NewMap(2, 4096, three[:2])
	if err != nil {
		t.Fatal(err)
	}
	owned := map[Member]int{}
	for shard := range uint32(4096) {
		owned[before.Owner(shard)]++
		if was := before.Owner(shard); was != three[2] && after.Owner(shard) != was {
			t.Fatalf("shard %d moved from %v, which stayed", shard, was)
		}
	}
	for _, member := range three {
		if n := owned[member]; n < 1200 || n > 1540 {
			t.Errorf("%s owns %d of 4096 shards, want about a third", member.ID, n)
		}
	}
}

func TestMapRefusesWhatCannotBePlaced(t *testing.T) {
	for name, test := range map[string]struct {
		shards  int
		members []Member
	}{
		"no shards":       {0, []Member{{ID: "a"}}},
		"too many shards": {MaxShards + 1, []Member{{ID: "a"}}},
		"no members":      {256, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewMap(1, test.shards, test.members); err == nil {
				t.Error("no error")
			}
		})
	}
}
