package workload

import (
	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// applyOfChat takes what came of a chat: into the chat, and into the conversation
// with it, which lasts as long as the membership.
func (r *replica) applyOfChat(op *tegamiv1.Operation) {
	id := op.ChatId
	r.copies[id] = append(r.copies[id], op)
	c := r.inChats[id]
	if changed := op.GetChatChanged(); changed != nil {
		r.chats[id] = changed.Chat
		switch role := changed.Chat.GetRole(); {
		case role < tegamiv1.ChatRole_CHAT_MEMBER:
			delete(r.inChats, id)
			if role != tegamiv1.ChatRole_CHAT_INVITED {
				delete(r.chats, id)
			}
			return
		case c == nil: // it begins, and all before it is read
			c = &conversation{began: op.ChatRevision, Conversation: &tegamiv1.Conversation{
				Peer: id, LastRevision: op.Revision, ReadRevision: op.ChatRevision,
			}}
			r.inChats[id] = c
		}
	}
	if c == nil { // the chat's own sequence, or what is not to be here
		return
	}
	c.Revision = op.Revision
	m := op.GetReceiveMessage()
	if m == nil {
		if m = op.GetSendMessage(); m != nil { // whoever writes has read
			c.ReadRevision = op.ChatRevision
		}
	}
	if m != nil {
		c.LastRevision, c.last, c.lastAmendment = op.Revision, m, nil
	}
	if a := op.GetMessageAmended(); a != nil {
		c.amend(a)
	}
}

// update takes what a conversation with a chat came to be.
func (c *conversation) update(to *tegamiv1.Conversation) {
	if to.Revision > c.Revision {
		c.Conversation = proto.CloneOf(to)
	}
}

// itemOfChat is the conversation with a chat as the server is to list it: what is
// unread, and the newest message, are the chat's.
func (c *conversation) itemOfChat(chat *tegamiv1.Chat, s *chatState) *tegamiv1.ListConversationsResponse_Item {
	want := proto.CloneOf(c.Conversation)
	want.ReadMessages = s.messagesUpTo(want.ReadRevision)
	want.Unread = int64(len(s.messages)) - want.ReadMessages
	last, amendment := c.last, c.lastAmendment
	if n := len(s.messages); n > 0 {
		newest := s.messages[n-1]
		if chat.Large && newest.ChatRevision >= chat.FirstRevision || // as the chat has it
			newest.ChatRevision > c.began && newest.MessageId != last.GetMessageId() { // sent while it was large
			last, amendment = newest, s.lastChange[newest.MessageId]
		}
	}
	return &tegamiv1.ListConversationsResponse_Item{Conversation: want, LastMessage: last, LastAmendment: amendment}
}
