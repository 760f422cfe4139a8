package event_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/tegami-im/tegami/actors/event"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence"
)

const start = 1_700_000_000_000

// command is a record of bob's mailbox with an id of its own.
func command(id string, r *record.Record) *record.Record {
	key := make([]byte, persistence.DedupKeySize)
	copy(key, id)
	r.Id, r.Mailbox, r.MintTime = []byte(id), "bob", start
	r.DedupKey, r.BodyHash = key, make([]byte, persistence.BodyHashSize)
	return r
}

func create() *record.Record {
	return command("create", &record.Record{Kind: &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{DisplayName: "Bob"}}})
}

func send(from, id string) *record.Record {
	messageID := uuid.UUID{15: 7}
	return command("send "+id, &record.Record{Kind: &record.Record_Send{Send: &record.Send{
		MessageId: messageID[:], From: from, ClientMessageId: id, FromDevice: "phone", SealedBody: []byte("12345"), SealedCopy: []byte("123456"),
	}}})
}

func sentCopy(offset int64) *record.Record {
	messageID := uuid.UUID{15: 9}
	return &record.Record{Mailbox: "bob", Kind: &record.Record_SentCopy{SentCopy: &record.SentCopy{
		Source: "alice", SourceGeneration: 1, SourceOffset: offset, MessageId: messageID[:], ClientMessageId: "c", FromDevice: "phone", SealedBody: []byte("123"), MessageTime: start,
	}}}
}

func signIn(id, device string) *record.Record {
	return command("sign-in "+id, &record.Record{Kind: &record.Record_SignIn{SignIn: &record.SignIn{DeviceId: device, RefreshHash: make([]byte, 32)}}})
}

func signOut(id, device string) *record.Record {
	return command("sign-out "+id, &record.Record{Kind: &record.Record_SignOut{SignOut: &record.SignOut{DeviceId: device}}})
}

// stolen is a refresh token that was never handed out.
func stolen(device string, epoch uint64) *record.Record {
	token := make([]byte, 32)
	token[0] = 1
	return command("refresh "+device, &record.Record{Kind: &record.Record_Refresh{Refresh: &record.Refresh{
		DeviceId: device, Epoch: epoch, PresentedHash: token, RefreshHash: token,
	}}})
}

// step applies a record and returns its events, in words.
func step(s *mailbox.State, offset int64, r *record.Record, absent ...string) string {
	position := persistence.Position{Generation: 1, Offset: offset}
	outcome := s.Apply(mailbox.Input{Position: position, Time: start + offset, Record: r})
	var words []string
	for _, e := range event.Of(event.Applied{Shard: 3, Position: position, Record: r, Outcome: &outcome, Absent: absent}) {
		word := fmt.Sprintf("%d.%d", e.Offset, e.Index)
		if e.User != "bob" || e.Shard != 3 || e.Generation != 1 || e.Time != start+offset {
			word += fmt.Sprintf(" (of %s, at %d, %d, %d)", e.User, e.Shard, e.Generation, e.Time-start)
		}
		word += " " + kind(e)
		if e.OriginDevice != "" {
			word += " by " + e.OriginDevice
		}
		words = append(words, word)
	}
	return strings.Join(words, "; ")
}

func kind(e *eventsv1.Event) string {
	switch k := e.Kind.(type) {
	case *eventsv1.Event_MessageReceived:
		m := k.MessageReceived
		return fmt.Sprintf("received %d from %s: %s %s, %d bytes, absent %v", m.Revision, m.From, m.ClientMessageId, m.MessageId[34:], m.BodyBytes, m.AbsentDevices)
	case *eventsv1.Event_MessageSent:
		m := k.MessageSent
		return fmt.Sprintf("sent %d to %s: %s %s, %d bytes", m.Revision, m.To, m.ClientMessageId, m.MessageId[34:], m.BodyBytes)
	case *eventsv1.Event_AccountCreated:
		return "account"
	case *eventsv1.Event_SessionStarted:
		return fmt.Sprintf("started %s#%d", k.SessionStarted.Device, k.SessionStarted.Epoch)
	case *eventsv1.Event_SessionEnded:
		return fmt.Sprintf("ended %s#%d", k.SessionEnded.Device, k.SessionEnded.Epoch)
	}
	return "nothing"
}

func TestEventsOfRecords(t *testing.T) {
	s := mailbox.New("bob")
	for i, test := range []struct {
		name   string
		record *record.Record
		absent []string
		want   string
	}{
		{"no account yet", send("alice", "0"), nil, ""},
		{"an account", create(), nil, "2.0 account"},
		{"again", create(), nil, ""},
		{"the id is taken", command("other", create()), nil, ""},
		{"a device signs in", signIn("1", "tablet"), nil, "5.0 started tablet#1 by tablet"},
		{"the same, repeated", signIn("1", "tablet"), nil, ""},
		{"it signs in again", signIn("2", "tablet"), nil, "7.0 ended tablet#1 by tablet; 7.1 started tablet#2 by tablet"},
		{"a message", send("alice", "a"), []string{"tablet"}, "8.0 received 1 from alice: a 07, 5 bytes, absent [tablet]"},
		{"repeated", send("alice", "a"), []string{"tablet"}, ""},
		{"a message to oneself", send("bob", "b"), nil, "10.0 received 2 from bob: b 07, 5 bytes, absent [] by phone"},
		{"a copy", sentCopy(5), nil, "11.0 sent 3 to alice: c 09, 3 bytes by phone"},
		{"the copy again", sentCopy(5), nil, ""},
		{"a stolen token", stolen("tablet", 2), nil, "13.0 ended tablet#2"},
		{"a device that is not there", signOut("1", "tablet"), nil, ""},
		{"a device signs in", signIn("3", "phone"), nil, "15.0 started phone#3 by phone"},
		{"and is signed out", signOut("2", "phone"), nil, "16.0 ended phone#3"},
		{"a contact", command("block", &record.Record{Kind: &record.Record_EditContact{EditContact: &record.EditContact{
			UserId: "mallory", Device: "phone", Change: &record.EditContact_Blocked{Blocked: true},
		}}}), nil, ""},
		{"a message of who is blocked", send("mallory", "m"), []string{"tablet"}, ""},
		{"operations are let go", command("trim", &record.Record{Kind: &record.Record_Trim{Trim: &record.Trim{FirstRevision: 2}}}), nil, ""},
	} {
		if got := step(s, int64(i+1), test.record, test.absent...); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if got := step(s, 8, send("alice", "a")); got != "" {
		t.Errorf("a record that was applied before has events: %s", got)
	}
}

// A sign-in ends the oldest session when there are too many.
func TestEventsOfOneRecordAreNumbered(t *testing.T) {
	s := mailbox.New("bob")
	step(s, 1, create())
	for i := range mailbox.MaxDevices {
		step(s, int64(i+2), signIn(fmt.Sprint(i), fmt.Sprint("device", i)))
	}
	if got, want := step(s, 50, signIn("one more", "phone")), "50.0 ended device0#1 by phone; 50.1 started phone#11 by phone"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
