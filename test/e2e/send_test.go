package e2e

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// One send makes one operation in each of two mailboxes: for the recipient,
// and for the other devices of the sender.
func TestSendReachesBothMailboxes(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	tablet := device(t, server, "alice", "tablet")

	sent := alice.send(withID(text("bob", "hello"), "m1"))
	if sent.GetMessageId() == "" || sent.GetCreateTime().AsTime().Year() < 2020 {
		t.Errorf("answered %v", sent)
	}

	message := &tegamiv1.Message{
		MessageId: sent.GetMessageId(), From: "alice", To: "bob",
		Body: &tegamiv1.Message_Text{Text: secret + " hello"}, ClientMessageId: "m1", CreateTime: sent.GetCreateTime(),
	}
	ignored := protocmp.IgnoreFields(&tegamiv1.Operation{}, "create_time")
	ignoredRevision := protocmp.IgnoreFields(&tegamiv1.Message{}, "revision")
	check := func(who string, page *tegamiv1.FetchOpsResponse, wanted *tegamiv1.Operation) {
		t.Helper()
		want := &tegamiv1.FetchOpsResponse{
			Ops: []*tegamiv1.Operation{wanted}, Revision: 1, Reason: tegamiv1.FetchOpsResponse_OPERATIONS,
		}
		if diff := cmp.Diff(want, page, protocmp.Transform(), ignored, ignoredRevision); diff != "" {
			t.Errorf("%s (-want +got):\n%s", who, diff)
		}
		if !page.GetOps()[0].GetCreateTime().IsValid() {
			t.Errorf("%s: the operation has no time", who)
		}
	}
	check("bob", bob.fetch(0), &tegamiv1.Operation{Revision: 1, Kind: &tegamiv1.Operation_ReceiveMessage{ReceiveMessage: message}})
	copied := &tegamiv1.Operation{Revision: 1, Kind: &tegamiv1.Operation_SendMessage{SendMessage: message}}
	check("alice's tablet", tablet.fetch(0), copied)
	check("alice's phone", alice.fetch(0), copied)
}

func TestContentIsKeptByteForByte(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	data := make([]byte, 64<<10) // The most that is allowed.
	for i := range data {
		data[i] = byte(i * 7)
	}
	content := &tegamiv1.Content{MimeType: "application/octet-stream", Data: data}
	for _, json := range []bool{true, false} {
		users[0].JSON, users[1].JSON = json, json
		users[0].send(&tegamiv1.SendMessageRequest{To: "bob", Body: &tegamiv1.SendMessageRequest_Content{Content: content}})
		got := users[1].fetch(users[1].head() - 1).GetOps()[0].GetReceiveMessage().GetContent()
		if got.GetMimeType() != content.GetMimeType() || !bytes.Equal(got.GetData(), data) {
			t.Errorf("JSON %v: %s, %d bytes came back otherwise", json, got.GetMimeType(), len(got.GetData()))
		}
	}
}

func TestMessageToOneselfIsOneOperation(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	sent := alice.send(text("alice", "note"))
	page := alice.fetch(0)
	if len(page.GetOps()) != 1 || page.GetOps()[0].GetReceiveMessage().GetMessageId() != sent.GetMessageId() {
		t.Errorf("got %v, want one receiveMessage", page)
	}
}

// A client message id counts for a sender and a recipient: sent again it gets
// the first answer, with another body it is refused, to somebody else it is
// another message.
func TestRetries(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	tablet := device(t, server, "alice", "tablet")

	first := alice.send(withID(text("bob", "hello"), "id"))
	for name, again := range map[string]*tegamiv1.SendMessageResponse{
		"the same device":    alice.send(withID(text("bob", "hello"), "id")),
		"another device":     tablet.send(withID(text("bob", "hello"), "id")),
		"once more, in vain": alice.send(withID(text("bob", "hello"), "id")),
	} {
		if !proto.Equal(first, again) {
			t.Errorf("%s: answered %v, the first time %v", name, again, first)
		}
	}

	refusal := refused(alice, "TalkService/SendMessage", withID(text("bob", "other"), "id"))
	want(t, refusal, "already_exists", "different_body")
	content := &tegamiv1.SendMessageRequest_Content{Content: &tegamiv1.Content{MimeType: "text/plain", Data: []byte(secret + " hello")}}
	refusal = refused(alice, "TalkService/SendMessage", &tegamiv1.SendMessageRequest{To: "bob", ClientMessageId: "id", Body: content})
	want(t, refusal, "already_exists", "different_body")

	if other := carol.send(withID(text("bob", "hello"), "id")); other.GetMessageId() == first.GetMessageId() {
		t.Error("another sender with the same id got the same message")
	}
	if other := alice.send(withID(text("carol", "hello"), "id")); other.GetMessageId() == first.GetMessageId() {
		t.Error("another recipient with the same id got the same message")
	}
	if got := len(bob.fetch(0).GetOps()); got != 2 {
		t.Errorf("bob has %d operations, want 2: one of alice, one of carol", got)
	}

	server.Kill()
	server.Start()
	if again := alice.send(withID(text("bob", "hello"), "id")); !proto.Equal(first, again) {
		t.Errorf("after kill -9: answered %v, the first time %v", again, first)
	}
	refusal = refused(alice, "TalkService/SendMessage", withID(text("bob", "other"), "id"))
	want(t, refusal, "already_exists", "different_body")
}

// A missing client message id is made: two such sends are two messages.
func TestSendsWithoutIDAreDifferent(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	users[0].send(text("bob", "hello"))
	users[0].send(text("bob", "hello"))
	ops := users[1].fetch(0).GetOps()
	if len(ops) != 2 {
		t.Fatalf("bob has %d operations, want 2", len(ops))
	}
	if a, b := message(ops[0]).GetClientMessageId(), message(ops[1]).GetClientMessageId(); a == "" || a == b {
		t.Errorf("client message ids %q and %q", a, b)
	}
}

func TestUnknownRecipient(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	for range 2 { // The second is a retry.
		refusal := refused(alice, "TalkService/SendMessage", withID(text("nobody", "hello"), "id"))
		want(t, refusal, "not_found", "unknown_recipient")
	}
	if head := alice.head(); head != 0 {
		t.Errorf("alice's mailbox is at %d: a refused message left something", head)
	}
	server.CreateUsers("nobody")
	alice.send(withID(text("nobody", "hello"), "another id"))
}

// Sends that are answered before the next is made stand in that order for
// everybody, also when both write.
func TestConversationOrder(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	wanted := []string{"1", "2", "3", "4", "5", "6", "7", "8"}
	for i, body := range wanted {
		users[i%2].send(text(users[1-i%2].name, body))
	}
	for _, u := range users {
		if got := texts(u.fetch(0)); !slices.Equal(got, wanted) {
			t.Errorf("%s reads %v", u.name, got)
		}
	}
}
