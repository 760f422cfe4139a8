package mailbox

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// drawLog returns a journal of one mailbox: few users, devices, tokens and ids,
// so that they meet again, and leaps of time that make answers expire. It has
// the records of those services that are named.
func drawLog(t *rapid.T, services ...string) []Input {
	var (
		log   []Input
		now   = int64(start)
		names = rapid.SampledFrom([]string{"alice", "bob", "carol"})
		small = rapid.IntRange(0, 4)
		leaps = rapid.SampledFrom([]time.Duration{0, 0, 0, 1, 1, time.Minute, MaxCommandAge, 6 * time.Hour, DedupWindow - 1, DedupWindow + time.Millisecond})
		ages  = rapid.SampledFrom([]time.Duration{0, 0, 0, 0, time.Minute, MaxCommandAge, MaxCommandAge + time.Millisecond, -time.Hour})
	)
	tokens := func(label string) string { return fmt.Sprint("t", small.Draw(t, label)) }
	device := func() string { return fmt.Sprint("d", rapid.IntRange(0, 12).Draw(t, "device")) }
	for range rapid.IntRange(1, 60).Draw(t, "records") {
		var r *record.Record
		switch rapid.SampledFrom(append([]string{
			"send", "send", "send", "send", "copy", "copy", "create", "sign in", "sign in", "refresh", "refresh", "sign out", "trim",
		}, services...)).Draw(t, "kind") {
		case "send":
			from, id := names.Draw(t, "from"), fmt.Sprint(small.Draw(t, "id"))
			r = send(from, id, rapid.SampledFrom([]int{3, 3, 3, 4}).Draw(t, "size"))
			if rapid.Bool().Draw(t, "again") {
				r.GetSend().MessageId = hash(16, "again", len(log))
			}
		case "copy":
			r = sentCopy(rapid.SampledFrom([]string{"alice", "carol"}).Draw(t, "source"), at(int64(rapid.IntRange(len(log), len(log)+10).Draw(t, "offset"))))
		case "create":
			r = createAccount(names.Draw(t, "name"))
		case "sign in":
			r = signIn(device(), tokens("token"))
		case "refresh":
			r = refresh(device(), uint64(rapid.IntRange(1, 12).Draw(t, "epoch")), tokens("presented"), tokens("next"))
		case "sign out":
			r = signOut(device(), uint64(rapid.IntRange(0, 5).Draw(t, "epoch")))
		case "trim":
			r = trim(int64(rapid.IntRange(-1, 30).Draw(t, "first")))
		case "contacts":
			r = drawContactRecord(t, len(log))
		case "behaviour":
			r = drawStepRecord(t, len(log))
		}
		now += leaps.Draw(t, "leap").Milliseconds()
		if r.DedupKey != nil {
			r.MintTime = now - ages.Draw(t, "age").Milliseconds()
		}
		log = append(log, Input{Position: at(int64(len(log))), Time: now, Record: r})
	}
	return log
}

// drawContactRecord returns one of those that change bob's contacts.
func drawContactRecord(t *rapid.T, offset int) *record.Record {
	peer := rapid.SampledFrom([]string{"alice", "carol", "dave"}).Draw(t, "peer")
	yes := rapid.Bool().Draw(t, "yes")
	code := fmt.Sprint("code", rapid.IntRange(0, 2).Draw(t, "code"))
	var r *record.Record
	switch rapid.IntRange(0, 11).Draw(t, "change") {
	case 0:
		action := rapid.SampledFrom([]record.Befriend_Action{
			record.Befriend_REQUEST, record.Befriend_ACCEPT, record.Befriend_DECLINE, record.Befriend_REMOVE,
		}).Draw(t, "action")
		if r = befriend("bob", "d1", peer, action); yes {
			r = befriend(peer, "d1", "bob", action)
		}
	case 1:
		r = &record.Record{
			Source: &record.Source{Mailbox: peer, Generation: 1, Offset: int64(rapid.IntRange(offset, offset+10).Draw(t, "from"))},
			Kind: &record.Record_Friendship{Friendship: &record.Friendship{
				Relation: record.Relation(rapid.IntRange(0, 3).Draw(t, "relation")), Confirm: yes, Profile: &record.Profile{Avatar: &code},
			}},
		}
		if !yes {
			r.Kind = &record.Record_ProfileCopy{ProfileCopy: &record.ProfileCopy{Profile: &record.Profile{Avatar: &code}}}
		}
		return r
	case 2:
		r = editContact(peer, "d1", block(yes))
	case 3:
		r = editContact(peer, "d1", rename(code))
	case 4:
		r = createInvitation(code)
	case 5:
		r = &record.Record{Kind: &record.Record_UpdateSettings{UpdateSettings: &record.UpdateSettings{
			Scope:  &record.UpdateSettings_Settings{Settings: &record.Settings{MayWrite: record.Audience_AUDIENCE_FRIENDS.Enum()}},
			Fields: []string{"may_write", "sees_avatar"}[:rapid.IntRange(0, 2).Draw(t, "fields")],
		}}}
	case 6:
		device := fmt.Sprint("d", rapid.IntRange(0, 12).Draw(t, "device"))
		r = &record.Record{Kind: &record.Record_UpdateSettings{UpdateSettings: &record.UpdateSettings{
			DeviceId: device, Scope: &record.UpdateSettings_DeviceSettings{DeviceSettings: &record.DeviceSettings{Previews: &yes}},
			Fields: []string{"previews"},
		}}}
	case 7:
		r = &record.Record{Kind: &record.Record_MarkRead{MarkRead: &record.MarkRead{
			Peer: peer, Revision: int64(rapid.IntRange(0, 30).Draw(t, "revision")), Received: int64(rapid.IntRange(0, 9).Draw(t, "received")),
			MessageId: hash(16, code),
		}}}
	case 11:
		r = &record.Record{Kind: &record.Record_Amend{Amend: &record.Amend{
			From: peer, MessageTime: start, SealedCopy: []byte("s"), Amendment: &record.Amendment{
				MessageId: hash(16, code), By: peer, Change: &record.Amendment_SealedBody{SealedBody: []byte("r")},
			},
		}}}
	case 8:
		r = editConversation(peer, "d1", &record.EditConversation_Pinned{Pinned: yes}, nil)
	case 9:
		r = &record.Record{Kind: &record.Record_UpdateProfile{UpdateProfile: &record.UpdateProfile{
			Profile: &record.Profile{StatusMessage: &code}, Fields: []string{"status_message"},
		}}}
	case 10:
		r = &record.Record{Kind: &record.Record_UpdateProfile{UpdateProfile: &record.UpdateProfile{
			Profile: &record.Profile{Avatar: &code}, Fields: []string{"avatar"},
		}}}
	default:
		r = redeemInvitation(code, peer, "d1")
	}
	r.ApplyVersion = uint32(rapid.IntRange(1, ApplyVersion).Draw(t, "version"))
	return command(fmt.Sprint("contacts", rapid.IntRange(0, 30).Draw(t, "command")), r)
}

// plantAnywhere makes Apply panic on a sixteenth of all records, by their id.
func plantAnywhere(t *testing.T) {
	panicOn = func(r *record.Record) {
		if planted(r) {
			panic("planted")
		}
	}
	t.Cleanup(func() { panicOn = nil })
}

func planted(r *record.Record) bool { return len(r.Id) > 0 && r.Id[0]&15 == 0 }

func TestApplyAgreesWithTheNaiveMailbox(t *testing.T) {
	plantAnywhere(t)
	rapid.Check(t, func(t *rapid.T) {
		s := New("bob")
		var want naive
		for i, in := range drawLog(t) {
			before := len(want.messages)
			result := want.apply(in, planted(in.Record))
			out := s.Apply(in)
			if got := inWords(in.Record, out.Answer); got != result {
				t.Fatalf("record %d: %T: %q, want %q", i, in.Record.Kind, got, result)
			}
			var made []string
			for _, op := range out.Operations {
				made = append(made, messageInWords(op))
			}
			if diff := cmp.Diff(want.messages[before:], made, cmpEmpty); diff != "" {
				t.Fatalf("record %d: operations (-want +got)\n%s", i, diff)
			}
			follows := len(made) == 1 && in.Record.GetSend() != nil && in.Record.GetSend().From != "bob"
			if follows != (len(out.FollowUps) == 1) {
				t.Fatalf("record %d: follow-ups %v, want %v", i, out.FollowUps, follows)
			}
			if difference := want.agrees(s); difference != "" {
				t.Fatalf("record %d: %s", i, difference)
			}
		}
	})
}

var cmpEmpty = cmp.Transformer("empty", func(s []string) string { return fmt.Sprint(s) })

// However often an owner stores, loads, dies, and reads its journal again, and
// however far the store is ahead of it, it comes to what a straight run comes
// to, record by record.
func TestApplyIsAFunctionOfTheLog(t *testing.T) {
	plantAnywhere(t)
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t, "contacts", "contacts", "contacts", "contacts", "contacts", "contacts", "behaviour", "behaviour", "behaviour")
		var store history
		var want []Outcome
		straight := New("bob")
		for _, in := range log {
			out := straight.Apply(in)
			store.keep(out)
			want = append(want, out)
		}
		maxDedup := rapid.SampledFrom([]int{0, 3, 100})
		loadAt := func(i int) *State {
			return store.upTo(at(int64(i))).load(&testing.T{}, "bob", maxDedup.Draw(t, "at most"))
		}
		// The store's newest write, of this owner or another one, is always at
		// or above what this owner loaded.
		stored := rapid.IntRange(-1, len(log)-1).Draw(t, "stored")
		s := loadAt(stored)
		for i := rapid.IntRange(0, stored+1).Draw(t, "from"); i < len(log); i++ {
			if rapid.IntRange(0, 9).Draw(t, "dies") == 0 {
				stored = rapid.IntRange(stored, max(stored, i-1)).Draw(t, "stored")
				s = loadAt(stored)
				i = rapid.IntRange(0, min(stored+1, i)).Draw(t, "from")
			}
			ahead := rapid.IntRange(max(stored, -1), len(log)-1).Draw(t, "store")
			got := s.Apply(store.upTo(at(int64(ahead))).lookUp(s, log[i]))
			compareOutcome(t, i, log[i], got, want[i])
		}
		if s.Exists() && (!bytes.Equal(s.encode(), straight.encode()) || s.describe() != straight.describe() || s.Position() != straight.Position()) {
			t.Fatalf("state %+v\n%s\nwant %+v\n%s", s.core, s.describe(), straight.core, straight.describe())
		}
	})
}

func compareOutcome(t *rapid.T, i int, in Input, got, want Outcome) {
	t.Helper()
	got.Fault, want.Fault = "", "" // stacks differ
	if !got.Skipped {
		if !same(got, want) {
			t.Fatalf("record %d: (-want +got)\n%s", i, cmp.Diff(want, got, protocmp.Transform()))
		}
		return
	}
	if !same(got, Outcome{Skipped: true, Answer: got.Answer}) {
		t.Fatalf("record %d was skipped, with effects: %+v", i, got)
	}
	// What left no trace may be answered as a retry would be.
	traced := in.Record.DedupKey != nil && want.Answer.Reason != refusal.Stale && want.Write.State != nil
	if traced && got.Answer != want.Answer && got.Answer.Reason != refusal.OutcomeUnknown {
		t.Fatalf("record %d was skipped: answer %+v, want %+v", i, got.Answer, want.Answer)
	}
}

// same tells what cmp.Diff would, in a fraction of the time.
func same(a, b Outcome) bool {
	followUps := func(o Outcome) (encoded []byte) {
		for _, f := range o.FollowUps {
			encoded = append(append(encoded, encode(f.Record)...), f.Mailbox...)
		}
		return encoded
	}
	return len(a.Operations) == len(b.Operations) && bytes.Equal(followUps(a), followUps(b)) &&
		a.Skipped == b.Skipped && a.Answer == b.Answer && slices.Equal(a.Ended, b.Ended) && reflect.DeepEqual(a.Write, b.Write)
}
