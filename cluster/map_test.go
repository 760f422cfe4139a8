package cluster_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/cluster"
)

// talk returns an active member of the usual weight.
func talk(name string) cluster.Member {
	return cluster.Member{
		ID: name, Name: name, Address: name + ":7500", Role: cluster.RoleTalk,
		State: cluster.StateActive, Weight: cluster.DefaultWeight,
	}
}

// fleet returns members as they are in reality: their ids differ in the number
// of the node and in what names the run.
func fleet(n int, runs uint64) []cluster.Member {
	members := make([]cluster.Member, n)
	for i := range members {
		members[i] = talk(fmt.Sprintf("talk-%d.%08x", i+1, (runs+1)*uint64(i+1)*2654435761&math.MaxUint32))
	}
	return members
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func place(t fataler, shards int, members ...cluster.Member) *cluster.Map {
	t.Helper()
	snapshot, err := cluster.NewSnapshot(1, members)
	if err != nil {
		t.Fatal(err)
	}
	m, err := cluster.NewMap(shards, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ownerOf returns the id of the member that owns a shard; empty for nobody.
func ownerOf(m *cluster.Map, shard int) string {
	owner, _ := m.Owner(uint32(shard))
	return owner.ID
}

// largest returns how many times its fair share the member has that has most.
func largest(m *cluster.Map, members []cluster.Member) float64 {
	most, weights := 0.0, 0
	for _, member := range members {
		weights += member.Weight
	}
	for _, member := range members {
		fair := float64(m.Shards()*member.Weight) / float64(weights)
		most = max(most, float64(len(m.Owned(member.ID)))/fair)
	}
	return most
}

// moves counts the shards that change owners.
func moves(before, after *cluster.Map) (n int) {
	for shard := range before.Shards() {
		if ownerOf(before, shard) != ownerOf(after, shard) {
			n++
		}
	}
	return n
}

func TestEveryMailboxHasOneShardForEver(t *testing.T) {
	// What is stored depends on these.
	for user, want := range map[string]uint32{"alice": 117, "bob": 12, "": 48} {
		for _, m := range []*cluster.Map{place(t, 256), place(t, 256, talk("a")), place(t, 256, talk("b"), talk("c"))} {
			if got := m.Shard(user); got != want {
				t.Errorf("%q is in shard %d, want %d", user, got, want)
			}
		}
	}
}

func TestNamesThatDifferInOneCharacterSpread(t *testing.T) {
	var users [256]int
	const n = 256 * 400
	for i := range n {
		users[cluster.ShardOf(fmt.Sprintf("user%07d", i), len(users))]++
	}
	for shard, count := range users {
		if count < 300 || count > 500 {
			t.Errorf("shard %d has %d of %d users, want about 400", shard, count, n)
		}
	}
}

// TestPlacementIsEvenAndMovesLittle prints the table that docs/cluster.md has.
// The least that can move is what the member that joins gets, and what the one
// that leaves had.
func TestPlacementIsEvenAndMovesLittle(t *testing.T) {
	const trials = 50
	t.Log("nodes shards  largest/mean  moves/least: the last joins, mean worst  one leaves, mean worst")
	for _, size := range []struct{ nodes, shards, trials int }{
		{3, 256, trials},
		{4, 256, trials},
		{5, 256, trials},
		{6, 256, trials},
		{7, 256, trials},
		{8, 256, trials},
		{9, 256, trials},
		{10, 256, trials},
		{100, 4096, 3},
	} {
		var most float64
		var joined, left ratios
		for trial := range uint64(size.trials) {
			members := fleet(size.nodes, trial)
			all := place(t, size.shards, members...)
			most = max(most, largest(all, members))

			last := size.nodes - 1
			joined.add(moves(place(t, size.shards, members[:last]...), all), len(all.Owned(members[last].ID)))
			gone := int(trial) % size.nodes
			rest := slices.Concat(members[:gone], members[gone+1:])
			left.add(moves(all, place(t, size.shards, rest...)), len(all.Owned(members[gone].ID)))
		}
		t.Logf("%5d %6d %13.3f %35.2f %5.2f %17.2f %5.2f",
			size.nodes, size.shards, most, joined.mean(), joined.worst, left.mean(), left.worst)
		if most > 1.15 {
			t.Errorf("%d nodes: the largest has %.3f of its share, want 1.15 at most", size.nodes, most)
		}
		if worst := max(joined.worst, left.worst); worst > 1.5 {
			t.Errorf("%d nodes: a change moves %.2f times the least, want 1.5 at most", size.nodes, worst)
		}
	}
}

type ratios struct {
	sum, worst float64
	n          int
}

func (r *ratios) add(moved, least int) {
	ratio := float64(moved) / float64(least)
	r.sum, r.worst, r.n = r.sum+ratio, max(r.worst, ratio), r.n+1
}

func (r *ratios) mean() float64 { return r.sum / float64(r.n) }

func TestWhatAMemberLeavesIsSpreadOverTheOthers(t *testing.T) {
	members := fleet(6, 1)
	before, after := place(t, 4096, members...), place(t, 4096, members[1:]...)
	heirs := map[string]int{}
	for _, shard := range before.Owned(members[0].ID) {
		owner, _ := after.Owner(shard)
		heirs[owner.ID]++
	}
	fair := float64(len(before.Owned(members[0].ID))) / 5
	for _, member := range members[1:] {
		if n := float64(heirs[member.ID]); n < 0.6*fair || n > 1.4*fair {
			t.Errorf("%s inherits %.0f shards, want about %.0f", member.ID, n, fair)
		}
	}
}

func TestPlacementProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 600).Draw(t, "shards")
		members := fleet(rapid.IntRange(1, 12).Draw(t, "members"), rapid.Uint64Range(0, 1000).Draw(t, "runs"))
		total := 0
		for i := range members {
			members[i].Weight = rapid.SampledFrom([]int{1, 50, 100, 100, 100, 200, cluster.MaxWeight}).Draw(t, "weight")
			total += members[i].Weight
		}
		m := place(t, shards, members...)
		shuffled := rapid.Permutation(members).Draw(t, "in another order")
		if n := moves(m, place(t, shards, shuffled...)); n > 0 {
			t.Fatalf("%d shards depend on the order of the members", n)
		}
		owned := 0
		for _, member := range members {
			n := len(m.Owned(member.ID))
			owned += n
			if most := math.Ceil(1.1*float64(shards*member.Weight)/float64(total) + 1e-9); float64(n) > most {
				t.Fatalf("%s of weight %d of %d owns %d of %d shards, want %.0f at most", member.ID, member.Weight, total, n, shards, most)
			}
		}
		if owned != shards {
			t.Fatalf("%d of %d shards are owned", owned, shards)
		}
	})
}

func TestWeightsCount(t *testing.T) {
	members := fleet(4, 3)
	members[0].Weight = 300
	m := place(t, 4096, members...)
	if n := len(m.Owned(members[0].ID)); n < 1950 || n > 2253 {
		t.Errorf("a member of half of the weight owns %d of 4096 shards", n)
	}
}

func TestOnlyActiveTalkMembersOwnShards(t *testing.T) {
	as := func(name string, change func(*cluster.Member)) cluster.Member {
		m := talk(name)
		change(&m)
		return m
	}
	m := place(
		t, 64, talk("a"), talk("b"),
		as("gateway", func(m *cluster.Member) { m.Role = cluster.RoleGateway }),
		as("worker", func(m *cluster.Member) { m.Role = cluster.RoleWorker }),
		as("joining", func(m *cluster.Member) { m.State = cluster.StateJoining }),
		as("draining", func(m *cluster.Member) { m.State = cluster.StateDraining }),
	)
	if a, b := len(m.Owned("a")), len(m.Owned("b")); a+b != 64 {
		t.Errorf("a owns %d and b %d of 64 shards", a, b)
	}
}

func TestNobodyOwnsShardsWithoutMembers(t *testing.T) {
	m := place(t, 16)
	for shard := range uint32(16) {
		if owner, ok := m.Owner(shard); ok {
			t.Errorf("shard %d is owned by %v", shard, owner)
		}
	}
}

func TestMapRefusesWhatCannotBePlaced(t *testing.T) {
	for _, shards := range []int{-1, 0, cluster.MaxShards + 1} {
		if _, err := cluster.NewMap(shards, cluster.Snapshot{}); err == nil {
			t.Errorf("%d shards: no error", shards)
		}
	}
}

func TestSnapshotRefusesWhatIsNoMember(t *testing.T) {
	for name, change := range map[string]func(*cluster.Member){
		"no id":        func(m *cluster.Member) { m.ID = "" },
		"no address":   func(m *cluster.Member) { m.Address = "" },
		"no such role": func(m *cluster.Member) { m.Role = "king" },
		"no state":     func(m *cluster.Member) { m.State = "" },
		"no weight":    func(m *cluster.Member) { m.Weight = 0 },
		"too heavy":    func(m *cluster.Member) { m.Weight = cluster.MaxWeight + 1 },
		"twice":        func(m *cluster.Member) { m.ID = "a" },
	} {
		t.Run(name, func(t *testing.T) {
			b := talk("b")
			change(&b)
			if _, err := cluster.NewSnapshot(1, []cluster.Member{talk("a"), b}); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestSnapshotFindsItsMembers(t *testing.T) {
	s, err := cluster.NewSnapshot(1, []cluster.Member{talk("c"), talk("a"), talk("b")})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if m, ok := s.Member(id); !ok || m.ID != id {
			t.Errorf("%s: %v, %t", id, m, ok)
		}
	}
	if m, ok := s.Member("d"); ok {
		t.Errorf("found %v", m)
	}
}

func BenchmarkNewMap(b *testing.B) {
	for _, size := range []struct{ nodes, shards int }{{3, 256}, {10, 256}, {100, 4096}} {
		b.Run(fmt.Sprintf("nodes=%d/shards=%d", size.nodes, size.shards), func(b *testing.B) {
			snapshot, err := cluster.NewSnapshot(1, fleet(size.nodes, 0))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := cluster.NewMap(size.shards, snapshot); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkShardOf(b *testing.B) {
	for b.Loop() {
		cluster.ShardOf("user0123456", 256)
	}
}

func TestVersionThatAllKnow(t *testing.T) {
	member := func(id string, role cluster.Role, apply uint32) cluster.Member {
		return cluster.Member{ID: id, Address: id, Role: role, State: cluster.StateActive, Weight: 1, Apply: apply}
	}
	for _, test := range []struct {
		name    string
		members []cluster.Member
		want    uint32
	}{
		{"nobody", nil, 1},
		{"one", []cluster.Member{member("a", cluster.RoleTalk, 3)}, 3},
		{"an older talk node", []cluster.Member{member("a", cluster.RoleTalk, 3), member("b", cluster.RoleTalk, 2)}, 2},
		{"an older gateway", []cluster.Member{member("a", cluster.RoleTalk, 3), member("b", cluster.RoleGateway, 2)}, 2},
		{"an older worker", []cluster.Member{member("a", cluster.RoleTalk, 3), member("b", cluster.RoleWorker, 2)}, 3},
		{"one that does not say", []cluster.Member{member("a", cluster.RoleTalk, 3), member("b", cluster.RoleTalk, 0)}, 1},
	} {
		s, err := cluster.NewSnapshot(1, test.members)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Apply(); got != test.want {
			t.Errorf("%s: version %d, want %d", test.name, got, test.want)
		}
	}
}

func serves(shards int, which ...uint32) cluster.ShardSet {
	return cluster.NewShardSet(shards, func(shard uint32) bool { return slices.Contains(which, shard) })
}

// Who is to be asked for a shard while it changes hands.
func TestAShardIsServedByWhoHasItUntilItsOwnerSaysSo(t *testing.T) {
	const shards = 2
	owner, other := talk("new"), talk("old")
	other.State = cluster.StateDraining
	for name, test := range map[string]struct {
		owner, other cluster.ShardSet
		want         string
	}{
		"an owner that tells nothing":                {"", serves(shards, 0, 1), "new"},
		"an owner that has not opened it":            {serves(shards), serves(shards, 0, 1), "old"},
		"an owner that has opened it":                {serves(shards, 1), serves(shards, 0, 1), "new"},
		"nobody has opened it":                       {serves(shards, 0), serves(shards, 0), "new"},
		"the one before tells nothing":               {serves(shards), "", "new"},
		"the one before serves fewer than there are": {serves(shards), serves(1, 0), "new"},
	} {
		t.Run(name, func(t *testing.T) {
			owner.Serves, other.Serves = test.owner, test.other
			m := place(t, shards, owner, other)
			if server, ok := m.Server(1); !ok || server.ID != test.want {
				t.Errorf("%v serves it", server.ID)
			}
			if ownerOf(m, 1) != "new" {
				t.Errorf("%v owns it", ownerOf(m, 1))
			}
		})
	}
	t.Run("nobody owns it", func(t *testing.T) {
		other.Serves = serves(shards, 1)
		if server, ok := place(t, shards, other).Server(1); !ok || server.ID != "old" {
			t.Errorf("%v serves it", server.ID)
		}
	})
}

func TestMembersThatAreUnfitGetNothingWhileOthersAreFit(t *testing.T) {
	one, two := talk("one"), talk("two")
	one.Unfit = "journal"
	m := place(t, 8, one, two)
	if got := len(m.Owned("two")); got != 8 {
		t.Errorf("the one that is fit has %d shards", got)
	}
	two.Unfit = "clock"
	all, before := place(t, 8, one, two), place(t, 8, talk("one"), talk("two"))
	for shard := range 8 {
		if ownerOf(all, shard) != ownerOf(before, shard) {
			t.Errorf("shard %d has moved though nobody is fit", shard)
		}
	}
}

// Moved shards go where they were moved to, count there, and leave the others
// where they are as far as there is room.
func TestMovedShards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 64).Draw(t, "shards")
		members := fleet(rapid.IntRange(1, 5).Draw(t, "members"), rapid.Uint64Range(0, 1000).Draw(t, "run"))
		moves := rapid.MapOf(rapid.Uint32Range(0, 80), rapid.SampledFrom([]string{members[0].ID, members[len(members)-1].ID, "gone"})).Draw(t, "moves")
		snapshot, err := cluster.NewSnapshot(1, members)
		if err != nil {
			t.Fatal(err)
		}
		snapshot.Moves = moves
		m, err := cluster.NewMap(shards, snapshot)
		if err != nil {
			t.Fatal(err)
		}
		for shard := range shards {
			to, moved := moves[uint32(shard)]
			if got := ownerOf(m, shard); got == "" || moved && to != "gone" && got != to {
				t.Fatalf("shard %d is placed on %q, moved to %q", shard, got, to)
			}
		}
	})
}

func TestShardSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 300).Draw(t, "shards")
		in := rapid.MapOf(rapid.Uint32Range(0, uint32(shards-1)), rapid.Just(true)).Draw(t, "in")
		set := cluster.NewShardSet(shards, func(shard uint32) bool { return in[shard] })
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var read cluster.ShardSet
		if err := json.Unmarshal(text, &read); err != nil || read != set || !read.Tells() || read.Len() != len(in) {
			t.Fatalf("%s is read as a set of %d, %v; want %d", text, read.Len(), err, len(in))
		}
		for shard := range uint32(2 * shards) {
			if read.Has(shard) != in[shard] {
				t.Fatalf("shard %d: %v", shard, read.Has(shard))
			}
		}
	})
	var read cluster.ShardSet
	if err := json.Unmarshal([]byte(`"?"`), &read); err == nil {
		t.Error("what is no set is read as one")
	}
}
