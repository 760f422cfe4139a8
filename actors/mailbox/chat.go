package mailbox

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// A group chat is a mailbox whose name no user can have. Its operations are all
// that happens in it, in one order: its state decides who may do what, and who
// is reached. Members read their own mailboxes, to which each operation is
// copied by follow-ups, and in a chat that is too large for that, the chat.

const (
	// MaxCopied is how many members a chat has at most whose operations are
	// copied to all of them, unless it was made with a lower number. With more it
	// is large, until no more than four fifths of that are left: two numbers, so
	// that it does not change with each who comes and goes.
	MaxCopied = 500
	// MaxMembers is how many users may be in a chat, those invited included.
	MaxMembers = 20_000
	// MaxInvited is how many of them may be invited.
	MaxInvited = 500
	// MaxCopiedBody is the size of a sealed body in bytes up to which it is copied
	// with the message, or the edit. A larger one is read from the chat.
	MaxCopiedBody = 1 << 10
)

// ChatVersion is the version of Apply that has chats first.
const ChatVersion = 8

// heardVersion is the version of Apply since which a mailbox that hears of a chat
// late does not move its marks back, and keeps no more invitations than MaxChats;
// who is invited already may be invited by others; who is no member is told of
// nobody else; and a large edit is not copied.
const heardVersion = 9

// ChatPrefix begins the names of chats; 32 hexadecimal digits follow. A user's
// begins with a lower-case letter.
const ChatPrefix = "C"

const chatIDSize = len(ChatPrefix) + 32

// IsChat reports whether a mailbox's name is that of a chat.
func IsChat(name string) bool { return len(name) == chatIDSize && strings.HasPrefix(name, ChatPrefix) }

// PeerOf returns the conversation that an operation of a user's mailbox, or of a
// chat, belongs to: the chat or the other user; empty for none.
func PeerOf(owner string, operation *record.Operation) string {
	if operation.GetChat() != "" {
		return operation.GetChat()
	}
	if amendment := operation.GetMessageAmended(); amendment != nil {
		return amendment.GetPeer()
	}
	message := operation.GetReceiveMessage()
	if message == nil {
		message = operation.GetSendMessage()
	}
	if message.GetFrom() == owner {
		return message.GetTo()
	}
	return message.GetFrom()
}

// CausedBy returns the user who caused an operation of a chat; empty for that of
// a user's mailbox.
func CausedBy(operation *record.Operation) string {
	switch kind := operation.GetKind().(type) {
	case *record.Operation_ReceiveMessage:
		return kind.ReceiveMessage.GetFrom()
	case *record.Operation_SendMessage:
		return kind.SendMessage.GetFrom()
	case *record.Operation_MessageAmended:
		return kind.MessageAmended.GetBy()
	case *record.Operation_ChatChanged:
		return kind.ChatChanged.GetBy()
	default:
		return ""
	}
}

var createChatKind = kind{
	since:   ChatVersion,
	chat:    true,
	command: true,
	follows: true,
	creates: true,
	malformed: func(r *record.Record) bool {
		return r.GetCreateChat().GetCreator() == "" || slices.Contains(r.GetCreateChat().GetInvite(), "")
	},
	decide: func(d *decision, r *record.Record) { d.createChat(r.GetCreateChat()) },
}

var chatSendKind = kind{
	since:          ChatVersion,
	chat:           true,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownChat,
	malformed: func(r *record.Record) bool {
		return r.GetChatSend().GetFrom() == "" || len(r.GetChatSend().GetMessageId()) != persistence.MessageIDSize
	},
	decide: func(d *decision, r *record.Record) { d.chatSend(r.GetChatSend()) },
}

var chatAmendKind = kind{
	since:          ChatVersion,
	chat:           true,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownChat,
	malformed: func(r *record.Record) bool {
		return r.GetChatAmend().GetFrom() == "" || isNoAmendment(r.GetChatAmend().GetAmendment())
	},
	decide: func(d *decision, r *record.Record) { d.chatAmend(r.GetChatAmend()) },
}

// createChat makes the chat. What a chat has of an account is when it was made.
func (d *decision) createChat(c *record.CreateChat) {
	if d.account != nil {
		d.refuse(refusal.DifferentBody)
		return
	}
	d.account = &record.Account{CreateTime: d.time}
	d.accountChanged = true
	h := d.happening(c.Creator, c.Device)
	h.chat.Name, h.chat.WholeHistory, h.chat.Members, h.chat.MaxCopied = c.Name, c.WholeHistory, 1, MaxCopied
	if c.MaxCopied > 0 {
		h.chat.MaxCopied = min(c.MaxCopied, MaxCopied)
	}
	h.members[c.Creator] = &record.ChatMember{Role: record.ChatRole_CHAT_ROLE_OWNER, Since: d.time, JoinedRevision: 1, FirstRevision: 1}
	h.invite(c.Invite)
	if h.chat.Invited > MaxInvited {
		d.account, d.accountChanged = nil, false
		d.refuse(refusal.ChatFull)
		return
	}
	h.change.Kind = record.ChatChange_CREATED
	h.carryOut()
}

// chatSend adds a member's message.
func (d *decision) chatSend(c *record.ChatSend) {
	if d.writeToChat(c.FromDevice, &record.Message{
		MessageId: c.MessageId, From: c.From, To: d.user, ClientMessageId: c.ClientMessageId, Time: d.time, SealedBody: c.SealedBody,
	}) {
		d.answer.MessageID = [persistence.MessageIDSize]byte(c.MessageId)
	}
}

// writeToChat adds a message if it is a member's, and has it copied.
func (d *decision) writeToChat(device string, message *record.Message) bool {
	if !d.isMember(message.From) {
		d.refuse(refusal.UnknownChat)
		return false
	}
	d.messages++
	operation := &record.Operation{OriginDevice: device, Kind: &record.Operation_ReceiveMessage{ReceiveMessage: message}}
	if !d.operateInChat(operation) {
		return false
	}
	if d.parts.chat.GetLarge() {
		read := &record.Operation{OriginDevice: device, Chat: d.user, ChatRevision: operation.ChatRevision, ChatMessages: operation.ChatMessages}
		d.copyTo(message.From, &record.ChatCopy{Operation: read})
		return true
	}
	copied := operation
	if len(message.SealedBody) > MaxCopiedBody {
		bodiless := &record.Message{
			MessageId: message.MessageId, From: message.From, To: d.user, ClientMessageId: message.ClientMessageId, Time: d.time, Hops: message.Hops,
		}
		copied = &record.Operation{
			OriginDevice: device, Kind: &record.Operation_ReceiveMessage{ReceiveMessage: bodiless},
			Chat: d.user, ChatRevision: operation.ChatRevision, ChatMessages: operation.ChatMessages,
		}
	}
	d.copyToMembers(copied)
	return true
}

// chatAmend adds a change of a message by a member. Whoever appended it has seen
// that the message is the member's own, where it must be.
func (d *decision) chatAmend(c *record.ChatAmend) {
	if !d.isMember(c.From) {
		d.refuse(refusal.UnknownChat)
		return
	}
	_, reacts := c.Amendment.Change.(*record.Amendment_Reaction)
	if !reacts && d.time-c.MessageTime > AmendWindow.Milliseconds() {
		d.refuse(refusal.TooLate)
		return
	}
	operation := &record.Operation{
		OriginDevice: c.FromDevice,
		Kind: &record.Operation_MessageAmended{MessageAmended: &record.Amendment{
			MessageId: c.Amendment.MessageId, By: c.From, Peer: d.user, Change: c.Amendment.Change,
		}},
	}
	if !d.operateInChat(operation) || d.parts.chat.GetLarge() {
		return
	}
	copied := operation
	if len(c.Amendment.GetSealedBody()) > MaxCopiedBody && d.version >= heardVersion {
		copied = &record.Operation{
			OriginDevice: c.FromDevice,
			Kind: &record.Operation_MessageAmended{MessageAmended: &record.Amendment{
				MessageId: c.Amendment.MessageId, By: c.From, Peer: d.user, Change: &record.Amendment_SealedBody{},
			}},
			Chat: d.user, ChatRevision: operation.ChatRevision, ChatMessages: operation.ChatMessages,
		}
	}
	d.copyToMembers(copied)
}

func (d *decision) isMember(user string) bool {
	return d.parts.members[user].GetRole() >= record.ChatRole_CHAT_ROLE_MEMBER
}

// operateInChat makes an operation the chat's next.
func (d *decision) operateInChat(operation *record.Operation) bool {
	if !d.operate(operation) {
		return false
	}
	operation.Chat, operation.ChatRevision, operation.ChatMessages = d.user, d.head, d.messages
	d.row.Peer = d.user
	return true
}

// copyToMembers has an operation copied to all members. They share one copy.
func (d *decision) copyToMembers(operation *record.Operation) {
	copied := &record.ChatCopy{Operation: operation}
	for _, user := range sortedKeys(d.parts.members) {
		if d.isMember(user) {
			d.copyTo(user, copied)
		}
	}
}

func (d *decision) copyTo(user string, copied *record.ChatCopy) {
	d.follow(user, &record.Record{Kind: &record.Record_ChatCopy{ChatCopy: copied}})
}

func copyOfChat(c *record.Chat) *record.Chat {
	if c == nil {
		return new(record.Chat)
	}
	return proto.CloneOf(c)
}

// shownChat returns of a chat what its members may know.
func shownChat(c *record.Chat) *record.Chat {
	return &record.Chat{
		Name: c.GetName(), WholeHistory: c.GetWholeHistory(), Members: c.GetMembers(), Invited: c.GetInvited(), Large: c.GetLarge(),
	}
}
