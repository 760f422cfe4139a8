package cluster_test

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/cluster"
)

// Whatever a member says of itself others read: a field that is added to Member and
// forgotten where members are written down is found here.
func TestMembersAreWrittenDownWhole(t *testing.T) {
	m := cluster.Member{
		ID: "talk-1.x", Name: "talk-1", Address: "10.0.0.1:7500", Admin: "10.0.0.1:7401", Role: cluster.RoleTalk,
		State: cluster.StateDraining, Weight: 7, Version: "v1", Apply: 3, Unfit: "journal",
		Serves: cluster.NewShardSet(16, func(shard uint32) bool { return shard%3 == 0 }),
		Region: "tokyo", URL: "https://tokyo-1.example.com", Load: 0.5,
	}
	for i := range reflect.TypeFor[cluster.Member]().NumField() {
		if field := reflect.ValueOf(m).Field(i); field.IsZero() {
			t.Errorf("this test does not look at %s", reflect.TypeFor[cluster.Member]().Field(i).Name)
		}
	}
	data, err := cluster.EncodeMember(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cluster.DecodeMember(m.ID, data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	for _, nonsense := range []string{"", "{", `{"role":"king"}`, `{"name":"a","address":"b","role":"talk","state":"active","weight":0}`} {
		if _, err := cluster.DecodeMember("x", []byte(nonsense)); err == nil {
			t.Errorf("%q was taken for a member", nonsense)
		}
	}
}
