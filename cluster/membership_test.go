package cluster_test

import (
	"slices"
	"testing"

	"github.com/tegami-im/tegami/cluster"
)

var _ cluster.Membership = (*cluster.Static)(nil)

func revisions(seen []cluster.Snapshot) (all []uint64) {
	for _, s := range seen {
		all = append(all, s.Revision)
	}
	return all
}

func TestSubscribersSeeEachSnapshotInOrder(t *testing.T) {
	m, err := cluster.NewStatic("a", []cluster.Member{talk("a"), talk("b")})
	if err != nil {
		t.Fatal(err)
	}
	var one, two []cluster.Snapshot
	end := m.Subscribe(func(s cluster.Snapshot) { one = append(one, s) })
	if err := m.SetState(t.Context(), cluster.StateDraining); err != nil {
		t.Fatal(err)
	}
	defer m.Subscribe(func(s cluster.Snapshot) { two = append(two, s) })()
	end()
	if err := m.Update([]cluster.Member{talk("a")}); err != nil {
		t.Fatal(err)
	}
	if got := revisions(one); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("the first saw revisions %v", got)
	}
	if got := revisions(two); !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("the second saw revisions %v", got)
	}
	if self, _ := one[1].Member("a"); self.State != cluster.StateDraining || two[0].Members[0] != self {
		t.Errorf("the member drains, and is seen as %v", self)
	}
	if n := len(m.Snapshot().Members); n != 1 {
		t.Errorf("%d members, want 1", n)
	}
}

func TestStaticRefusesMembersWithoutItself(t *testing.T) {
	if _, err := cluster.NewStatic("a", []cluster.Member{talk("b")}); err == nil {
		t.Error("no error")
	}
}
