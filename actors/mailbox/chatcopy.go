package mailbox

import (
	"github.com/tegami-im/tegami/actors/record"
)

// MaxChats is how many chats a user may be in or invited to. Whoever asks to
// join or to make one is refused beyond that before; what is under way may go
// beyond. Invitations beyond that are not seen.
const MaxChats = 1_000

var chatCopyKind = kind{
	since:  ChatVersion,
	source: recordSource,
	malformed: func(r *record.Record) bool {
		c := r.GetChatCopy().GetOperation()
		return c.GetChat() == "" || c.GetChat() != r.GetSource().GetMailbox() || !isOfChat(c)
	},
	decide: func(d *decision, r *record.Record) { d.chatCopy(r.GetChatCopy()) },
}

// isOfChat reports whether an operation is one that a chat makes.
func isOfChat(c *record.Operation) bool {
	switch kind := c.GetKind().(type) {
	case nil:
		return true
	case *record.Operation_ReceiveMessage:
		return kind.ReceiveMessage != nil
	case *record.Operation_MessageAmended:
		return kind.MessageAmended != nil
	case *record.Operation_ChatChanged:
		return kind.ChatChanged != nil
	default:
		return false
	}
}

// chatCopy takes in an operation of a chat. The chat has decided that it reaches
// the owner: who is blocked does not matter, but for invitations.
func (d *decision) chatCopy(c *record.ChatCopy) {
	of := c.Operation
	operation := &record.Operation{Chat: of.Chat, ChatRevision: of.ChatRevision, ChatMessages: of.ChatMessages, Kind: of.Kind}
	own := CausedBy(of) == d.user
	if own || of.Kind == nil {
		operation.OriginDevice = of.OriginDevice
	}
	switch kind := of.Kind.(type) {
	case nil:
		d.readInChat(of)
	case *record.Operation_ChatChanged:
		d.chatChanged(operation, kind.ChatChanged, c.Member)
	default:
		m := of.GetReceiveMessage()
		if m != nil && own {
			operation.Kind = &record.Operation_SendMessage{SendMessage: m}
		}
		if d.operate(operation) {
			d.row.Peer = of.Chat
			d.countInChat(of, m != nil, own)
		}
	}
}

// readInChat has the owner, who wrote to a large chat, have read it up to there.
func (d *decision) readInChat(of *record.Operation) {
	old := d.parts.conversations[of.Chat]
	c := copyOfConversation(old)
	if c.Read < of.ChatMessages {
		if old == nil && d.version >= heardVersion { // it was forgotten
			d.makeRoomForConversation()
			c.LastRevision = d.head + 1
		}
		c.Received, c.Read, c.ReadRevision = max(c.Received, of.ChatMessages), of.ChatMessages, of.ChatRevision
		d.setConversation(of.Chat, c, of.OriginDevice)
	}
}

// countInChat enters an operation of a chat, which is the newest of the mailbox,
// in the account of the conversation. Who writes has read what is above.
func (d *decision) countInChat(of *record.Operation, isMessage, own bool) {
	old := d.parts.conversations[of.Chat]
	if old == nil {
		d.makeRoomForConversation()
	}
	c := copyOfConversation(old)
	// By a mark, the mailbox may have heard of more.
	up := func(was, now int64) int64 {
		if d.version < heardVersion {
			return now
		}
		return max(was, now)
	}
	c.Received, c.ChatRevision = up(c.Received, of.ChatMessages), up(c.ChatRevision, of.ChatRevision)
	if old == nil { // a new one, or one that was forgotten
		c.Read = c.Received
		if isMessage {
			c.Read--
		}
	}
	if isMessage || old == nil {
		c.LastRevision, c.LastAmended, c.LastUnsent = d.head, 0, false
		c.LastMessageId = of.GetReceiveMessage().GetMessageId()
	}
	c.Revision = d.head
	if a := of.GetMessageAmended(); a != nil {
		noteAmendment(c, a)
	}
	if isMessage && own || old == nil && !isMessage {
		c.Read, c.ReadRevision = up(c.Read, of.ChatMessages), up(c.ReadRevision, of.ChatRevision)
	}
	d.changePart(conversationPart, of.Chat, c)
}

// chatChanged takes in a change of a chat, and what the owner came to be by it.
func (d *decision) chatChanged(operation *record.Operation, change *record.ChatChange, member *record.ChatMember) {
	old := d.parts.chats[operation.Chat]
	switch {
	case member == nil && old == nil:
		member = &record.ChatMember{Role: record.ChatRole_CHAT_ROLE_MEMBER, JoinedRevision: operation.ChatRevision, FirstRevision: operation.ChatRevision}
	case member == nil:
		member = old.Member
	case old == nil && member.Role == record.ChatRole_CHAT_ROLE_NONE, d.isHidden(member, old):
		return
	}
	operation.Kind = &record.Operation_ChatChanged{ChatChanged: &record.ChatChange{
		Kind: change.Kind, By: change.By, Users: change.Users, Role: change.Role, Successor: change.Successor, Chat: change.Chat, Member: member,
	}}
	if !d.operate(operation) {
		return
	}
	d.row.Peer = operation.Chat
	if member.Role == record.ChatRole_CHAT_ROLE_NONE {
		d.changePart(membershipPart, operation.Chat, nil)
		d.changePart(conversationPart, operation.Chat, nil)
		return
	}
	d.changePart(membershipPart, operation.Chat, &record.ChatMembership{
		Member: member, Chat: change.Chat, ChatRevision: operation.ChatRevision, Revision: d.head,
	})
	if member.Role > record.ChatRole_CHAT_ROLE_INVITED {
		d.countInChat(operation, false, false)
	}
}

// isHidden reports whether an invitation is of one who may not write to the
// owner, or one too many: it is not seen.
func (d *decision) isHidden(m *record.ChatMember, old *record.ChatMembership) bool {
	if m.Role != record.ChatRole_CHAT_ROLE_INVITED {
		return false
	}
	return d.parts.contact(m.InvitedBy).GetBlocked() || !d.mayWrite(m.InvitedBy) ||
		old == nil && len(d.parts.chats) >= MaxChats && d.version >= heardVersion
}
