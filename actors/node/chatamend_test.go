package node

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// A message of a chat is changed by its place there, whatever else the mailboxes
// of its members have, and also where they do not have it.
func TestMessagesOfAChatAreChangedByTheirPlaceThere(t *testing.T) {
	for copies, what := range map[int]string{10: "a chat that is copied", 1: "a large chat"} {
		t.Run(what, func(t *testing.T) {
			c := start(t, Options{ChatCopies: copies})
			users := c.join("alice", "bob", "carol")
			if _, err := c.send(users["bob"], "alice", "before", "between two"); err != nil {
				t.Fatal(err)
			}
			chat := c.gather(users, "alice", "bob")
			var sent []talk.Sent
			for _, text := range []string{"hello", "there"} {
				s, err := c.send(users["alice"], chat, text, text)
				if err != nil {
					t.Fatal(err)
				}
				sent = append(sent, s)
			}
			amend := func(user string, revision int64, body *talk.Body, reaction *string) refusal.Reason {
				err := c.Amend(c.context(), users[user], talk.Amend{Peer: chat, Revision: revision, Body: body, Reaction: reaction})
				if err == nil {
					return refusal.None
				}
				return refusal.From(err).Reason
			}
			first, second, better := sent[0].ChatRevision, sent[1].ChatRevision, &talk.Body{Text: "hello all"}
			if err := c.ChangeChat(c.context(), users["alice"], chat, &record.ChangeChat{Change: &record.ChangeChat_Invite_{Invite: &record.ChangeChat_Invite{Users: []string{"carol"}}}}); err != nil {
				t.Fatal(err)
			}
			if got := amend("carol", first, nil, new("+1")); got != refusal.UnknownChat {
				t.Errorf("carol, who is only invited, reacts: %v", got)
			}
			if err := c.ChangeChat(c.context(), users["carol"], chat, &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}}); err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct {
				what     string
				got, due refusal.Reason
			}{
				{"alice edits", amend("alice", first, better, nil), refusal.None},
				{"bob reacts", amend("bob", second, nil, new("+1")), refusal.None},
				{"bob edits what is alice's", amend("bob", first, better, nil), refusal.NotYours},
				{"bob unsends what is alice's", amend("bob", first, nil, nil), refusal.NotYours},
				{"alice unsends", amend("alice", second, nil, nil), refusal.None},
				{"alice edits what is no message", amend("alice", 1, better, nil), refusal.UnknownMessage},
				{"carol reacts to what was before she joined", amend("carol", first, nil, new("+1")), refusal.UnknownMessage},
			} {
				if step.got != step.due {
					t.Errorf("%s: %v, want %v", step.what, step.got, step.due)
				}
			}
			history, err := c.Messages(c.context(), "bob", chat, 0, 3)
			if err != nil {
				t.Fatal(err)
			}
			var changed []string
			for _, operation := range slices.Backward(history.Operations) {
				changed = append(changed, fmt.Sprintf("%x", operation.GetMessageAmended().GetMessageId()))
			}
			if want := []string{fmt.Sprintf("%x", sent[0].MessageID), fmt.Sprintf("%x", sent[1].MessageID), fmt.Sprintf("%x", sent[1].MessageID)}; !slices.Equal(changed, want) {
				t.Errorf("changed were %v, want %v", changed, want)
			}
		})
	}
}

// A list of conversations tells of a chat's newest message, and what became of it,
// while the chat is large, and when it is copied again.
func TestTheNewestMessageOfAChatIsListed(t *testing.T) {
	c := start(t, Options{ChatCopies: 3})
	users := c.join("alice", "bob", "carol", "dave")
	chat := c.gather(users, "alice", "bob", "carol")
	say := func(text string) talk.Sent {
		t.Helper()
		sent, err := c.send(users["alice"], chat, text, text)
		if err != nil {
			t.Fatal(err)
		}
		return sent
	}
	amend := func(of talk.Sent, body *talk.Body) {
		t.Helper()
		if err := c.Amend(c.context(), users["alice"], talk.Amend{Peer: chat, Revision: of.ChatRevision, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	change := func(by string, change *record.ChangeChat) {
		t.Helper()
		if err := c.ChangeChat(c.context(), users[by], chat, change); err != nil {
			t.Fatal(err)
		}
	}
	lists := func(of talk.Sent, change string) {
		t.Helper()
		list, err := c.Conversations(c.context(), "bob", &record.ConversationsQuery{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		got := list.Conversations[0]
		var operations []*record.Operation
		for _, operation := range []*record.Operation{got.Last, got.Amended} {
			if operation != nil {
				operations = append(operations, operation)
			}
		}
		bodies, err := c.Open(c.context(), "bob", operations)
		if err != nil {
			t.Fatal(err)
		}
		changed := ""
		if amended := got.Amended.GetMessageAmended(); amended.GetUnsent() {
			changed = "unsent"
		} else if amended != nil {
			changed = bodies[1].Text
		}
		if !bytes.Equal(messageOf(got.Last).GetMessageId(), of.MessageID[:]) || changed != change {
			t.Errorf("bob's list has %v, %q; want message %x, %q", got.Last, changed, of.MessageID, change)
		}
	}

	small := say("small")
	amend(small, &talk.Body{Text: "edited"})
	lists(small, "edited")
	change("alice", &record.ChangeChat{Change: &record.ChangeChat_Invite_{Invite: &record.ChangeChat_Invite{Users: []string{"dave"}}}})
	change("dave", &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}})
	lists(small, "edited")
	large := say("large")
	lists(large, "")
	amend(large, &talk.Body{Text: "edited"})
	amend(large, &talk.Body{Text: "edited again"})
	lists(large, "edited again")
	amend(large, nil)
	amend(large, &talk.Body{Text: "too late"})
	lists(large, "unsent")
	for _, user := range []string{"dave", "carol"} {
		change(user, &record.ChangeChat{Change: &record.ChangeChat_Leave{Leave: true}})
	}
	lists(large, "unsent")
	lists(say("small again"), "")
}

// A large edit is not copied to the members, who read it all the same, live and in
// the list of their conversations.
func TestALargeEditIsReadFromTheChat(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	chat := c.gather(users, "alice", "bob")
	sent, err := c.send(users["alice"], chat, "1", "short")
	if err != nil {
		t.Fatal(err)
	}
	head, err := c.Head(c.context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("長", mailbox.MaxCopiedBody)
	if err := c.Amend(c.context(), users["alice"], talk.Amend{Peer: chat, Revision: sent.ChatRevision, Body: &talk.Body{Text: long}}); err != nil {
		t.Fatal(err)
	}
	answers, _ := c.poll(users["bob"], head.Revision, 0)
	page := c.await(answers).page
	if got := c.texts("bob", page); !slices.Equal(got, []string{long}) || len(page.Operations[0]) > mailbox.MaxCopiedBody {
		t.Errorf("bob reads %d operations, the first with %d bytes", len(got), len(page.Operations[0]))
	}
	list, err := c.Conversations(c.context(), "bob", &record.ConversationsQuery{Limit: 1})
	if err != nil || len(list.Conversations) != 1 {
		t.Fatalf("bob's conversations are %+v, %v", list, err)
	}
	if got := c.textsOf("bob", []*record.Operation{list.Conversations[0].Last, list.Conversations[0].Amended}); !slices.Equal(got, []string{"short", long}) {
		t.Errorf("the newest message is %d and %d bytes", len(got[0]), len(got[1]))
	}
}
