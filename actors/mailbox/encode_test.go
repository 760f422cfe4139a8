package mailbox

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// What is stored is a plain record.State, readable by whoever knows that.
func TestStateIsStoredAsItsMessage(t *testing.T) {
	b := newAccount(t)
	b.accept(signIn("phone", "t1"))
	b.accept(send("alice", "m1", 3))
	b.accept(send("alice", "m2", 3))
	out := b.accept(trim(2))
	var got record.State
	if err := proto.Unmarshal(out.Write.State, &got); err != nil {
		t.Fatal(err)
	}
	diff(t, &got, &record.State{
		ApplyVersion: 1,
		Time:         start,
		Head:         2,
		First:        2,
		Account: &record.Account{
			DisplayName:  "bob",
			PasswordHash: createAccount("").GetCreateAccount().PasswordHash,
			CreateTime:   start,
		},
		Devices:   []*record.Device{{DeviceId: "phone", Epoch: 1, CreateTime: start, SeenTime: start, RefreshHash: token("t1")}},
		NextEpoch: 2,
	})
}

func TestDecodeRefusesWhatCannotBe(t *testing.T) {
	good := func() *record.State {
		return &record.State{
			ApplyVersion: 1, Time: start, Head: 5, First: 2, Account: &record.Account{}, NextEpoch: 8,
			Devices: []*record.Device{
				{DeviceId: "a", Epoch: 3, RefreshHash: token("1")},
				{DeviceId: "b", Epoch: 7, RefreshHash: token("2"), PreviousRefreshHash: token("1")},
			},
		}
	}
	decode := func(s *record.State, dedup ...persistence.DedupEntry) error {
		state, err := proto.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Decode("bob", &persistence.Mailbox{State: state, Dedup: dedup, DedupComplete: true})
		return err
	}
	if err := decode(good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		breaks func(*record.State)
	}{
		{"version 0", func(s *record.State) { s.ApplyVersion = 0 }},
		{fmt.Sprintf("version %d: this one goes up to %d", ApplyVersion+1, ApplyVersion), func(s *record.State) { s.ApplyVersion = ApplyVersion + 1 }},
		{"no account", func(s *record.State) { s.Account = nil }},
		{"time -1", func(s *record.State) { s.Time = -1 }},
		{"time", func(s *record.State) { s.Time = 1 << 48 }},
		{"head -1", func(s *record.State) { s.Head = -1 }},
		{"head", func(s *record.State) { s.Head = 1 << 40 }},
		{"first revision 0 with head 5", func(s *record.State) { s.First = 0 }},
		{"first revision 7 with head 5", func(s *record.State) { s.First = 7 }},
		{`device "a" with epoch 7 after 3`, func(s *record.State) { s.Devices[1].DeviceId = "a" }},
		{`device ""`, func(s *record.State) { s.Devices[0].DeviceId = "" }},
		{`device "b" with epoch 3 after 3`, func(s *record.State) { s.Devices[1].Epoch = 3 }},
		{`token of device "a"`, func(s *record.State) { s.Devices[0].RefreshHash = nil }},
		{`token of device "b"`, func(s *record.State) { s.Devices[1].PreviousRefreshHash = []byte("short") }},
		{"next epoch 7 after 7", func(s *record.State) { s.NextEpoch = 7 }},
		{"next epoch", func(s *record.State) { s.NextEpoch = 1 << 63 }},
	} {
		s := good()
		c.breaks(s)
		if err := decode(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	for _, e := range []persistence.DedupEntry{{Time: start + 1}, {Time: -1}, {Revision: 6}, {Revision: -1}} {
		if err := decode(good(), e); err == nil {
			t.Errorf("entry %+v was taken", e)
		}
	}
	if _, err := Decode("bob", &persistence.Mailbox{State: []byte{0xff}}); err == nil {
		t.Error("garbage was taken")
	}
}
