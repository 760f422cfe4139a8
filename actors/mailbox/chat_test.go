package mailbox

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// sequence returns what a mailbox has of a chat, as its owner reads it: the
// operations of the mailbox, and, from where those end, the chat itself.
func (w *world) sequence(user, chat string) (all []*record.Operation) {
	large := false
	in := w.operations(chat)
	read := func(upTo int64) { // what a poll of the chat brought by then
		for len(all) > 0 && all[len(all)-1].ChatRevision < upTo {
			all = append(all, in[all[len(all)-1].ChatRevision])
		}
	}
	for _, op := range w.operations(user) {
		if op.Chat != chat {
			continue
		}
		changed := op.GetChatChanged()
		if changed.GetMember().GetRole() == record.ChatRole_CHAT_ROLE_INVITED || len(all) == 0 && changed.GetMember().GetRole() < record.ChatRole_CHAT_ROLE_MEMBER {
			continue
		}
		if large {
			read(op.ChatRevision - 1)
		}
		if len(all) == 0 || all[len(all)-1].ChatRevision < op.ChatRevision {
			all = append(all, op)
		}
		large = changed.GetChat().GetLarge()
		if changed.GetMember().GetRole() < record.ChatRole_CHAT_ROLE_MEMBER {
			large = false
		}
	}
	if large {
		read(int64(len(in)))
	}
	return all
}

// A chat grows until it is large, and shrinks again: its members see all that
// happens, once and in order, and what is copied does not grow with it.
func TestALargeChat(t *testing.T) {
	const copied, again = 20, 16
	chat := chatNamed("all")
	users := make([]string, copied+2)
	for i := range users {
		users[i] = fmt.Sprintf("u%03d", i)
	}
	w := newWorld(t, users...)
	owner := users[0]
	w.mailboxes[chat] = &place{State: New(chat)}
	w.do(chat, &record.Record{Kind: &record.Record_CreateChat{CreateChat: &record.CreateChat{Creator: owner, Name: "all", MaxCopied: copied}}})
	w.do(chat, changeChat(owner, "d", &record.ChangeChat{Change: &record.ChangeChat_Link{Link: token("in")}}))
	join := func(user string) {
		out := w.do(chat, changeChat(user, "d", &record.ChangeChat{Change: &record.ChangeChat_Join{Join: token("in")}}))
		if out.Answer.Reason != refusal.None {
			t.Fatalf("%s joins: %v", user, out.Answer.Reason)
		}
		w.settle()
	}
	sent := 0
	say := func(user string, copies int) {
		t.Helper()
		sent++
		out := w.do(chat, chatSend(user, "d", fmt.Sprint("m", sent), fmt.Sprint("m", sent)))
		if out.Answer.Reason != refusal.None || len(out.FollowUps) != copies {
			t.Errorf("message %d: %v, %d follow-ups, want %d", sent, out.Answer.Reason, len(out.FollowUps), copies)
		}
		w.settle()
	}
	for _, user := range users[1 : copied-5] { // of whom the mailboxes hear later
		w.do(chat, changeChat(user, "d", &record.ChangeChat{Change: &record.ChangeChat_Join{Join: token("in")}}))
		clear(w.onTheWay)
	}
	for _, user := range users[copied-5 : copied] {
		join(user)
	}
	say(users[7], copied)
	join(users[copied])
	say(users[7], 1) // the writer's own mark
	join(users[copied+1])
	say(users[8], 1)
	w.do(chat, changeChat(owner, "d", &record.ChangeChat{Change: &record.ChangeChat_Name{Name: "everybody"}}))
	w.settle()
	if c := w.mailboxes[users[9]].Conversation(chat); c.Received != 1 {
		t.Errorf("a mailbox counts %d messages", c.Received)
	}
	for i := len(users) - 1; i >= again; i-- {
		w.do(chat, changeChat(users[i], "d", &record.ChangeChat{Change: &record.ChangeChat_Leave{Leave: true}}))
		w.settle()
	}
	say(users[9], again)
	w.reload()

	whole := w.operations(chat)
	for _, user := range users {
		got := w.sequence(user, chat)
		for i, op := range got {
			if op.ChatRevision != got[0].ChatRevision+int64(i) {
				t.Fatalf("%s: operation %d of the chat follows %d", user, op.ChatRevision, got[max(i, 1)-1].ChatRevision)
			}
		}
		left := got[len(got)-1].GetChatChanged().GetKind() == record.ChatChange_LEFT && slices.Contains(got[len(got)-1].GetChatChanged().Users, user)
		if !left && int64(len(whole)) != got[len(got)-1].ChatRevision {
			t.Errorf("%s ends with %d of %d", user, got[len(got)-1].ChatRevision, len(whole))
		}
	}
	if c := w.mailboxes[users[9]].Conversation(chat); c.Received != 4 || c.Read != 4 {
		t.Errorf("who wrote last counts %d messages, %d of them read", c.Received, c.Read)
	}
	if c := w.mailboxes[users[10]].Conversation(chat); c.Received-c.Read != 4 {
		t.Errorf("who read nothing has %d of %d unread", c.Received-c.Read, c.Received)
	}
	if m := w.mailboxes[users[10]].parts.chats[chat]; m.Chat.Name != "everybody" || m.Chat.Large {
		t.Errorf("a mailbox knows %v", m)
	}
}

// modelChat is a chat as one would write it down: who was in it at each revision.
type modelChat struct {
	roles map[string]record.ChatRole

	// due is what each user's mailbox must get of the chat, in words.
	due map[string][]string
}

// Whatever is asked for, in whatever order follow-ups arrive from elsewhere:
// membership at each revision decides who gets what, all in the order of the
// chat.
func TestMembershipDecidesWhoGetsWhat(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := []string{"alice", "bob", "carol", "dave", "erin"}
		w := newWorld(t, names...)
		chat := chatNamed("group")
		w.mailboxes[chat] = &place{State: New(chat)}
		w.do(chat, &record.Record{Kind: &record.Record_CreateChat{CreateChat: &record.CreateChat{
			Creator: "alice", Name: "group", Invite: []string{"bob"}, MaxCopied: int32(rapid.IntRange(1, 5).Draw(rt, "copied")),
		}}})
		for range rapid.IntRange(1, 40).Draw(rt, "requests") {
			user, other := rapid.SampledFrom(names).Draw(rt, "user"), rapid.SampledFrom(names).Draw(rt, "other")
			w.do(chat, drawChatRecord(rt, user, other, w.minted))
			for range rapid.IntRange(0, 3).Draw(rt, "deliveries") {
				if ways := w.ways(); len(ways) > 0 {
					w.deliver(rapid.SampledFrom(ways).Draw(rt, "way"))
				}
			}
		}
		w.settle()
		w.reload()
		w.checkChat(rt, chat, names)
	})
}

func drawChatRecord(t *rapid.T, user, other string, n int) *record.Record {
	change := new(record.ChangeChat)
	switch rapid.IntRange(0, 11).Draw(t, "request") {
	case 0, 1:
		change.Change = &record.ChangeChat_Invite_{Invite: &record.ChangeChat_Invite{Users: []string{other, user}}}
	case 2, 3:
		change.Change = &record.ChangeChat_Accept{Accept: true}
	case 4:
		change.Change = &record.ChangeChat_Leave{Leave: true}
	case 5:
		change.Change = &record.ChangeChat_Remove{Remove: other}
	case 6:
		role := record.ChatRole(rapid.IntRange(2, 4).Draw(t, "role"))
		change.Change = &record.ChangeChat_Role{Role: &record.ChangeChat_ChatRoleOf{User: other, Role: role}}
	case 7:
		change.Change = &record.ChangeChat_Name{Name: fmt.Sprint("name", n)}
	case 8:
		change.Change = &record.ChangeChat_WholeHistory{WholeHistory: n%2 == 0}
	case 9:
		return &record.Record{Kind: &record.Record_ChatAmend{ChatAmend: &record.ChatAmend{
			From: user, MessageTime: start, Amendment: &record.Amendment{
				MessageId: hash(16, n), By: user, Change: &record.Amendment_Reaction{Reaction: "+1"},
			},
		}}}
	default:
		return chatSend(user, "d", fmt.Sprint("m", n), strings.Repeat("x", n))
	}
	return changeChat(user, "d", change)
}

// checkChat reads the chat from its beginning, and compares: what it did to its
// members with what it says of them now, and what each mailbox has with what
// reached it.
func (w *world) checkChat(t *rapid.T, chat string, names []string) {
	m := modelChat{roles: map[string]record.ChatRole{}, due: map[string][]string{}}
	large := false
	for _, op := range w.operations(chat) {
		reached := map[string]bool{}
		add := func() {
			for user, role := range m.roles {
				if role >= record.ChatRole_CHAT_ROLE_MEMBER {
					reached[user] = true
				}
			}
		}
		wasLarge := large
		if changed := op.GetChatChanged(); changed != nil {
			large = changed.Chat.Large
		}
		if !wasLarge || !large {
			add()
		}
		m.follow(t, op.GetChatChanged(), reached)
		if !wasLarge || !large {
			add()
		}
		for user := range reached {
			m.due[user] = append(m.due[user], fmt.Sprintf("%d by %s", op.ChatRevision, CausedBy(op)))
		}
	}
	s := w.mailboxes[chat]
	got := map[string]record.ChatRole{}
	for user, member := range s.parts.members {
		got[user] = member.Role
	}
	maps.DeleteFunc(m.roles, func(_ string, role record.ChatRole) bool { return role == record.ChatRole_CHAT_ROLE_NONE })
	if diff := cmp.Diff(m.roles, got); diff != "" {
		t.Fatalf("roles (-as told +as kept):\n%s", diff)
	}
	members, owners := int32(0), 0
	for _, role := range m.roles {
		if role >= record.ChatRole_CHAT_ROLE_MEMBER {
			members++
		}
		if role == record.ChatRole_CHAT_ROLE_OWNER {
			owners++
		}
	}
	if members != s.parts.chat.GetMembers() || owners != min(1, int(members)) || len(m.roles)-int(members) != int(s.parts.chat.GetInvited()) {
		t.Fatalf("%d members, %d owners in %v", members, owners, s.parts.chat)
	}
	for _, user := range names {
		var has []string
		for _, op := range w.operations(user) {
			if op.Chat == chat {
				has = append(has, fmt.Sprintf("%d by %s", op.ChatRevision, CausedBy(op)))
			}
		}
		if diff := cmp.Diff(m.due[user], has); diff != "" {
			t.Fatalf("%s's mailbox (-due +has):\n%s", user, diff)
		}
		membership := w.mailboxes[user].parts.chats[chat]
		if diff := cmp.Diff(s.parts.members[user], membership.GetMember(), protocmp.Transform()); diff != "" {
			t.Fatalf("what %s is (-in the chat +in the mailbox):\n%s", user, diff)
		}
		for got := w.sequence(user, chat); len(got) > 1; got = got[1:] {
			ended := got[0].GetChatChanged().GetMember() != nil && got[0].GetChatChanged().Member.Role == record.ChatRole_CHAT_ROLE_NONE
			if got[1].ChatRevision != got[0].ChatRevision+1 && !ended {
				t.Fatalf("%s reads %d after %d", user, got[1].ChatRevision, got[0].ChatRevision)
			}
		}
		if membership.GetMember().GetRole() >= record.ChatRole_CHAT_ROLE_MEMBER && !large {
			if want := shownChat(s.parts.chat); !proto.Equal(want, membership.Chat) {
				t.Fatalf("%s knows %v, the chat is %v", user, membership.Chat, want)
			}
			w.checkUnread(t, user, chat, membership.Member)
		}
	}
}

// checkUnread recounts what a member has not read: the messages of others since
// the member's own newest one.
func (w *world) checkUnread(t *rapid.T, user, chat string, member *record.ChatMember) {
	unread := int64(0)
	for _, op := range w.operations(chat) {
		switch m := op.GetReceiveMessage(); {
		case m == nil || op.ChatRevision <= member.JoinedRevision:
		case m.From == user:
			unread = 0
		default:
			unread++
		}
	}
	if c := w.mailboxes[user].Conversation(chat); c.Received-c.Read != unread {
		t.Fatalf("%s has %d unread, %d were counted", user, c.Received-c.Read, unread)
	}
}

// follow keeps the roles, and adds those whom a change is about to those whom it
// reaches.
func (m *modelChat) follow(t *rapid.T, c *record.ChatChange, reached map[string]bool) {
	set := func(role record.ChatRole) {
		for _, user := range c.Users {
			m.roles[user] = role
			reached[user] = true
		}
	}
	switch c.GetKind() {
	case record.ChatChange_CREATED:
		set(record.ChatRole_CHAT_ROLE_INVITED)
		m.roles[c.By], reached[c.By] = record.ChatRole_CHAT_ROLE_OWNER, true
	case record.ChatChange_INVITED:
		set(record.ChatRole_CHAT_ROLE_INVITED)
	case record.ChatChange_JOINED:
		set(record.ChatRole_CHAT_ROLE_MEMBER)
	case record.ChatChange_DECLINED, record.ChatChange_LEFT, record.ChatChange_REMOVED:
		set(record.ChatRole_CHAT_ROLE_NONE)
		if c.Successor != "" {
			reached[c.Successor] = true
			m.roles[c.Successor] = record.ChatRole_CHAT_ROLE_OWNER
		}
	case record.ChatChange_ROLE_CHANGED:
		set(c.Role)
		if c.Role == record.ChatRole_CHAT_ROLE_OWNER {
			reached[c.By] = true
			m.roles[c.By] = record.ChatRole_CHAT_ROLE_ADMIN
		}
	case record.ChatChange_UPDATED, record.ChatChange_KIND_UNSPECIFIED:
	default:
		t.Fatalf("a change of kind %v", c.Kind)
	}
}

// However late a mailbox hears of what a member has read elsewhere, or written:
// marks never move back, nothing is read that is not there, and what is unread in
// the end is what a recount of the others' messages above the mark comes to.
func TestMarksOfAChat(t *testing.T) {
	names := []string{"alice", "bob", "carol"}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, names...)
		chat := chatNamed("group")
		w.do(w.request("alice", "phone", "create", []string{"group", "bob", "carol"}))
		for _, user := range names[1:] {
			w.do(w.request(user, "phone", "join", []string{"group"}))
		}
		w.settle()
		marks := map[string]*record.Conversation{}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			user := rapid.SampledFrom(names).Draw(rt, "user")
			switch rapid.SampledFrom([]string{"send", "read", "deliver", "deliver"}).Draw(rt, "verb") {
			case "send":
				w.do(w.request(user, "phone", "send", []string{"group", "hello"}))
			case "read": // in the chat, of which the mailbox may have heard less
				revision := rapid.Int64Range(1, w.mailboxes[chat].head).Draw(rt, "revision")
				w.do(w.request(user, "phone", "read", []string{"group", fmt.Sprint(revision)}))
			default:
				if ways := w.ways(); len(ways) > 0 {
					w.deliver(rapid.SampledFrom(ways).Draw(rt, "way"))
				}
			}
			for _, user := range names {
				c, was := w.mailboxes[user].Conversation(chat), marks[user]
				if c.Read < was.GetRead() || c.ReadRevision < was.GetReadRevision() {
					rt.Fatalf("%s's mark moved back from %v to %v", user, was, c)
				}
				if c.Read > c.Received {
					rt.Fatalf("%s has read more than there is: %v", user, c)
				}
				marks[user] = c
			}
		}
		w.settle()
		w.reload()
		for _, user := range names {
			c, unread := w.mailboxes[user].Conversation(chat), int64(0)
			for _, op := range w.operations(chat) {
				if m := op.GetReceiveMessage(); m != nil && op.ChatRevision > c.ReadRevision {
					unread++
					if m.From == user {
						rt.Fatalf("%s has written what is %d in the chat, and read up to %d", user, op.ChatRevision, c.ReadRevision)
					}
				}
			}
			if c.Received-c.Read != unread {
				rt.Fatalf("%s has %d unread, %d were counted", user, c.Received-c.Read, unread)
			}
		}
	})
}

// invitation is what a chat has copied to a user whom alice invites.
func invitation(chat, user string, version uint32) *record.Record {
	return &record.Record{
		Mailbox: user, ApplyVersion: version, Source: &record.Source{Mailbox: chat, Offset: 1},
		Kind: &record.Record_ChatCopy{ChatCopy: &record.ChatCopy{
			Operation: &record.Operation{Chat: chat, ChatRevision: 1, Kind: &record.Operation_ChatChanged{ChatChanged: &record.ChatChange{
				Kind: record.ChatChange_CREATED, By: "alice", Users: []string{user}, Chat: &record.Chat{Members: 1, Invited: 1},
			}}},
			Member: &record.ChatMember{Role: record.ChatRole_CHAT_ROLE_INVITED, InvitedBy: "alice"},
		}},
	}
}

// Whoever likes may invite a user to as many chats as they like: the mailbox keeps
// no more of them than may be.
func TestInvitationsToChatsAreBounded(t *testing.T) {
	w := newWorld(t, "bob")
	for i := range MaxChats + 1 {
		out := w.apply(invitation(chatNamed(fmt.Sprint(i)), "bob", heardVersion))
		if seen := len(out.Operations) == 1; seen != (i < MaxChats) {
			t.Fatalf("invitation %d: seen %v", i, seen)
		}
	}
	if n := len(w.mailboxes["bob"].parts.chats); n != MaxChats {
		t.Errorf("bob has %d chats", n)
	}
	w.reload()
}

// Records of before decide as they did.
func TestWhatAMailboxHearsOfChatsHasVersions(t *testing.T) {
	for version, want := range map[uint32]int{heardVersion - 1: MaxChats + 1, heardVersion: MaxChats} {
		bob := New("bob")
		created := command("create", createAccount("bob"))
		created.ApplyVersion = version
		bob.Apply(Input{Position: at(1), Time: start, Record: created})
		for i := range MaxChats + 1 {
			bob.Apply(Input{Position: at(int64(i + 2)), Time: start, Record: invitation(chatNamed(fmt.Sprint(i)), "bob", version)})
		}
		if n := len(bob.parts.chats); n != want {
			t.Errorf("version %d: bob has %d chats, want %d", version, n, want)
		}
	}
}

// A conversation with a large chat that was forgotten begins again with what the
// owner writes there, at a place of its own in the list.
func TestALargeChatThatWasForgottenBeginsAgain(t *testing.T) {
	w := newWorld(t, "bob")
	for i := range MaxConversations {
		w.do("bob", send(fmt.Sprint("user", i), "m", 1))
	}
	for i := range 2 {
		chat := chatNamed(fmt.Sprint(i))
		w.apply(&record.Record{Mailbox: "bob", ApplyVersion: ApplyVersion, Source: &record.Source{Mailbox: chat, Offset: 1}, Kind: &record.Record_ChatCopy{
			ChatCopy: &record.ChatCopy{Operation: &record.Operation{OriginDevice: "phone", Chat: chat, ChatRevision: 9, ChatMessages: 7}},
		}})
		c, bob := w.mailboxes["bob"].Conversation(chat), w.mailboxes["bob"]
		if c.GetRead() != 7 || c.LastRevision != bob.Head() || len(bob.parts.conversations) != MaxConversations {
			t.Errorf("%d conversations, %v", len(bob.parts.conversations), c)
		}
	}
	w.reload()
}

// An edit is copied to all members with its body, as a message is, where that is
// small.
func TestLargeEditsAreNotCopied(t *testing.T) {
	for size, copied := range map[int]bool{MaxCopiedBody: true, MaxCopiedBody + 1: false} {
		w := newWorld(t, "alice", "bob")
		w.do(w.request("alice", "phone", "create", []string{"group", "bob"}))
		w.do(w.request("bob", "phone", "join", []string{"group"}))
		w.do(w.request("alice", "phone", "edit", []string{"group", "0001", strings.Repeat("x", size)}))
		w.settle()
		w.reload()
		for mailbox, full := range map[string]bool{chatNamed("group"): true, "alice": copied, "bob": copied} {
			all := w.operations(mailbox)
			edit, edits := all[len(all)-1].GetMessageAmended().GetChange().(*record.Amendment_SealedBody)
			if !edits || len(edit.SealedBody) != map[bool]int{true: size}[full] {
				t.Errorf("%d bytes: %s has %d of them, %v", size, short(mailbox), len(edit.SealedBody), edits)
			}
		}
	}
}
