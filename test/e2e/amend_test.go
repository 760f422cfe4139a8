package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

func amendmentInWords(a *tegamiv1.MessageAmendment) string {
	switch change := a.GetChange().(type) {
	case *tegamiv1.MessageAmendment_Unsent:
		return a.By + " unsent"
	case *tegamiv1.MessageAmendment_Text:
		return a.By + " now: " + change.Text
	case *tegamiv1.MessageAmendment_Reaction:
		return a.By + " reacts: " + change.Reaction
	}
	return "nothing"
}

// A message is changed by whoever may, which both read, from the poll and when
// they look back.
func TestAmendments(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	bob.JSON = true
	sent := alice.send(text("bob", "helo"))
	carol.send(text("bob", "unconcerned"))
	call(alice, "TalkService/EditMessage", &tegamiv1.EditMessageRequest{Peer: "bob", Revision: 1, Text: secret + " hello"}, new(tegamiv1.EditMessageResponse))
	call(bob, "TalkService/ReactToMessage", &tegamiv1.ReactToMessageRequest{Peer: "alice", Revision: 1, Reaction: "👍"}, new(tegamiv1.ReactToMessageResponse))
	call(alice, "TalkService/UnsendMessage", &tegamiv1.UnsendMessageRequest{Peer: "bob", Revision: 1}, new(tegamiv1.UnsendMessageResponse))

	want(t, refused(bob, "TalkService/UnsendMessage", &tegamiv1.UnsendMessageRequest{Peer: "alice", Revision: 1}), "permission_denied", "not_yours")
	want(t, refused(bob, "TalkService/EditMessage", &tegamiv1.EditMessageRequest{Peer: "alice", Revision: 1, Text: "mine"}), "permission_denied", "not_yours")
	for _, revision := range []int64{2, 3, 99} { // Another conversation's, an amendment, none.
		want(t, refused(bob, "TalkService/ReactToMessage", &tegamiv1.ReactToMessageRequest{Peer: "alice", Revision: revision}), "not_found", "unknown_message")
	}
	marked := call(bob, "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: "alice", Revision: bob.head()}, new(tegamiv1.MarkReadResponse))
	if marked.Conversation.Unread != 0 || marked.Conversation.ReadRevision != 1 {
		t.Errorf("bob has read %v", marked.Conversation)
	}
	expected := []string{"alice unsent", "bob reacts: 👍", "alice now: " + secret + " hello"}
	for range 2 {
		for _, u := range []struct {
			user
			peer string
		}{{alice, "bob"}, {bob, "alice"}} {
			var ops, looked []string
			for _, op := range u.fetch(0).GetOps() {
				if a := op.GetMessageAmended(); a != nil {
					ops = append([]string{amendmentInWords(a)}, ops...)
					if a.MessageId != sent.MessageId || a.Peer != u.peer || a.Revision != op.Revision {
						t.Errorf("%s hears %v", u.name, a)
					}
				}
			}
			request := &tegamiv1.ListMessagesRequest{Peer: u.peer, Limit: 2}
			for {
				page := call(u.user, "TalkService/ListMessages", request, new(tegamiv1.ListMessagesResponse))
				for _, a := range page.Amendments {
					looked = append(looked, amendmentInWords(a))
				}
				if request.Before = page.NextBefore; !page.HasMore {
					if len(page.Messages) != 1 || page.Messages[0].MessageId != sent.MessageId {
						t.Errorf("%s finds %v at the end", u.name, page.Messages)
					}
					break
				}
			}
			if diff := cmp.Diff(expected, ops); diff != "" {
				t.Errorf("what %s hears, newest first (-want +got):\n%s", u.name, diff)
			}
			if diff := cmp.Diff(expected, looked); diff != "" {
				t.Errorf("what %s looks back on (-want +got):\n%s", u.name, diff)
			}
		}
		server.Kill()
		server.Start()
	}
}

// A device that begins is shown no message that was withdrawn, and the newest
// edit of one: the operation that tells of it lies below its cursor. The
// conversation counts as changed.
func TestSnapshotsShowWhatBecameOfTheNewestMessage(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	alice.send(text("bob", "older"))
	alice.send(text("bob", "helo"))
	carol.send(text("bob", "hi"))
	before := bob.head()
	edit := func(revision int64, text string) {
		call(alice, "TalkService/EditMessage", &tegamiv1.EditMessageRequest{Peer: "bob", Revision: revision, Text: text}, new(tegamiv1.EditMessageResponse))
	}
	expect := func(want string) {
		t.Helper()
		for range 2 {
			listed := call(bob, "TalkService/ListConversations", &tegamiv1.ListConversationsRequest{SinceRevision: before}, new(tegamiv1.ListConversationsResponse))
			items := listed.Items
			for _, item := range call(bob, "TalkService/Sync", &tegamiv1.SyncRequest{}, new(tegamiv1.SyncResponse)).Items {
				if item.GetConversation().GetConversation().GetPeer() == "alice" {
					items = append(items, item.GetConversation())
				}
			}
			for _, item := range items {
				got := strings.TrimPrefix(item.LastMessage.GetText(), secret+" ") + ", " + amendmentInWords(item.GetLastAmendment())
				if item.Conversation.Peer != "alice" || got != want || item.Conversation.Unread != 2 {
					t.Errorf("bob is shown %v of %v, want %s", got, item.Conversation, want)
				}
			}
			if len(items) != 2 {
				t.Errorf("bob is shown %v", items)
			}
			server.Kill()
			server.Start()
		}
	}
	edit(1, "an older one")
	expect("helo, nothing")
	edit(2, "hello")
	call(bob, "TalkService/ReactToMessage", &tegamiv1.ReactToMessageRequest{Peer: "alice", Revision: 2, Reaction: "👍"}, new(tegamiv1.ReactToMessageResponse))
	expect("helo, alice now: hello")
	call(alice, "TalkService/UnsendMessage", &tegamiv1.UnsendMessageRequest{Peer: "bob", Revision: 2}, new(tegamiv1.UnsendMessageResponse))
	edit(2, "after all")
	expect("helo, alice unsent")

	// The edit is what bob saw, and what he forwards.
	call(bob, "TalkService/ForwardMessage", &tegamiv1.ForwardMessageRequest{Peer: "alice", Revision: before + 2, To: "carol"}, new(tegamiv1.ForwardMessageResponse))
	want(t, refused(bob, "TalkService/ForwardMessage", &tegamiv1.ForwardMessageRequest{Peer: "alice", Revision: before + 3, To: "carol"}), "not_found", "unknown_message")
	if got := message(carol.fetch(carol.head() - 1).GetOps()[0]); got.GetText() != "hello" || !got.Forwarded {
		t.Errorf("carol receives %v", got)
	}
}

// What a message refers to comes with it, and is part of what it says: the same
// id with another reference is another message. A message is forwarded without
// what it referred to.
func TestReferences(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	first := alice.send(text("bob", "hello"))
	reply := withID(text("alice", "@alice hi"), "r1")
	reply.ReplyTo = first.MessageId
	reply.Mentions = []*tegamiv1.Mention{{UserId: "alice", Start: 7, Length: 6}}
	for _, u := range []user{bob, bob} {
		u.send(reply)
	}
	want(t, refused(bob, "TalkService/SendMessage", withID(text("alice", "@alice hi"), "r1")), "already_exists", "different_body")
	got := message(alice.fetch(1).GetOps()[0])
	if got.GetText() != reply.GetText() || got.ReplyTo != first.MessageId || len(got.Mentions) != 1 || got.Mentions[0].Length != 6 || got.Forwarded {
		t.Errorf("alice receives %v", got)
	}
	forward := &tegamiv1.ForwardMessageRequest{Peer: "bob", Revision: 2, To: "carol", ClientMessageId: "f1"}
	sent := call(alice, "TalkService/ForwardMessage", forward, new(tegamiv1.ForwardMessageResponse))
	again := call(alice, "TalkService/ForwardMessage", forward, new(tegamiv1.ForwardMessageResponse))
	got = message(carol.fetch(0).GetOps()[0])
	if got.GetText() != reply.GetText() || !got.Forwarded || got.ReplyTo != "" || len(got.Mentions) != 0 || got.From != "alice" ||
		got.MessageId != sent.MessageId || again.MessageId != sent.MessageId || carol.head() != 1 {
		t.Errorf("carol receives %v", got)
	}
	forward.Revision = 99
	want(t, refused(alice, "TalkService/ForwardMessage", forward), "not_found", "unknown_message")
	forward.Revision, forward.To, forward.ClientMessageId = 2, "nobody", ""
	want(t, refused(alice, "TalkService/ForwardMessage", forward), "not_found", "unknown_recipient")
}
