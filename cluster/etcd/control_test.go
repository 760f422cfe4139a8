//go:build stores

package etcd_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/etcd"
	"github.com/tegami-im/tegami/test/stack"
)

func state(name string, want cluster.State) func(cluster.Snapshot) bool {
	return func(s cluster.Snapshot) bool {
		for _, m := range s.Members {
			if m.Name == name {
				return m.State == want
			}
		}
		return false
	}
}

// A node that an operator drains does so in every run until it is undrained.
func TestADrainedNodeIsDrainedInEachRun(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, two := join(t, servers, "one"), join(t, servers, "two")
	if err := one.Drain(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	await(t, one, "draining", state("two", cluster.StateDraining))
	if err := two.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := join(t, servers, "two")
	await(t, one, "draining again", state("two", cluster.StateDraining))
	if isEvicted(again) {
		t.Error("evicted")
	}
	if err := one.Undrain(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	await(t, one, "active", state("two", cluster.StateActive))
}

// A shard stays where it was moved to until the move is ended, or the member is
// one no more.
func TestMovesEndWithTheMember(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, two := join(t, servers, "one"), join(t, servers, "two")
	moved := func(moves map[uint32]string) func(cluster.Snapshot) bool {
		return func(s cluster.Snapshot) bool {
			for shard, id := range moves {
				if s.Moves[shard] != id {
					return false
				}
			}
			return len(s.Moves) == len(moves)
		}
	}
	if err := one.Move(t.Context(), 3, "nobody"); !errors.Is(err, etcd.ErrNoMember) {
		t.Errorf("a move to nobody: %v", err)
	}
	for _, shard := range []uint32{3, 4, 5} {
		if err := one.Move(t.Context(), shard, two.Self().ID); err != nil {
			t.Fatal(err)
		}
	}
	id := two.Self().ID
	await(t, one, "moved", moved(map[uint32]string{3: id, 4: id, 5: id}))
	if err := one.EndMoves(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	await(t, two, "two of them", moved(map[uint32]string{3: id, 5: id}))
	if err := two.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, one, "none", moved(nil))
}

// What members tell of themselves goes with their state, and neither undoes the
// other.
func TestMembersTellWhatTheyServe(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, two := join(t, servers, "one"), join(t, servers, "two")
	set := func(shards uint32) cluster.ShardSet {
		return cluster.NewShardSet(64, func(shard uint32) bool { return shard < shards })
	}
	for n := range uint32(50) {
		two.Tell(set(n), "")
	}
	if err := two.SetState(t.Context(), cluster.StateDraining); err != nil {
		t.Fatal(err)
	}
	two.Tell(set(50), "journal")
	await(t, one, "told", func(s cluster.Snapshot) bool {
		m, _ := s.Member(two.Self().ID)
		return m.State == cluster.StateDraining && m.Serves == set(50) && m.Unfit == "journal"
	})
}

// A member that was replaced, and that etcd cannot tell so, leaves when there are
// signs enough. One that etcd knows, or of which there are no signs, stays.
func TestAMemberThatIsCutOffLeavesWhenOthersHaveItsShards(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	relay := stack.NewRelay(t, servers.Addr(stack.Etcd))
	cut := joinAt(t, relay.Addr(), "cut")
	stays := joinAt(t, relay.Addr(), "stays")
	doubted := join(t, servers, "doubted")
	relay.Refuse()
	every := time.NewTicker(lease / 8)
	defer every.Stop()
	for limit := time.After(limit); ; {
		cut.Doubt()
		doubted.Doubt()
		select {
		case <-every.C:
			continue
		case <-limit:
			t.Error("it does not leave")
		case <-cut.Evicted():
		}
		break
	}
	if isEvicted(stays) || isEvicted(doubted) {
		t.Errorf("one without signs: %v, one that etcd knows: %v", isEvicted(stays), isEvicted(doubted))
	}
	relay.Accept(t)
}
