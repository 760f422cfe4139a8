package workload

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/checker"
)

// inChat does something in one of the user's chats, of whose pool about half are
// members at a time.
func (m *mixer) inChat(ctx context.Context, mark string, yes bool) {
	c := m.chats[m.rand.IntN(len(m.chats))]
	user, other := m.device.user, c.pool[m.rand.IntN(len(c.pool))]
	switch roll := m.rand.IntN(100); {
	case roll < 30:
		m.say(ctx, c, mark)
	case roll < 50:
		m.message(ctx, c.id, mark)
	case roll < 62:
		m.change(ctx, c, user+" invites "+other, isIn(other), "InviteToChat", &tegamiv1.InviteToChatRequest{
			ChatId: c.id, UserIds: []string{other},
		}, new(tegamiv1.InviteToChatResponse))
	case roll < 72:
		m.accept(ctx, c)
	case roll < 77:
		m.joinByLink(ctx, c)
	case roll < 82:
		m.update(ctx, c, mark, yes)
	case roll < 92:
		m.goAway(ctx, c, other)
	case roll < 96 && user != other:
		role := tegamiv1.ChatRole_CHAT_MEMBER + tegamiv1.ChatRole(m.rand.IntN(3))
		m.change(ctx, c, fmt.Sprintf("%s makes %s %v", user, other, role), func(s *chatState) bool { return s.role(other) == role },
			"SetChatRole", &tegamiv1.SetChatRoleRequest{ChatId: c.id, UserId: other, Role: role}, new(tegamiv1.SetChatRoleResponse))
	case user == c.keeper():
		m.keep(ctx, c, yes)
	default:
		m.change(ctx, c, "", nil, "GetChat", &tegamiv1.GetChatRequest{ChatId: c.id}, new(tegamiv1.GetChatResponse))
	}
}

func isIn(user string) func(*chatState) bool {
	return func(s *chatState) bool { return s.role(user) != tegamiv1.ChatRole_CHAT_NONE }
}

func isOut(user string) func(*chatState) bool {
	return func(s *chatState) bool { return s.role(user) == tegamiv1.ChatRole_CHAT_NONE }
}

func isMember(user string) func(*chatState) bool {
	return func(s *chatState) bool { return s.role(user) >= tegamiv1.ChatRole_CHAT_MEMBER }
}

// change makes a call about a chat, and notes what the answer says of it.
func (m *mixer) change(ctx context.Context, c *chat, what string, holds func(*chatState) bool, method string, request, response proto.Message) {
	since := c.newest()
	if m.do(ctx, "ChatService/"+method, request, response) != acknowledged {
		return
	}
	if holds != nil {
		c.promise(promise{what: what, since: since, holds: holds})
	}
	if r, ok := response.(interface{ GetChat() *tegamiv1.Chat }); ok {
		c.tell(m.device.user, r.GetChat())
	}
}

func (m *mixer) accept(ctx context.Context, c *chat) {
	user := m.device.user
	m.change(ctx, c, user+" accepts", isMember(user), "AcceptInvitation", &tegamiv1.AcceptInvitationRequest{ChatId: c.id}, new(tegamiv1.AcceptInvitationResponse))
}

// joinByLink joins with a code that may no longer be good, or makes one.
func (m *mixer) joinByLink(ctx context.Context, c *chat) {
	c.mu.Lock()
	code := c.code
	c.mu.Unlock()
	user := m.device.user
	switch {
	case code != "" && m.rand.IntN(3) > 0:
		m.change(ctx, c, user+" joins by a link", isMember(user), "JoinByLink", &tegamiv1.JoinByLinkRequest{Code: code}, new(tegamiv1.JoinByLinkResponse))
	case code != "" && m.rand.IntN(3) == 0:
		m.do(ctx, "ChatService/RevokeChatLink", &tegamiv1.RevokeChatLinkRequest{ChatId: c.id}, new(tegamiv1.RevokeChatLinkResponse))
	default:
		made := new(tegamiv1.CreateChatLinkResponse)
		if m.do(ctx, "ChatService/CreateChatLink", &tegamiv1.CreateChatLinkRequest{ChatId: c.id}, made) == acknowledged {
			c.mu.Lock()
			c.code = made.GetCode()
			c.mu.Unlock()
		}
	}
}

// update renames the chat, or sets what those see who join.
func (m *mixer) update(ctx context.Context, c *chat, mark string, whole bool) {
	update, what, holds := &tegamiv1.UpdateChatRequest{ChatId: c.id, Name: &mark}, "names it "+mark, func(s *chatState) bool { return s.name == mark }
	if m.rand.IntN(2) == 0 {
		history := tegamiv1.ChatHistory_FROM_JOINING
		if whole {
			history = tegamiv1.ChatHistory_WHOLE_HISTORY
		}
		update = &tegamiv1.UpdateChatRequest{ChatId: c.id, History: &history}
		what, holds = fmt.Sprint("sets its history to ", history), func(s *chatState) bool { return s.history == history }
	}
	m.change(ctx, c, m.device.user+" "+what, holds, "UpdateChat", update, new(tegamiv1.UpdateChatResponse))
}

// goAway leaves, declines, or has another leave. Whoever made the chat stays.
func (m *mixer) goAway(ctx context.Context, c *chat, other string) {
	user := m.device.user
	switch roll := m.rand.IntN(6); {
	case user == c.keeper() || roll < 3:
		if other != user && other != c.keeper() {
			m.change(ctx, c, user+" removes "+other, isOut(other), "RemoveFromChat", &tegamiv1.RemoveFromChatRequest{
				ChatId: c.id, UserId: other,
			}, new(tegamiv1.RemoveFromChatResponse))
		}
	case roll < 5:
		m.change(ctx, c, user+" leaves", isOut(user), "LeaveChat", &tegamiv1.LeaveChatRequest{ChatId: c.id}, new(tegamiv1.LeaveChatResponse))
	default:
		m.change(ctx, c, user+" declines", isOut(user), "DeclineInvitation", &tegamiv1.DeclineInvitationRequest{ChatId: c.id}, new(tegamiv1.DeclineInvitationResponse))
	}
}

// keep does what whoever made a chat can: pin it, since nobody else's conversation
// with it lasts, or make it once more, which comes to the same chat.
func (m *mixer) keep(ctx context.Context, c *chat, yes bool) {
	if m.rand.IntN(2) == 0 {
		m.make(ctx, "pinned "+c.id, fmt.Sprint(yes), "TalkService/UpdateConversation", &tegamiv1.UpdateConversationRequest{
			Peer: c.id, Pinned: &yes,
		}, new(tegamiv1.UpdateConversationResponse))
		return
	}
	again := new(tegamiv1.CreateChatResponse)
	m.change(ctx, c, "", nil, "CreateChat", c.create, again)
	if id := again.GetChat().GetChatId(); id != "" && id != c.id {
		m.workload.unexpected.add("%s made %s, and %s by the same request again", m.device.user, c.id, id)
	}
}

// said is a message to a chat that was acknowledged.
type said struct {
	chat    *chat
	request *tegamiv1.SendMessageRequest
	known   checker.Message
}

// say sends a message to a chat, as the history judges it: a new one, some too
// large to be copied, or again one that was acknowledged.
func (m *mixer) say(ctx context.Context, c *chat, mark string) {
	if len(m.said) > 0 && m.rand.IntN(10) == 0 {
		m.deliverTo(ctx, m.said[m.rand.IntN(len(m.said))])
		return
	}
	text := mark
	if m.rand.IntN(10) == 0 {
		text += strings.Repeat(" large", 300)
	}
	request := &tegamiv1.SendMessageRequest{
		To: c.id, ClientMessageId: fmt.Sprintf("%s.chat.%d", m.device.user, m.next), Body: &tegamiv1.SendMessageRequest_Text{Text: text},
	}
	s := said{c, request, checker.Message{From: m.device.user, To: c.id, ClientID: request.ClientMessageId, Body: textBody(text, "")}}
	if m.deliverTo(ctx, s) && len(m.said) < remembered {
		m.said = append(m.said, s)
	}
}

func (m *mixer) deliverTo(ctx context.Context, s said) bool {
	response := new(tegamiv1.SendMessageResponse)
	if !m.deliver(ctx, s.known, "TalkService/SendMessage", s.request, response) {
		return false
	}
	if id := s.chat.place(response.GetChatRevision(), response.GetMessageId()); id != "" && id != response.GetMessageId() {
		m.workload.unexpected.add("%s and %s are both told to be revision %d of %s", id, response.GetMessageId(), response.GetChatRevision(), s.chat.id)
	}
	return true
}

// receipt is the answer to what sends a message.
type receipt interface {
	proto.Message
	GetMessageId() string
	GetCreateTime() *timestamppb.Timestamp
}

// deliver sends until it is decided, which the history judges, and reports whether
// it was acknowledged.
func (m *mixer) deliver(ctx context.Context, known checker.Message, procedure string, request proto.Message, response receipt) bool {
	for ctx.Err() == nil {
		attempt := m.workload.History.Invoke(known)
		knows, err := m.call(ctx, procedure, request, response)
		switch knows {
		case acknowledged:
			attempt.OK(response.GetMessageId(), response.GetCreateTime().AsTime().UnixNano())
			return true
		case refused:
			attempt.Refused()
			return false
		case notTaken:
			attempt.NotTaken()
		case unknown:
			attempt.Unknown()
		}
		pause(ctx, m.rand, retryAfter(err))
	}
	return false
}
