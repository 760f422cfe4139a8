package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

func amendmentInWords(a *tegamiv1.MessageAmendment) string {
	switch change := a.Change.(type) {
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
