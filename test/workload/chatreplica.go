package workload

import (
	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// applyOfChat takes what came of a chat: into the chat, and into the conversation
// with it, which lasts as long as the membership, each unless it is newer.
func (r *replica) applyOfChat(op *tegamiv1.Operation) {
	id, changed := op.ChatId, op.GetChatChanged()
	r.copies[id] = append(r.copies[id], op)
	role := changed.GetChat().GetRole()
	if changed != nil && r.chats[id].GetRevision() < op.Revision {
		r.chats[id] = changed.Chat
		if role <= tegamiv1.ChatRole_CHAT_NONE {
			delete(r.chats, id)
		}
	}
	c := r.inChats[id]
	switch {
	case c != nil && c.Revision >= op.Revision:
		return
	case changed != nil && role < tegamiv1.ChatRole_CHAT_MEMBER:
		delete(r.inChats, id)
		return
	case changed != nil && c == nil: // it begins, and all before it is read
		c = &conversation{Conversation: &tegamiv1.Conversation{Peer: id, LastRevision: op.Revision, ReadRevision: op.ChatRevision}}
		r.inChats[id] = c
	case c == nil: // the chat's own sequence, or what is not to be here
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

// itemsOfChat returns a conversation with a chat as it is listed for a user, and as it
// is to be: what is unread is the chat's, and so is the newest message if it was not
// copied. A device that began with a snapshot may have that from elsewhere than the
// list, with another revision, which is left out then.
func (r *replica) itemsOfChat(listed *tegamiv1.ListConversationsResponse_Item, user string, s *chatState) (got, want *tegamiv1.ListConversationsResponse_Item) {
	c := r.inChats[s.id]
	want = &tegamiv1.ListConversationsResponse_Item{Conversation: proto.CloneOf(c.Conversation)}
	want.Conversation.ReadMessages = s.messagesUpTo(c.ReadRevision)
	want.Conversation.Unread = int64(len(s.messages)) - want.Conversation.ReadMessages
	newest, is := new(tegamiv1.Message), s.users[user]
	if n := len(s.messages); n > 0 {
		newest = s.messages[n-1]
	}
	switch id := newest.MessageId; {
	case newest.ChatRevision < is.first || !s.large && newest.ChatRevision < is.joined: // it does not come to newer members
	case s.large || s.uncopied[id]:
		want.LastMessage, want.LastAmendment = newest, s.lastChange[id]
	case r.partial:
		want.LastMessage, want.LastAmendment = newest, s.lastCopied[id]
	default:
		want.LastMessage, want.LastAmendment = c.last, c.lastAmendment
	}
	if !r.partial {
		return listed, want
	}
	got, want = proto.CloneOf(listed), proto.CloneOf(want)
	for _, item := range []*tegamiv1.ListConversationsResponse_Item{got, want} {
		if item.LastMessage != nil {
			item.LastMessage.Revision = 0
		}
		if item.LastAmendment != nil {
			item.LastAmendment.Revision = 0
		}
	}
	return got, want
}
