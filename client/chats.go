package client

import (
	"context"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

type (
	// Chat is a group chat as the caller sees it. Messages are sent to its id, and
	// its id is the peer of its conversation; where a revision is asked for, it is
	// the chat's.
	Chat = tegamiv1.Chat
	// ChatMember is a user of a chat.
	ChatMember = tegamiv1.ChatMember
	// ChatRole is what a user is in a chat.
	ChatRole = tegamiv1.ChatRole
	// ChatHistory is what those who join see of what was before.
	ChatHistory = tegamiv1.ChatHistory
	// ChatOption changes a chat that is made.
	ChatOption func(*tegamiv1.CreateChatRequest)
)

// Inviting invites users, at most 100.
func Inviting(users ...string) ChatOption {
	return func(r *tegamiv1.CreateChatRequest) { r.Invite = append(r.Invite, users...) }
}

// ShowingHistory has those who join see what was before, while it is so.
func ShowingHistory() ChatOption {
	return func(r *tegamiv1.CreateChatRequest) { r.History = tegamiv1.ChatHistory_WHOLE_HISTORY }
}

// WithChatID makes the chat under a client's id, 1 to 64 printable ASCII
// characters, in place of one made at random: within 24 hours the same id is the
// same chat.
func WithChatID(id string) ChatOption {
	return func(r *tegamiv1.CreateChatRequest) { r.ClientChatId = id }
}

// CreateChat makes a chat that the caller owns, with a name of at most 128 code
// points. It is repeated, as Send is, until an answer comes or the context ends.
// CodeNotFound: there is no such user to invite; CodeFailedPrecondition: the
// caller is in 1,000 chats.
func (c *Client) CreateChat(ctx context.Context, name string, opts ...ChatOption) (*Chat, error) {
	request := &tegamiv1.CreateChatRequest{Name: name, ClientChatId: newID()}
	for _, opt := range opts {
		opt(request)
	}
	for attempt := 0; ; attempt++ {
		var response tegamiv1.CreateChatResponse
		err := c.call(ctx, callTimeout, "ChatService/CreateChat", request, &response)
		if err == nil {
			return response.GetChat(), nil
		}
		if err := c.pause(ctx, attempt, err); err != nil {
			return nil, err
		}
	}
}

// InviteToChat invites users, at most 100 at once. CodeNotFound: no such user, or
// the caller is no member; CodeFailedPrecondition: the chat is full.
func (c *Client) InviteToChat(ctx context.Context, chat string, users ...string) error {
	request := &tegamiv1.InviteToChatRequest{ChatId: chat, UserIds: users}
	return c.call(ctx, callTimeout, "ChatService/InviteToChat", request, new(tegamiv1.InviteToChatResponse))
}

// AcceptInvitation makes the caller a member. CodeNotFound: the caller is not
// invited, or no longer.
func (c *Client) AcceptInvitation(ctx context.Context, chat string) (*Chat, error) {
	var response tegamiv1.AcceptInvitationResponse
	err := c.call(ctx, callTimeout, "ChatService/AcceptInvitation", &tegamiv1.AcceptInvitationRequest{ChatId: chat}, &response)
	return response.GetChat(), err
}

// DeclineInvitation declines it.
func (c *Client) DeclineInvitation(ctx context.Context, chat string) error {
	return c.call(ctx, callTimeout, "ChatService/DeclineInvitation", &tegamiv1.DeclineInvitationRequest{ChatId: chat}, new(tegamiv1.DeclineInvitationResponse))
}

// JoinByLink makes the caller a member of the chat of a code. CodeNotFound: it is
// none, or no longer.
func (c *Client) JoinByLink(ctx context.Context, code string) (*Chat, error) {
	var response tegamiv1.JoinByLinkResponse
	err := c.call(ctx, callTimeout, "ChatService/JoinByLink", &tegamiv1.JoinByLinkRequest{Code: code}, &response)
	return response.GetChat(), err
}

// LeaveChat ends the caller's membership.
func (c *Client) LeaveChat(ctx context.Context, chat string) error {
	return c.call(ctx, callTimeout, "ChatService/LeaveChat", &tegamiv1.LeaveChatRequest{ChatId: chat}, new(tegamiv1.LeaveChatResponse))
}

// RemoveFromChat ends that of a user with a lower role. CodePermissionDenied: the
// caller's role does not permit it.
func (c *Client) RemoveFromChat(ctx context.Context, chat, user string) error {
	request := &tegamiv1.RemoveFromChatRequest{ChatId: chat, UserId: user}
	return c.call(ctx, callTimeout, "ChatService/RemoveFromChat", request, new(tegamiv1.RemoveFromChatResponse))
}

// SetChatRole changes the role of another member. CodePermissionDenied: the caller
// does not own the chat; CodeNotFound: the user is no member.
func (c *Client) SetChatRole(ctx context.Context, chat, user string, role ChatRole) error {
	request := &tegamiv1.SetChatRoleRequest{ChatId: chat, UserId: user, Role: role}
	return c.call(ctx, callTimeout, "ChatService/SetChatRole", request, new(tegamiv1.SetChatRoleResponse))
}

// RenameChat gives a chat another name. CodePermissionDenied: the caller is neither
// owner nor admin.
func (c *Client) RenameChat(ctx context.Context, chat, name string) (*Chat, error) {
	return c.updateChat(ctx, &tegamiv1.UpdateChatRequest{ChatId: chat, Name: &name})
}

// SetChatHistory says what those who join from now on see. Errors as of
// RenameChat.
func (c *Client) SetChatHistory(ctx context.Context, chat string, history ChatHistory) (*Chat, error) {
	return c.updateChat(ctx, &tegamiv1.UpdateChatRequest{ChatId: chat, History: &history})
}

func (c *Client) updateChat(ctx context.Context, request *tegamiv1.UpdateChatRequest) (*Chat, error) {
	var response tegamiv1.UpdateChatResponse
	err := c.call(ctx, callTimeout, "ChatService/UpdateChat", request, &response)
	return response.GetChat(), err
}

// CreateChatLink makes a code with which anybody joins, in place of one before.
// Errors as of RenameChat.
func (c *Client) CreateChatLink(ctx context.Context, chat string) (code string, err error) {
	var response tegamiv1.CreateChatLinkResponse
	err = c.call(ctx, callTimeout, "ChatService/CreateChatLink", &tegamiv1.CreateChatLinkRequest{ChatId: chat}, &response)
	return response.GetCode(), err
}

// RevokeChatLink has the code be good no longer. Errors as of RenameChat.
func (c *Client) RevokeChatLink(ctx context.Context, chat string) error {
	return c.call(ctx, callTimeout, "ChatService/RevokeChatLink", &tegamiv1.RevokeChatLinkRequest{ChatId: chat}, new(tegamiv1.RevokeChatLinkResponse))
}

// Chat returns a chat as it is now. CodeNotFound: the caller is not in it.
func (c *Client) Chat(ctx context.Context, chat string) (*Chat, error) {
	var response tegamiv1.GetChatResponse
	err := c.call(ctx, callTimeout, "ChatService/GetChat", &tegamiv1.GetChatRequest{ChatId: chat}, &response)
	return response.GetChat(), err
}

// Chats returns all chats that the caller is in or invited to, by their ids, and
// the revision to go on from with Run or Fetch.
func (c *Client) Chats(ctx context.Context) (chats []*Chat, revision int64, err error) {
	request := &tegamiv1.ListChatsRequest{Limit: 1000}
	for first := true; first || request.PageToken != ""; first = false {
		var page tegamiv1.ListChatsResponse
		if err := c.call(ctx, callTimeout, "ChatService/ListChats", request, &page); err != nil {
			return nil, 0, err
		}
		if first {
			revision = page.GetRevision()
		}
		chats = append(chats, page.GetChats()...)
		request.PageToken = page.GetNextPageToken()
	}
	return chats, revision, nil
}

// ChatMembers returns all who are in a chat or invited, by user id.
func (c *Client) ChatMembers(ctx context.Context, chat string) (members []*ChatMember, err error) {
	request := &tegamiv1.ListMembersRequest{ChatId: chat, Limit: 1000}
	for first := true; first || request.PageToken != ""; first = false {
		var page tegamiv1.ListMembersResponse
		if err := c.call(ctx, callTimeout, "ChatService/ListMembers", request, &page); err != nil {
			return nil, err
		}
		members = append(members, page.GetMembers()...)
		request.PageToken = page.GetNextPageToken()
	}
	return members, nil
}

// FetchChat returns a page of the operations of a chat after one of its
// revisions, at once: what a device finds that it lacks. limit is 0, for 100, to
// 1,000. CodeNotFound: the caller is no member.
func (c *Client) FetchChat(ctx context.Context, chat string, after int64, limit int32) (operations []*Operation, more bool, err error) {
	var response tegamiv1.FetchOpsResponse
	request := &tegamiv1.FetchOpsRequest{ChatId: chat, AfterRevision: after, Limit: limit}
	err = c.call(ctx, callTimeout, "TalkService/FetchOps", request, &response)
	return response.GetOps(), response.GetHasMore(), err
}

// RunChat does with the operations of a chat, by a cursor of its own, what Run
// does with those of the mailbox, and may run beside it: for large chats, of
// which the mailbox does not have them. When a chat is small again, which a
// chat_changed tells, the mailbox has what follows, and RunChat hands it over as
// well until it is ended. CodeNotFound: the caller is no member, or no longer.
func (c *Client) RunChat(ctx context.Context, chat string, cursor CursorStore, handle Handler) error {
	return c.run(ctx, chat, cursor, handle)
}
