package e2e

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

func (u user) conversations(request *tegamiv1.ListConversationsRequest) (list []string) {
	u.t.Helper()
	for {
		page := call(u, "TalkService/ListConversations", request, new(tegamiv1.ListConversationsResponse))
		for _, item := range page.Items {
			list = append(list, fmt.Sprintf("%s %d unread: %s", item.Conversation.Peer, item.Conversation.Unread, item.LastMessage.GetText()))
		}
		if request.PageToken = page.NextPageToken; page.NextPageToken == "" {
			return list
		}
	}
}

// What is unread is counted by the server, and who wrote it learns how far it
// was read: live, on all devices, and after a crash.
func TestReading(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	bob.JSON = true
	tablet := device(t, server, "bob", "tablet")
	var sent []*tegamiv1.SendMessageResponse
	for i := range 5 {
		sent = append(sent, alice.send(text("bob", fmt.Sprint(i))))
	}
	carol.send(text("bob", "hi"))
	bob.send(text("carol", "hi yourself"))
	expected := []string{"carol 1 unread: " + secret + " hi yourself", "alice 5 unread: " + secret + " 4"}
	for _, limit := range []int32{0, 1} {
		if diff := cmp.Diff(expected, bob.conversations(&tegamiv1.ListConversationsRequest{Limit: limit})); diff != "" {
			t.Errorf("bob's conversations (-want +got):\n%s", diff)
		}
	}

	held := alice.poll(alice.head(), hangLimit)
	awaitHeld(t, server, 1)
	before := tablet.head()
	marked := call(bob, "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: "alice", Revision: 3}, new(tegamiv1.MarkReadResponse))
	if c := marked.Conversation; c.Unread != 2 || c.ReadRevision != 3 {
		t.Errorf("bob is answered %v", c)
	}
	ops := held.page(tegamiv1.FetchOpsResponse_OPERATIONS).GetOps()
	if read := ops[0].GetMessageRead(); len(ops) != 1 || read.GetPeer() != "bob" || read.GetMessageId() != sent[2].GetMessageId() ||
		!read.GetCreateTime().AsTime().Equal(sent[2].GetCreateTime().AsTime()) {
		t.Errorf("alice hears %v", ops)
	}
	if ops := tablet.fetch(before).GetOps(); len(ops) != 1 || ops[0].GetConversationUpdated().GetUnread() != 2 {
		t.Errorf("bob's tablet hears %v", ops)
	}
	call(bob, "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: "alice", Revision: 1}, new(tegamiv1.MarkReadResponse))
	call(bob, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{ReadReceipts: new(false)}}, new(tegamiv1.UpdateSettingsResponse))
	call(bob, "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: "alice", Revision: 1 << 40}, new(tegamiv1.MarkReadResponse))
	call(bob, "TalkService/UpdateConversation", &tegamiv1.UpdateConversationRequest{Peer: "alice", Pinned: new(true), Muted: new(true)}, new(tegamiv1.UpdateConversationResponse))
	want(t, refused(bob, "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: "nobody", Revision: 1}), "not_found", "unknown_conversation")
	want(t, refused(carol, "TalkService/UpdateConversation", &tegamiv1.UpdateConversationRequest{Peer: "alice", Pinned: new(true)}), "not_found", "unknown_conversation")

	expected[1] = "alice 0 unread: " + secret + " 4"
	for range 2 {
		if diff := cmp.Diff(expected, bob.conversations(&tegamiv1.ListConversationsRequest{})); diff != "" {
			t.Errorf("bob's conversations (-want +got):\n%s", diff)
		}
		page := call(alice, "TalkService/ListConversations", &tegamiv1.ListConversationsRequest{}, new(tegamiv1.ListConversationsResponse))
		if c := page.Items[0].Conversation; c.PeerReadMessageId != sent[2].GetMessageId() || c.Pinned {
			t.Errorf("alice has %v", c)
		}
		changed := call(bob, "TalkService/ListConversations", &tegamiv1.ListConversationsRequest{SinceRevision: before}, new(tegamiv1.ListConversationsResponse))
		if len(changed.Items) != 1 || !changed.Items[0].Conversation.Pinned || !changed.Items[0].Conversation.Muted || changed.Revision != bob.head() {
			t.Errorf("since %d bob's conversations changed: %v", before, changed)
		}
		server.Kill()
		server.Start()
	}
}
