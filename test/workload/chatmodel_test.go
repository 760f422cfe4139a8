package workload

import (
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// copies is up to how many members a chat of the bad world is copied to: of four,
// it is large while all are members, and small again when two are left.
const copies = 3

// newChat makes a chat of all users, who accept.
func (w *badWorld) newChat() {
	w.t.Helper()
	made := new(tegamiv1.CreateChatResponse)
	err := w.devices[0].client.Call(w.t.Context(), "ChatService/CreateChat", &tegamiv1.CreateChatRequest{Name: "chat", Invite: w.users[1:]}, made)
	w.chat = made.GetChat().GetChatId()
	for _, d := range w.devices {
		if err == nil && d.first && d.user != w.users[0] {
			err = d.client.Call(w.t.Context(), "ChatService/AcceptInvitation", &tegamiv1.AcceptInvitationRequest{ChatId: w.chat}, new(tegamiv1.AcceptInvitationResponse))
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// chooseInChat does something in the chat. The first user made it and stays.
func (w *badWorld) chooseInChat(d *badDevice, mark string, yes bool) call {
	other := w.users[w.rand.IntN(len(w.users))]
	switch roll := w.rand.IntN(20); {
	case roll < 6:
		w.said[d.user+" "+mark] = false
		return call{
			procedure: "TalkService/SendMessage", response: new(tegamiv1.SendMessageResponse), said: d.user + " " + mark,
			request: &tegamiv1.SendMessageRequest{To: w.chat, ClientMessageId: mark, Body: &tegamiv1.SendMessageRequest_Text{Text: mark}},
		}
	case roll < 8:
		return call{procedure: "ChatService/AcceptInvitation", request: &tegamiv1.AcceptInvitationRequest{ChatId: w.chat}, response: new(tegamiv1.AcceptInvitationResponse)}
	case roll < 10:
		return call{
			procedure: "ChatService/InviteToChat", response: new(tegamiv1.InviteToChatResponse),
			request: &tegamiv1.InviteToChatRequest{ChatId: w.chat, UserIds: []string{other}},
		}
	case roll == 10 && d.user != w.users[0]:
		return call{procedure: "ChatService/LeaveChat", request: &tegamiv1.LeaveChatRequest{ChatId: w.chat}, response: new(tegamiv1.LeaveChatResponse)}
	case roll == 11 && other != d.user && other != w.users[0]:
		return call{procedure: "ChatService/RemoveFromChat", request: &tegamiv1.RemoveFromChatRequest{ChatId: w.chat, UserId: other}, response: new(tegamiv1.RemoveFromChatResponse)}
	case roll == 12 && other != d.user:
		role := tegamiv1.ChatRole_CHAT_MEMBER + tegamiv1.ChatRole(w.rand.IntN(3))
		return call{
			procedure: "ChatService/SetChatRole", response: new(tegamiv1.SetChatRoleResponse),
			request: &tegamiv1.SetChatRoleRequest{ChatId: w.chat, UserId: other, Role: role},
		}
	case roll == 13:
		history := tegamiv1.ChatHistory_FROM_JOINING
		if yes {
			history = tegamiv1.ChatHistory_WHOLE_HISTORY
		}
		return call{
			procedure: "ChatService/UpdateChat", response: new(tegamiv1.UpdateChatResponse),
			request: &tegamiv1.UpdateChatRequest{ChatId: w.chat, Name: &mark, History: &history},
		}
	case roll == 14:
		return call{
			procedure: "TalkService/UpdateConversation", response: new(tegamiv1.UpdateConversationResponse),
			request: &tegamiv1.UpdateConversationRequest{Peer: w.chat, Pinned: &yes},
		}
	default:
		return w.chooseOfChat(d, mark)
	}
}

// chooseOfChat does something with a message of the chat that the device has.
func (w *badWorld) chooseOfChat(d *badDevice, mark string) call {
	if len(d.inChat) == 0 {
		return call{}
	}
	m := d.inChat[max(0, len(d.inChat)-1-w.rand.IntN(8))]
	switch roll := w.rand.IntN(5); {
	case roll < 2:
		return call{procedure: "TalkService/MarkRead", request: &tegamiv1.MarkReadRequest{Peer: w.chat, Revision: m.ChatRevision}, response: new(tegamiv1.MarkReadResponse)}
	case roll == 2 && m.From == d.user:
		return call{
			procedure: "TalkService/EditMessage", response: new(tegamiv1.EditMessageResponse),
			request: &tegamiv1.EditMessageRequest{Peer: w.chat, Revision: m.ChatRevision, Text: mark},
		}
	case roll == 3 && m.From == d.user:
		return call{
			procedure: "TalkService/UnsendMessage", response: new(tegamiv1.UnsendMessageResponse),
			request: &tegamiv1.UnsendMessageRequest{Peer: w.chat, Revision: m.ChatRevision},
		}
	default:
		return call{
			procedure: "TalkService/ReactToMessage", response: new(tegamiv1.ReactToMessageResponse),
			request: &tegamiv1.ReactToMessageRequest{Peer: w.chat, Revision: m.ChatRevision, Reaction: mark},
		}
	}
}

// judgeChat reads the chat and returns what it comes to, with what is wrong with
// what devices that have all of their mailboxes have of it.
func (w *badWorld) judgeChat() *verdict {
	w.t.Helper()
	e := &evidence{chat: w.chat, copies: map[seat][]*tegamiv1.Operation{}}
	var err error
	reader := &device{user: w.users[0], client: w.devices[0].client, rand: w.rand}
	if e.sequence, err = reader.readChat(w.t.Context(), w.chat, 0); err != nil {
		w.t.Fatal(err)
	}
	for _, d := range w.devices {
		if d.first {
			e.copies[seat{d.user, d.name}] = d.copies[w.chat]
		}
	}
	v := e.judge()
	there := map[string]int{}
	for _, m := range v.messages {
		there[m.From+" "+m.ClientMessageId]++
	}
	for message, acked := range w.said {
		if n := there[message]; n > 1 || acked && n != 1 {
			v.add("%s, acknowledged %v, is in the chat %d times", message, acked, n)
		}
		delete(there, message)
	}
	for message := range there {
		v.add("%s, which nobody sent, is in the chat", message)
	}
	return v
}
