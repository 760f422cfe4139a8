package workload

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

const testChat = "C00000000000000000000000000000001"

// script is a chat that a test makes by hand.
type script struct{ ops []*tegamiv1.Operation }

func (s *script) add(op *tegamiv1.Operation) int64 {
	op.Revision = int64(len(s.ops)) + 1
	op.ChatId, op.ChatRevision, op.CreateTime = testChat, op.Revision, timestamppb.Now()
	s.ops = append(s.ops, op)
	return op.Revision
}

// says adds the chat's next message.
func (s *script) says(from, text string, number int64) {
	m := &tegamiv1.Message{
		MessageId: text, From: from, To: testChat, ClientMessageId: text, Body: &tegamiv1.Message_Text{Text: text}, ChatMessages: number,
	}
	m.Revision = s.add(&tegamiv1.Operation{Kind: &tegamiv1.Operation_ReceiveMessage{ReceiveMessage: m}})
	m.ChatRevision = m.Revision
}

func (s *script) edits(by, message, text string) {
	a := &tegamiv1.MessageAmendment{MessageId: message, Peer: testChat, By: by, Change: &tegamiv1.MessageAmendment_Text{Text: text}}
	a.Revision = s.add(&tegamiv1.Operation{Kind: &tegamiv1.Operation_MessageAmended{MessageAmended: a}})
}

// changes adds a change after which so many are members, and so many invited.
func (s *script) changes(kind tegamiv1.ChatChange_Kind, by string, members, invited int32, large bool, users ...string) *tegamiv1.ChatChange {
	c := &tegamiv1.ChatChange{Kind: kind, By: by, Users: users, Chat: &tegamiv1.Chat{
		ChatId: testChat, Name: "friends", History: tegamiv1.ChatHistory_FROM_JOINING, MemberCount: members, InvitedCount: invited, Large: large,
	}}
	c.Chat.ChatRevision = s.add(&tegamiv1.Operation{Kind: &tegamiv1.Operation_ChatChanged{ChatChanged: c}})
	return c
}

// inMailbox returns the operations at some of the chat's revisions as they are in a
// mailbox that has nothing else. What the user is in the chat follows from what is
// in the mailbox.
func (s *script) inMailbox(user string, revisions ...int64) (copies []*tegamiv1.Operation) {
	role, first, invitedBy := tegamiv1.ChatRole_CHAT_NONE, int64(0), ""
	for i, revision := range revisions {
		op := proto.CloneOf(s.ops[revision-1])
		op.Revision = int64(i) + 1
		if m := op.GetReceiveMessage(); m != nil {
			if m.Revision = op.Revision; m.From == user {
				op.Kind = &tegamiv1.Operation_SendMessage{SendMessage: m}
			}
		} else if a := op.GetMessageAmended(); a != nil {
			a.Revision = op.Revision
		} else if c := op.GetChatChanged(); c != nil {
			switch {
			case c.Kind == tegamiv1.ChatChange_CREATED && c.By == user:
				role, first = tegamiv1.ChatRole_CHAT_OWNER, revision
			case c.Kind == tegamiv1.ChatChange_CREATED && slices.Contains(c.Users, user):
				role, invitedBy = tegamiv1.ChatRole_CHAT_INVITED, c.By
				c.Users = []string{user} // of the others it learns when it is a member
			case c.Kind == tegamiv1.ChatChange_JOINED && c.By == user:
				role, first, invitedBy = tegamiv1.ChatRole_CHAT_MEMBER, revision, ""
			case c.Kind == tegamiv1.ChatChange_REMOVED && slices.Contains(c.Users, user):
				role, first = tegamiv1.ChatRole_CHAT_NONE, 0
			}
			c.Chat.Role, c.Chat.FirstRevision, c.Chat.InvitedBy, c.Chat.Revision = role, first, invitedBy, op.Revision
		}
		copies = append(copies, op)
	}
	return copies
}

// aChat is one that was copied to its members, then was large, and then was copied
// again, with all that clients know of it.
func aChat() (*script, *evidence) {
	s := new(script)
	s.changes(tegamiv1.ChatChange_CREATED, "alice", 1, 2, false, "bob", "carol") // 1
	s.changes(tegamiv1.ChatChange_JOINED, "bob", 2, 1, false, "bob")
	s.says("alice", "one", 1)
	s.edits("alice", "one", "uno")
	s.changes(tegamiv1.ChatChange_JOINED, "carol", 3, 0, true, "carol") // 5
	s.says("bob", "two", 2)
	s.changes(tegamiv1.ChatChange_REMOVED, "alice", 2, 0, false, "bob")
	s.says("carol", "three", 3)
	e := &evidence{
		chat: testChat, sequence: s.ops,
		copies: map[seat][]*tegamiv1.Operation{
			{"alice", "phone"}:  s.inMailbox("alice", 1, 2, 3, 4, 5, 7, 8),
			{"alice", "tablet"}: s.inMailbox("alice", 1, 2, 3, 4, 5, 7, 8),
			{"bob", "phone"}:    s.inMailbox("bob", 1, 2, 3, 4, 5, 7),
			{"carol", "phone"}:  s.inMailbox("carol", 1, 5, 7, 8),
			{"dave", "phone"}:   nil,
		},
		visits: map[string][]*tegamiv1.Operation{"bob": s.ops[1:7]},
		told: []told{{"carol", &tegamiv1.Chat{
			ChatId: testChat, Name: "friends", History: tegamiv1.ChatHistory_FROM_JOINING, MemberCount: 3, Large: true,
			Role: tegamiv1.ChatRole_CHAT_MEMBER, ChatRevision: 6, FirstRevision: 5,
		}}},
		promises: []promise{
			{"carol accepts", 4, isMember("carol")},
			{"alice removes bob", 6, isOut("bob")},
		},
		places: map[int64]string{3: "one", 6: "two", 8: "three"},
	}
	return s, e
}

// The judge finds every fault that is planted in what a server is to have done to a
// chat, and none where there is none.
func TestWhatIsWrongWithAChatIsFound(t *testing.T) {
	phone := seat{"alice", "phone"}
	for _, test := range []struct {
		name  string
		plant func(s *script, e *evidence)
		want  string
	}{
		{name: "nothing", plant: func(*script, *evidence) {}},
		{
			name:  "a mailbox lacks an operation",
			plant: func(_ *script, e *evidence) { e.copies[phone] = slices.Delete(e.copies[phone], 2, 3) },
			want:  "alice/phone has a copy of revision 4 in the place of 3",
		},
		{
			name:  "a mailbox lacks the newest operation",
			plant: func(_ *script, e *evidence) { e.copies[phone] = e.copies[phone][:6] },
			want:  "alice/phone has no copy of revision 8",
		},
		{
			name:  "a mailbox has an operation twice",
			plant: func(s *script, e *evidence) { e.copies[phone] = s.inMailbox("alice", 1, 2, 3, 3, 4, 5, 7, 8) },
			want:  "alice/phone has a copy of revision 3 that it was not to have there, before 4",
		},
		{
			name:  "a mailbox has two operations in another order",
			plant: func(s *script, e *evidence) { e.copies[phone] = s.inMailbox("alice", 1, 2, 4, 3, 5, 7, 8) },
			want:  "alice/phone has a copy of revision 4 in the place of 3",
		},
		{
			name:  "one of two devices lacks an operation",
			plant: func(_ *script, e *evidence) { e.copies[seat{"alice", "tablet"}] = e.copies[phone][:6] },
			want:  "alice/tablet has no copy of revision 8",
		},
		{
			name:  "what comes after a removal",
			plant: func(s *script, e *evidence) { e.copies[seat{"bob", "phone"}] = s.inMailbox("bob", 1, 2, 3, 4, 5, 7, 8) },
			want:  "bob/phone has a copy too many, of revision 8",
		},
		{
			name:  "what comes before a member is one",
			plant: func(s *script, e *evidence) { e.copies[seat{"carol", "phone"}] = s.inMailbox("carol", 1, 3, 5, 7, 8) },
			want:  "carol/phone has a copy of revision 3 that it was not to have there, before 5",
		},
		{
			name:  "a large chat is copied",
			plant: func(s *script, e *evidence) { e.copies[phone] = s.inMailbox("alice", 1, 2, 3, 4, 5, 6, 7, 8) },
			want:  "alice/phone has a copy of revision 6 that it was not to have there, before 7",
		},
		{
			name:  "a stranger gets an operation",
			plant: func(s *script, e *evidence) { e.copies[seat{"dave", "phone"}] = s.inMailbox("dave", 3) },
			want:  "dave/phone has a copy too many, of revision 3",
		},
		{
			name:  "a copy says something else",
			plant: func(_ *script, e *evidence) { e.copies[phone][2].GetSendMessage().Body = nil },
			want:  "alice/phone has",
		},
		{
			name:  "the chat lacks an operation",
			plant: func(_ *script, e *evidence) { e.sequence = slices.Delete(slices.Clone(e.sequence), 3, 4) },
			want:  "revision 3 is followed by",
		},
		{
			name: "the chat has a message twice",
			plant: func(s *script, e *evidence) {
				s.says("carol", "three", 3)
				e.sequence = s.ops
			},
			want: "3 messages are before it",
		},
		{
			name: "a message of one who was removed",
			plant: func(s *script, e *evidence) {
				s.says("bob", "still here", 4)
				e.sequence = s.ops
			},
			want: "bob is no member",
		},
		{
			name: "a removal by one who may not",
			plant: func(s *script, e *evidence) {
				s.changes(tegamiv1.ChatChange_REMOVED, "carol", 1, 0, false, "alice")
				e.sequence = s.ops
			},
			want: "carol was CHAT_MEMBER and alice CHAT_OWNER",
		},
		{
			name:  "a change that counts wrongly",
			plant: func(_ *script, e *evidence) { e.sequence[4].GetChatChanged().Chat.MemberCount++ },
			want:  "the chat is",
		},
		{
			name:  "who was removed reads on",
			plant: func(s *script, e *evidence) { e.visits["bob"] = s.ops[6:8] },
			want:  "bob read revision 8, and was a member at [{2 7}]",
		},
		{
			name: "a visitor reads something else",
			plant: func(s *script, e *evidence) {
				other := proto.CloneOf(s.ops[5])
				other.GetReceiveMessage().Body = nil
				e.visits["bob"] = []*tegamiv1.Operation{other}
			},
			want: "which the chat does not have",
		},
		{
			name:  "an acknowledged message is elsewhere",
			plant: func(_ *script, e *evidence) { e.places[6] = "three" },
			want:  `revision 6 was told to be message three, it is "two"`,
		},
		{
			name: "an acknowledged change is lost",
			plant: func(_ *script, e *evidence) {
				e.promises = append(e.promises, promise{"dave accepts", 4, isMember("dave")})
			},
			want: "acknowledged and not so from revision 4 on: dave accepts",
		},
		{
			name: "a change is acknowledged of what was so before, and is no longer",
			plant: func(_ *script, e *evidence) {
				e.promises = append(e.promises, promise{"bob stays", 7, isMember("bob")})
			},
			want: "acknowledged and not so from revision 7 on: bob stays",
		},
		{
			name:  "somebody is told of another role",
			plant: func(_ *script, e *evidence) { e.told[0].chat.Role = tegamiv1.ChatRole_CHAT_ADMIN },
			want:  "carol was told",
		},
		{
			name:  "somebody is told of more than there is",
			plant: func(_ *script, e *evidence) { e.told[0].chat.ChatRevision = 9 },
			want:  "it ends at revision 8, and somebody was told of 9",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, e := aChat()
			test.plant(s, e)
			wrong := e.judge().wrong
			if test.want == "" && len(wrong) > 0 || test.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], test.want)) {
				t.Errorf("found %d: %s; want %q", len(wrong), strings.Join(wrong, "\n"), test.want)
			}
		})
	}
}

// When the owner leaves, the admin who has been there the longest is next, or else
// the member.
func TestWhoOwnsAChatAfterTheOwner(t *testing.T) {
	s := newChatState(testChat)
	for i, role := range []tegamiv1.ChatRole{tegamiv1.ChatRole_CHAT_MEMBER, tegamiv1.ChatRole_CHAT_ADMIN, tegamiv1.ChatRole_CHAT_ADMIN, tegamiv1.ChatRole_CHAT_INVITED} {
		s.revision = int64(i) + 1
		s.join(fmt.Sprint("user", i), role)
	}
	for _, want := range []string{"user1", "user2", "user0", ""} {
		got := s.successor(tegamiv1.ChatRole_CHAT_OWNER)
		if got != want {
			t.Errorf("%q is next, want %q", got, want)
		}
		delete(s.users, got)
	}
	if got := s.successor(tegamiv1.ChatRole_CHAT_ADMIN); got != "" {
		t.Errorf("%q is next when an admin leaves", got)
	}
}
