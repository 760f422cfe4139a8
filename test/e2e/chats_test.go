package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// chatOps puts the operations of a chat into words, each with its place there.
func chatOps(page *tegamiv1.FetchOpsResponse) (list []string) {
	for _, op := range page.GetOps() {
		words := fmt.Sprintf("%d ", op.ChatRevision)
		switch kind := op.Kind.(type) {
		case *tegamiv1.Operation_ChatChanged:
			c := kind.ChatChanged
			words += fmt.Sprintf("%s by %s %s: %d and %d invited", c.Kind, c.By, strings.Join(c.Users, " "), c.Chat.MemberCount, c.Chat.InvitedCount)
		case *tegamiv1.Operation_MessageAmended:
			words += amendmentInWords(kind.MessageAmended)
		case *tegamiv1.Operation_ReceiveMessage:
			words += message(op).From + ": " + strings.TrimPrefix(message(op).GetText(), secret+" ")
		case *tegamiv1.Operation_SendMessage:
			words += message(op).From + ": " + strings.TrimPrefix(message(op).GetText(), secret+" ")
		default:
			continue
		}
		list = append(list, words)
	}
	return list
}

func (u user) createChat(name string, invite ...string) *tegamiv1.Chat {
	u.t.Helper()
	request := &tegamiv1.CreateChatRequest{Name: name, Invite: invite}
	return call(u, "ChatService/CreateChat", request, new(tegamiv1.CreateChatResponse)).GetChat()
}

func (u user) accept(chat string) *tegamiv1.Chat {
	u.t.Helper()
	return call(u, "ChatService/AcceptInvitation", &tegamiv1.AcceptInvitationRequest{ChatId: chat}, new(tegamiv1.AcceptInvitationResponse)).GetChat()
}

// fetchChat asks for what is in a chat after one of its revisions.
func (u user) fetchChat(chat string, after int64) *tegamiv1.FetchOpsResponse {
	u.t.Helper()
	return call(u, "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{ChatId: chat, AfterRevision: after, Limit: 1000}, new(tegamiv1.FetchOpsResponse))
}

// pollChat begins a held poll of a chat.
func (u user) pollChat(chat string, after int64) *held {
	return u.hold(&tegamiv1.FetchOpsRequest{ChatId: chat, AfterRevision: after, Limit: 1000, Timeout: durationpb.New(hangLimit)})
}

func (u user) join(code string) *tegamiv1.Chat {
	u.t.Helper()
	return call(u, "ChatService/JoinByLink", &tegamiv1.JoinByLinkRequest{Code: code}, new(tegamiv1.JoinByLinkResponse)).GetChat()
}

func (u user) members(chat string) (list []string) {
	u.t.Helper()
	request := &tegamiv1.ListMembersRequest{ChatId: chat, Limit: 2}
	for {
		page := call(u, "ChatService/ListMembers", request, new(tegamiv1.ListMembersResponse))
		for _, m := range page.Members {
			list = append(list, m.UserId+" "+m.Role.String())
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return list
		}
	}
}

func (u user) chats() (list []string) {
	u.t.Helper()
	for _, c := range call(u, "ChatService/ListChats", &tegamiv1.ListChatsRequest{}, new(tegamiv1.ListChatsResponse)).Chats {
		list = append(list, fmt.Sprintf("%s: %s, %d members", c.Name, c.Role, c.MemberCount))
	}
	return list
}

// From the first invitation to the last message: every member sees what happens
// in one order, live, and after a crash.
func TestAChat(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol", "dave")
	alice, bob, carol, dave := users[0], users[1], users[2], users[3]
	alice.JSON = true
	chat := alice.createChat(secret+" team", "bob", "carol")
	id := chat.GetChatId()
	if chat.Role != tegamiv1.ChatRole_CHAT_OWNER || chat.MemberCount != 1 || chat.InvitedCount != 2 || chat.ChatRevision != 1 {
		t.Errorf("alice made %v", chat)
	}
	if got := bob.chats(); !slices.Equal(got, []string{secret + " team: CHAT_INVITED, 1 members"}) {
		t.Errorf("bob is invited to %v", got)
	}
	want(t, refused(bob, "TalkService/SendMessage", text(id, "too early")), "not_found", "unknown_chat")
	want(t, refused(dave, "ChatService/AcceptInvitation", &tegamiv1.AcceptInvitationRequest{ChatId: id}), "not_found", "unknown_chat")
	bob.accept(id)
	carol.accept(id)

	// A message reaches everybody who waits, at one place of the chat.
	polls := []*held{bob.poll(bob.head(), hangLimit), carol.poll(carol.head(), hangLimit)}
	awaitHeld(t, server, 2)
	sent := alice.send(withID(text(id, "hello"), "m1"))
	for _, poll := range polls {
		ops := poll.page(tegamiv1.FetchOpsResponse_OPERATIONS).GetOps()
		if m := ops[0].GetReceiveMessage(); len(ops) != 1 || m.GetTo() != id || m.GetMessageId() != sent.GetMessageId() ||
			m.GetChatRevision() != sent.GetChatRevision() || ops[0].GetChatId() != id || m.GetChatMessages() != 1 {
			t.Errorf("received %v of %v", ops, sent)
		}
	}
	if again := alice.send(withID(text(id, "hello"), "m1")); again.MessageId != sent.MessageId || again.ChatRevision != sent.ChatRevision {
		t.Errorf("a retry is answered %v, the first %v", again, sent)
	}
	want(t, refused(alice, "TalkService/SendMessage", withID(text(id, "other"), "m1")), "already_exists", "different_body")

	// What is too large to be copied, and what becomes of messages.
	picture := []byte(strings.Repeat(secret, 1000))
	bob.send(&tegamiv1.SendMessageRequest{To: id, Body: &tegamiv1.SendMessageRequest_Content{Content: &tegamiv1.Content{MimeType: "image/webp", Data: picture}}})
	call(bob, "TalkService/ReactToMessage", &tegamiv1.ReactToMessageRequest{Peer: id, Revision: sent.ChatRevision, Reaction: "👍"}, new(tegamiv1.ReactToMessageResponse))
	call(alice, "TalkService/EditMessage", &tegamiv1.EditMessageRequest{Peer: id, Revision: sent.ChatRevision, Text: "hello all"}, new(tegamiv1.EditMessageResponse))
	want(t, refused(carol, "TalkService/UnsendMessage", &tegamiv1.UnsendMessageRequest{Peer: id, Revision: sent.ChatRevision}), "permission_denied", "not_yours")
	call(carol, "TalkService/ForwardMessage", &tegamiv1.ForwardMessageRequest{Peer: id, Revision: sent.ChatRevision, To: "dave"}, new(tegamiv1.ForwardMessageResponse))
	if m := message(dave.fetch(0).Ops[0]); m.GetText() != secret+" hello" || !m.Forwarded {
		t.Errorf("dave got %v", m)
	}
	for _, u := range users[:3] {
		ops := u.fetch(0).GetOps()
		got := message(ops[slices.IndexFunc(ops, func(op *tegamiv1.Operation) bool { return message(op).GetContent() != nil })])
		if !slices.Equal(got.GetContent().GetData(), picture) {
			t.Errorf("%s got a picture of %d bytes", u.name, len(got.GetContent().GetData()))
		}
	}

	// Marks are one's own.
	if got := carol.conversations(&tegamiv1.ListConversationsRequest{}); !slices.Contains(got, id+" 2 unread: ") {
		t.Errorf("carol's conversations are %q", got)
	}
	marked := call(carol, "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: id, Revision: sent.ChatRevision}, new(tegamiv1.MarkReadResponse)).GetConversation()
	if marked.Unread != 1 || marked.ReadMessages != 1 || marked.ReadRevision != sent.ChatRevision {
		t.Errorf("carol has %v", marked)
	}

	// Who is removed gets that, and nothing afterwards.
	before := carol.head()
	waiting := carol.pollChat(id, sent.ChatRevision+3)
	awaitHeld(t, server, 1)
	want(t, refused(bob, "ChatService/RemoveFromChat", &tegamiv1.RemoveFromChatRequest{ChatId: id, UserId: "carol"}), "permission_denied", "not_permitted")
	call(alice, "ChatService/RemoveFromChat", &tegamiv1.RemoveFromChatRequest{ChatId: id, UserId: "carol"}, new(tegamiv1.RemoveFromChatResponse))
	alice.send(text(id, "without carol"))
	if got := chatOps(carol.fetch(before)); len(got) != 1 || !strings.HasSuffix(got[0], "REMOVED by alice carol: 2 and 0 invited") {
		t.Errorf("carol got %q", got)
	}
	if got := chatOps(waiting.page(tegamiv1.FetchOpsResponse_OPERATIONS)); len(got) != 1 || !strings.Contains(got[0], "REMOVED") {
		t.Errorf("carol's poll of the chat ended with %q", got)
	}
	for _, procedure := range []string{"TalkService/SendMessage", "TalkService/FetchOps", "TalkService/ListMessages", "ChatService/ListMembers", "ChatService/GetChat"} {
		want(t, refused(carol, procedure, map[string]proto.Message{
			"TalkService/SendMessage":  text(id, "still here"),
			"TalkService/FetchOps":     &tegamiv1.FetchOpsRequest{ChatId: id},
			"TalkService/ListMessages": &tegamiv1.ListMessagesRequest{Peer: id},
			"ChatService/ListMembers":  &tegamiv1.ListMembersRequest{ChatId: id},
			"ChatService/GetChat":      &tegamiv1.GetChatRequest{ChatId: id},
		}[procedure]), "not_found", "unknown_chat")
	}

	// Who joins sees what the chat is set to show.
	code := call(alice, "ChatService/CreateChatLink", &tegamiv1.CreateChatLinkRequest{ChatId: id}, new(tegamiv1.CreateChatLinkResponse)).GetCode()
	dave.join(code)
	if got := dave.list(id, 0, 100); len(got.Messages) != 0 || len(got.ChatChanges) != 1 || got.HasMore {
		t.Errorf("dave, who has just joined, sees %v", got)
	}
	want(t, refused(dave, "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{ChatId: id}), "out_of_range", "cursor_too_old")
	call(alice, "ChatService/UpdateChat", &tegamiv1.UpdateChatRequest{ChatId: id, History: tegamiv1.ChatHistory_WHOLE_HISTORY.Enum()}, new(tegamiv1.UpdateChatResponse))
	carol.join(code)
	if got := carol.list(id, 0, 100); len(got.Messages) != 3 || len(got.Amendments) != 2 || got.HasMore {
		t.Errorf("carol, who joined a chat that shows its history, sees %v", got)
	}
	call(alice, "ChatService/RevokeChatLink", &tegamiv1.RevokeChatLinkRequest{ChatId: id}, new(tegamiv1.RevokeChatLinkResponse))
	want(t, refused(dave, "ChatService/JoinByLink", &tegamiv1.JoinByLinkRequest{Code: code}), "not_found", "unknown_invitation")

	call(alice, "ChatService/SetChatRole", &tegamiv1.SetChatRoleRequest{ChatId: id, UserId: "bob", Role: tegamiv1.ChatRole_CHAT_OWNER}, new(tegamiv1.SetChatRoleResponse))
	call(bob, "ChatService/LeaveChat", &tegamiv1.LeaveChatRequest{ChatId: id}, new(tegamiv1.LeaveChatResponse))
	dave.send(text(id, "bye bob"))
	whole := chatOps(alice.fetchChat(id, 0))
	for range 2 {
		if diff := cmp.Diff(whole, chatOps(alice.fetch(0))); diff != "" {
			t.Errorf("alice's mailbox (-in the chat +in the mailbox):\n%s", diff)
		}
		if got := alice.members(id); !slices.Equal(got, []string{"alice CHAT_OWNER", "carol CHAT_MEMBER", "dave CHAT_MEMBER"}) {
			t.Errorf("the members are %v", got)
		}
		if got := bob.chats(); len(got) != 0 {
			t.Errorf("bob is in %v", got)
		}
		var joined int64
		for _, u := range []user{carol, dave} {
			joined = call(u, "ChatService/GetChat", &tegamiv1.GetChatRequest{ChatId: id}, new(tegamiv1.GetChatResponse)).GetChat().FirstRevision
			if got := chatOps(u.fetchChat(id, joined-1)); !slices.Equal(got, whole[joined-1:]) {
				t.Errorf("%s sees from %d on:\n%s", u.name, joined, cmp.Diff(whole[joined-1:], got))
			}
		}
		server.Kill()
		server.Start()
	}
}

// The conversations of the corpus in a chat of three, who write in turn: some of
// each language, in one order for all.
func TestCorpusIsKeptByteForByteInAChat(t *testing.T) {
	turns := corpus(t, 20)
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	chat := users[0].createChat("corpus", "bob", "carol").GetChatId()
	users[1].accept(chat)
	users[2].accept(chat)
	for i, body := range turns {
		users[i%3].send(&tegamiv1.SendMessageRequest{To: chat, Body: &tegamiv1.SendMessageRequest_Text{Text: body}})
	}
	for _, u := range users {
		next, cursor := 0, int64(0)
		for more := true; more; {
			page := u.fetch(cursor)
			for _, op := range page.GetOps() {
				if m := message(op); m != nil {
					if next == len(turns) || m.GetText() != turns[next] {
						t.Fatalf("%s: turn %d came back as %q", u.name, next, m.GetText())
					}
					next++
				}
			}
			cursor, more = page.GetRevision(), page.GetHasMore()
		}
		if next != len(turns) {
			t.Errorf("%s has %d turns, want %d", u.name, next, len(turns))
		}
	}
}

// With more members than are copied to, devices read the chat; what it was before,
// and is afterwards, comes to the mailbox. Nothing is missed or doubled.
func TestAChatGrowsAndShrinks(t *testing.T) {
	server := start(t, "mailbox: {chat_copies: 5}")
	users := signIn(t, server, "alice", "bob", "carol", "dave", "erin", "frank")
	alice := users[0]
	id := alice.createChat("many", "bob", "carol", "dave", "erin", "frank").GetChatId()
	for _, u := range users[1:5] {
		u.accept(id)
	}
	alice.send(text(id, "small"))
	users[5].accept(id)
	poll := users[2].pollChat(id, 7)
	sent := alice.send(text(id, "large"))
	if got := chatOps(poll.page(tegamiv1.FetchOpsResponse_OPERATIONS)); !slices.Equal(got, []string{fmt.Sprint(sent.ChatRevision, " alice: large")}) {
		t.Errorf("carol's poll of the chat has %q", got)
	}
	call(users[5], "ChatService/LeaveChat", &tegamiv1.LeaveChatRequest{ChatId: id}, new(tegamiv1.LeaveChatResponse))
	call(users[4], "ChatService/LeaveChat", &tegamiv1.LeaveChatRequest{ChatId: id}, new(tegamiv1.LeaveChatResponse))
	alice.send(text(id, "small again"))
	whole := chatOps(alice.fetchChat(id, 0))
	for range 2 {
		for _, u := range users[:4] {
			var got []string
			for _, op := range u.fetch(0).GetOps() {
				if op.ChatRevision == 0 || op.GetChatChanged().GetChat().GetRole() == tegamiv1.ChatRole_CHAT_INVITED {
					continue
				}
				if n := len(got); n > 0 { // what lies between is read from the chat
					var last int64
					_, _ = fmt.Sscan(got[n-1], &last)
					got = append(got, whole[last:op.ChatRevision-1]...)
				}
				got = append(got, chatOps(&tegamiv1.FetchOpsResponse{Ops: []*tegamiv1.Operation{op}})...)
			}
			if n := len(whole) - len(got); !slices.Equal(got, whole[n:]) {
				t.Errorf("%s has (-chat +device):\n%s", u.name, cmp.Diff(whole[n:], got))
			}
		}
		server.Kill()
		server.Start()
	}
}
