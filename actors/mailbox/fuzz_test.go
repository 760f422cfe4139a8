package mailbox

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// FuzzApply applies any record, told to come from any place and time, to a
// mailbox with some of everything in it.
func FuzzApply(f *testing.F) {
	for _, r := range []*record.Record{
		send("alice", "m1", 3), retry("alice", "m1", 3), send("alice", "m1", 4), send("bob", "note", 3),
		sentCopy("alice", at(3)), sentCopy("alice", at(99)), createAccount("again"), signIn("d3", "t"), signIn("d99", "t"),
		refresh("d3", 4, "t3", "t"), refresh("d3", 4, "t4", "t"), signOut("d3", 0), trim(3), trim(1 << 62),
		command("c1", befriend("carol", "d1", "bob", record.Befriend_REQUEST)), command("c1", befriend("carol", "d1", "bob", 0)), command("c2", editContact("alice", "d1", block(true))),
		command("c3", createInvitation("code")), command("c4", redeemInvitation("code", "carol", "d1")),
		step("a", "", &record.Step{Cursor: 1, Sends: []*record.StepSend{stepSend("alice", 1)}, Timers: []*record.Timer{timer("x", 1), timer("y", 0)}}),
		step("a", "", &record.Step{Sends: []*record.StepSend{{To: chatNamed("c"), Chat: joins()}, {To: chatNamed("d"), Chat: writes("hello", 1)}}}),
		command("c5", &record.Record{Kind: &record.Record_Call{Call: &record.Call{SealedBody: []byte("b")}}}),
		{Source: &record.Source{Mailbox: "alice", Offset: 8}, Kind: &record.Record_StepMessage{StepMessage: stepSend("bob", 1).Message}},
		{Source: &record.Source{Mailbox: "alice", Offset: 7}, Kind: &record.Record_Friendship{Friendship: &record.Friendship{Relation: 2}}},
		ofNow("c5", &record.Record{Kind: &record.Record_UpdateSettings{UpdateSettings: &record.UpdateSettings{
			Scope: &record.UpdateSettings_Settings{Settings: &record.Settings{Language: new("ja")}}, Fields: []string{"language", "may_write"},
		}}}),
		ofNow("c6", &record.Record{Kind: &record.Record_UpdateSettings{UpdateSettings: &record.UpdateSettings{
			DeviceId: "d3", Scope: &record.UpdateSettings_DeviceSettings{DeviceSettings: &record.DeviceSettings{Previews: new(true)}}, Fields: []string{"previews"},
		}}}),
		ofNow("c7", &record.Record{Kind: &record.Record_UpdateProfile{UpdateProfile: &record.UpdateProfile{
			Profile: &record.Profile{Avatar: new("picture")}, Fields: []string{"avatar"},
		}}}),
		ofNow("c8", &record.Record{Kind: &record.Record_MarkRead{MarkRead: &record.MarkRead{Peer: "alice", Revision: 1, Received: 1, MessageId: hash(16, "m1")}}}),
		ofNow("c9", editConversation("alice", "d1", &record.EditConversation_Pinned{Pinned: true}, nil)),
		ofNow("c10", &record.Record{Kind: &record.Record_Amend{Amend: &record.Amend{From: "alice", MessageTime: start, Amendment: &record.Amendment{
			MessageId: hash(16, "m1"), By: "alice", Change: &record.Amendment_Unsent{Unsent: true},
		}}}}),
		{Source: &record.Source{Mailbox: "alice", Offset: 8}, ApplyVersion: ApplyVersion, Kind: &record.Record_PeerRead{PeerRead: &record.PeerRead{MessageId: hash(16, "m1")}}},
		{Source: &record.Source{Mailbox: "alice", Offset: 9}, ApplyVersion: ApplyVersion, Kind: &record.Record_ProfileCopy{ProfileCopy: &record.ProfileCopy{Profile: new(record.Profile)}}},
		{Source: &record.Source{Mailbox: "alice", Offset: 9}, ApplyVersion: ApplyVersion, Kind: &record.Record_AmendCopy{AmendCopy: &record.AmendCopy{Amendment: &record.Amendment{
			MessageId: hash(16, "m1"), By: "bob", Change: &record.Amendment_Reaction{Reaction: "+1"},
		}}}},
	} {
		f.Add(encode(r), int64(100), int64(start), uint8(10), false)
		f.Add(encode(r), int64(5), int64(-1), uint8(0), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, offset, time int64, devices uint8, withDedup bool) {
		r := &record.Record{}
		if proto.Unmarshal(data, r) != nil || r.GetApplyVersion() > ApplyVersion { // a shard stops at a newer one
			return
		}
		b := furnished(t, int(devices%(MaxDevices+1)))
		twin := furnished(t, int(devices%(MaxDevices+1)))
		in := Input{Position: at(offset), Time: time, Record: r}
		if withDedup {
			in.Dedup = &persistence.DedupEntry{Time: time, Revision: offset, Position: at(offset - 1)}
			copy(in.Dedup.Key[:], r.DedupKey)
			copy(in.Dedup.BodyHash[:], data)
		}
		position, head, first, logTime := b.Position(), b.Head(), b.First(), b.State.time
		out := b.Apply(in)
		if again := twin.Apply(in); !same(out, again) {
			t.Fatalf("two owners come to different outcomes: %+v, %+v", out, again)
		}
		if out.Skipped {
			if position.Less(in.Position) || b.Position() != position || out.Write.State != nil {
				t.Fatalf("skipped %v at %v", in.Position, position)
			}
			return
		}
		if made := b.Head() - head; made != int64(len(out.Operations)) || made != int64(len(out.Write.Rows)) || made > 1 {
			t.Fatalf("head %d after %d, with %d operations", b.Head(), head, len(out.Operations))
		}
		if b.First() < first || b.First() > b.Head()+1 || b.State.time < logTime || b.Position() != in.Position {
			t.Fatalf("state %+v", b.core)
		}
		if out.Answer.Reason != refusal.None && (len(out.Operations) > 0 || len(out.FollowUps) != 0) {
			t.Fatalf("refused: %v, with effects", out.Answer.Reason)
		}
		if (out.Answer.Reason == refusal.Internal) != (out.Fault != "") && len(out.Write.Dedup) == 1 {
			t.Fatalf("refused: %v, fault %q", out.Answer.Reason, out.Fault)
		}
		// Whatever came of it can be stored and loaded.
		loaded := &persistence.Mailbox{Position: b.Position(), State: out.Write.State, Dedup: out.Write.Dedup, DedupComplete: true}
		if s, err := Decode("bob", loaded); err != nil || !bytes.Equal(s.encode(), b.encode()) {
			t.Fatalf("what was stored does not load: %v", err)
		}
	})
}

// ofNow is a command of the newest version.
func ofNow(id string, r *record.Record) *record.Record {
	r.ApplyVersion = ApplyVersion
	return command(id, r)
}

// furnished is a mailbox with messages and devices.
func furnished(t testing.TB, devices int) *box {
	b := newAccount(t)
	b.accept(send("alice", "m1", 3))
	b.accept(sentCopy("alice", at(3)))
	for i := range devices {
		b.accept(signIn(fmt.Sprint("d", i), fmt.Sprint("t", i)))
	}
	return b
}

// FuzzDecode decodes any bytes. A state that decodes works, and comes out as
// it went in.
func FuzzDecode(f *testing.F) {
	f.Add(furnished(f, 10).encode(), int64(start), int64(1))
	f.Add(New("bob").encode(), int64(0), int64(0))
	f.Add([]byte{0xff}, int64(-1), int64(-1))
	f.Fuzz(func(t *testing.T, state []byte, time, revision int64) {
		loaded := &persistence.Mailbox{
			Position:      at(7),
			State:         state,
			Dedup:         []persistence.DedupEntry{{Time: time, Revision: revision}},
			Sources:       []persistence.Source{{Mailbox: "alice", Position: at(revision)}},
			DedupComplete: true,
		}
		s, err := Decode("bob", loaded)
		if err != nil {
			return
		}
		if s.First() < 1 || s.First() > s.Head()+1 || !s.Exists() || s.Position() != at(7) {
			t.Fatalf("state %+v", s.core)
		}
		again, err := Decode("bob", &persistence.Mailbox{State: s.encode()})
		if err != nil || !bytes.Equal(again.encode(), s.encode()) {
			t.Fatalf("encoded and decoded: %v", err)
		}
		for _, d := range s.Devices() {
			if epoch, ok := s.Epoch(d.ID); !ok || epoch != d.Epoch {
				t.Fatalf("device %+v has epoch %d", d, epoch)
			}
		}
		in := Input{Position: at(8), Time: s.time, Record: mintedAt(send("alice", "new", 3), s.time)}
		if out := s.Apply(in); s.head < maxRevision && out.Answer.Reason != refusal.None {
			t.Fatalf("refused: %v %s", out.Answer.Reason, out.Fault)
		}
	})
}
