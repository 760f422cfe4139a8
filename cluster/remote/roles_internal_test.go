package remote

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster"
)

// owners are the kinds of messages that only owners of shards send. A kind that is
// new belongs here or among asks.
var owners = map[string]bool{
	"command_answer": true, "follow_ups": true, "follow_ups_appended": true, "fetched": true,
	"inspected": true, "history_page": true, "keys_answer": true,
}

func TestEveryRoleSendsItsOwnMessagesAlone(t *testing.T) {
	for i := range kinds.Len() {
		kind := kinds.Get(i)
		if asks[kind.Name()] == owners[string(kind.Name())] {
			t.Errorf("it is not said who sends %s", kind.Name())
		}
		m := new(wire.Message)
		m.ProtoReflect().Set(kind, m.ProtoReflect().NewField(kind))
		frame, err := proto.Marshal(&wire.Frame{From: "a", Messages: []*wire.Message{{}, m}})
		if err != nil {
			t.Fatal(err)
		}
		for role, want := range map[cluster.Role]bool{
			"": true, cluster.RoleTalk: true, cluster.RoleGateway: asks[kind.Name()], cluster.RoleWorker: false,
		} {
			if err := permitted(role, frame); (err == nil) != want {
				t.Errorf("%s from %q: %v", kind.Name(), role, err)
			}
		}
	}
	// What a later version sends is not for this one to judge, and a beat is
	// everybody's.
	later := protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType), []byte("x"))
	frame := protowire.AppendBytes(protowire.AppendTag(encoded(t, "a"), messagesField, protowire.BytesType), later)
	for _, role := range []cluster.Role{cluster.RoleGateway, cluster.RoleWorker} {
		if err := permitted(role, frame); err != nil {
			t.Errorf("a kind to come, from a %s: %v", role, err)
		}
	}
	if err := permitted(cluster.RoleGateway, []byte{0xff}); err == nil {
		t.Error("what is no frame is permitted")
	}
}
