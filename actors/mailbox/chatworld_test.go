package mailbox

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// chatNamed returns the id of a chat that scripts call by a short name.
func chatNamed(name string) string {
	return ChatPrefix + strings.Repeat("0", max(0, chatIDSize-len(ChatPrefix)-len(name))) + name
}

// short returns the name by which scripts call a chat, and any other as it is.
func short(name string) string {
	if IsChat(name) {
		return strings.TrimLeft(strings.TrimPrefix(name, ChatPrefix), "0")
	}
	return name
}

func changeChat(actor, device string, change *record.ChangeChat) *record.Record {
	change.Actor, change.Device = actor, device
	return &record.Record{Kind: &record.Record_ChangeChat{ChangeChat: change}}
}

func chatSend(from, device, id, body string) *record.Record {
	return &record.Record{Kind: &record.Record_ChatSend{ChatSend: &record.ChatSend{
		MessageId: hash(persistence.MessageIDSize, "message", from, id), From: from, FromDevice: device, ClientMessageId: id, SealedBody: []byte(body),
	}}}
}

// chatRequest makes the record of a request that is about a chat; nil for any
// other.
func (w *world) chatRequest(user, device, verb string, args []string) (chat string, r *record.Record) {
	if len(args) == 0 {
		return "", nil
	}
	chat = chatNamed(args[0])
	rest := args[1:]
	arg := strings.Join(rest, " ")
	change := new(record.ChangeChat)
	switch verb {
	case "create":
		w.mailboxes[chat] = &place{State: New(chat)}
		return chat, &record.Record{Kind: &record.Record_CreateChat{CreateChat: &record.CreateChat{
			Creator: user, Device: device, Name: args[0], Invite: rest,
		}}}
	case "join":
		change.Change = &record.ChangeChat_Accept{Accept: true}
		if arg != "" {
			change.Change = &record.ChangeChat_Join{Join: token(arg)}
		}
	case "kick":
		change.Change = &record.ChangeChat_Remove{Remove: arg}
	case "leave":
		change.Change = &record.ChangeChat_Leave{Leave: true}
	case "make":
		role := record.ChatRole(record.ChatRole_value["CHAT_ROLE_"+strings.ToUpper(rest[1])])
		change.Change = &record.ChangeChat_Role{Role: &record.ChangeChat_ChatRoleOf{User: rest[0], Role: role}}
	case "title":
		change.Change = &record.ChangeChat_Name{Name: arg}
	case "open", "close":
		change.Change = &record.ChangeChat_WholeHistory{WholeHistory: verb == "open"}
	case "link":
		link := &record.ChangeChat_Link{}
		if arg != "" {
			link.Link = token(arg)
		}
		change.Change = link
	default:
		return w.conversationRequest(user, device, verb, args)
	}
	return chat, changeChat(user, device, change)
}

// conversationRequest makes the record of a request that may be about a user as
// well, when it is about a chat.
func (w *world) conversationRequest(user, device, verb string, args []string) (chat string, r *record.Record) {
	chat = chatNamed(args[0])
	if w.mailboxes[chat] == nil {
		return "", nil
	}
	change := new(record.ChangeChat)
	arg := strings.Join(args[1:], " ")
	switch verb {
	case "invite":
		change.Change = &record.ChangeChat_Invite_{Invite: &record.ChangeChat_Invite{Users: args[1:]}}
	case "decline":
		change.Change = &record.ChangeChat_Decline{Decline: true}
	case "send":
		r := chatSend(user, device, fmt.Sprint("m", w.minted), arg)
		m := r.GetChatSend()
		m.MessageId[0], m.MessageId[1] = byte(w.minted>>8), byte(w.minted)
		return chat, r
	case "unsend", "edit", "react":
		var id uint16
		_, _ = fmt.Sscanf(args[1], "%x", &id)
		a := &record.Amendment{MessageId: make([]byte, persistence.MessageIDSize), By: user}
		binary.BigEndian.PutUint16(a.MessageId, id)
		switch text := strings.Join(args[2:], " "); verb {
		case "unsend":
			a.Change = &record.Amendment_Unsent{Unsent: true}
		case "edit":
			a.Change = &record.Amendment_SealedBody{SealedBody: []byte(text)}
		default:
			a.Change = &record.Amendment_Reaction{Reaction: text}
		}
		return chat, &record.Record{Kind: &record.Record_ChatAmend{ChatAmend: &record.ChatAmend{
			From: user, FromDevice: device, MessageTime: start, Amendment: a,
		}}}
	case "read":
		var revision int64
		_, _ = fmt.Sscan(args[1], &revision)
		return user, &record.Record{Kind: &record.Record_MarkRead{MarkRead: &record.MarkRead{
			Peer: chat, Device: device, Revision: revision, Received: w.messagesUpTo(chat, revision),
		}}}
	case "pin", "unpin":
		return user, editConversation(chat, device, &record.EditConversation_Pinned{Pinned: verb == "pin"}, nil)
	case "mute", "unmute":
		return user, editConversation(chat, device, nil, &record.EditConversation_Muted{Muted: verb == "mute"})
	default:
		return "", nil
	}
	return chat, changeChat(user, device, change)
}

// messagesUpTo returns how many messages a chat had at a revision.
func (w *world) messagesUpTo(chat string, revision int64) (n int64) {
	for _, op := range w.operations(chat) {
		if op.Revision <= revision {
			n = op.ChatMessages
		}
	}
	return n
}

// operations returns those of a mailbox, as they are stored.
func (w *world) operations(mailbox string) (all []*record.Operation) {
	w.t.Helper()
	for _, write := range w.mailboxes[mailbox].stored {
		for _, row := range write.Rows {
			all = append(all, decodeOperation(w.t, row))
		}
	}
	return all
}

// describeChats puts what a mailbox knows of chats, or a chat of itself, into
// words.
func (s *State) describeChats() (lines []string) {
	for chat, m := range s.parts.chats {
		lines = append(lines, fmt.Sprintf("in %s: %s; %s", short(chat), memberInWords(m.Member), chatInWords(m.Chat)))
	}
	for user, m := range s.parts.members {
		lines = append(lines, fmt.Sprintf("%s: %s", user, memberInWords(m)))
	}
	if s.parts.chat != nil {
		lines = append(lines, "chat "+chatInWords(s.parts.chat)+optional(", link ", fmt.Sprintf("%.2x", s.parts.chat.LinkHash)))
	}
	return lines
}

func memberInWords(m *record.ChatMember) string {
	words := roleInWords(m.GetRole()) + optional(" by ", m.GetInvitedBy())
	if m.GetRole() >= record.ChatRole_CHAT_ROLE_MEMBER {
		words += fmt.Sprintf(" since %d", m.JoinedRevision)
		if m.FirstRevision != m.JoinedRevision {
			words += fmt.Sprintf(", sees from %d", m.FirstRevision)
		}
	}
	return words
}

func roleInWords(role record.ChatRole) string {
	return strings.ToLower(strings.TrimPrefix(role.String(), "CHAT_ROLE_"))
}

func chatInWords(c *record.Chat) string {
	words := fmt.Sprintf("%q with %d", c.GetName(), c.GetMembers())
	if c.GetInvited() > 0 {
		words += fmt.Sprintf(" and %d invited", c.GetInvited())
	}
	if c.GetWholeHistory() {
		words += ", open"
	}
	if c.GetLarge() {
		words += ", large"
	}
	return words
}

func chatOperationInWords(op *record.Operation) string {
	words := fmt.Sprintf("in %s@%d: ", short(op.Chat), op.ChatRevision)
	switch kind := op.Kind.(type) {
	case *record.Operation_ReceiveMessage:
		return words + fmt.Sprintf("from %s: %s", kind.ReceiveMessage.From, kind.ReceiveMessage.SealedBody)
	case *record.Operation_SendMessage:
		return words + fmt.Sprintf("sent: %s", kind.SendMessage.SealedBody)
	case *record.Operation_MessageAmended:
		return words + amendmentInWords(kind.MessageAmended)
	case *record.Operation_ChatChanged:
		c := kind.ChatChanged
		words += fmt.Sprintf("%s by %s", strings.ToLower(c.Kind.String()), c.By)
		if len(c.Users) > 0 {
			words += ", " + strings.Join(c.Users, " ")
		}
		if c.Role != 0 {
			words += " as " + roleInWords(c.Role)
		}
		words += optional(", then owned by ", c.Successor)
		if c.Member != nil {
			words += "; is " + memberInWords(c.Member)
		}
		return words + "; " + chatInWords(c.Chat)
	}
	return words + fmt.Sprintf("%T", op.Kind)
}

func amendmentInWords(a *record.Amendment) string {
	change := fmt.Sprint("reaction ", a.GetReaction())
	if a.GetUnsent() {
		change = "unsent"
	} else if a.GetSealedBody() != nil {
		change = fmt.Sprintf("now %s", a.GetSealedBody())
	}
	return fmt.Sprintf("%x %s, made by %s", a.MessageId[:2], change, a.By)
}

func decodeOperation(t testing.TB, row persistence.Row) *record.Operation {
	t.Helper()
	op := new(record.Operation)
	if err := proto.Unmarshal(row.Data, op); err != nil {
		t.Fatal(err)
	}
	return op
}
