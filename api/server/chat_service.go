package server

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

// chatService is ChatService as Connect's handlers call it.
type chatService struct{ *Server }

// chatFields are the fields that refusals about a chat are about.
var chatFields = fieldNames{
	refusal.UnknownChat: "chatId", refusal.NotInvited: "chatId", refusal.ChatFull: "chatId", refusal.NotPermitted: "chatId",
	refusal.UnknownRecipient: "userIds", refusal.Yourself: "userId", refusal.UnknownMember: "userId",
}

var createChatFields = fieldNames{
	refusal.UnknownRecipient: "invite", refusal.ChatFull: "invite", refusal.DifferentBody: "clientChatId",
}

func (s chatService) CreateChat(ctx context.Context, request *tegamiv1.CreateChatRequest) (*tegamiv1.CreateChatResponse, error) {
	if err := validate.CreateChat(request); err != nil {
		return nil, err
	}
	id := request.GetClientChatId()
	if id == "" {
		made, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		id = made.String()
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	chat, err := s.talk.CreateChat(ctx, callerOf(ctx), talk.NewChat{
		ClientID: id, Name: request.GetName(), Invite: request.GetInvite(),
		WholeHistory: request.GetHistory() == tegamiv1.ChatHistory_WHOLE_HISTORY,
	})
	if err != nil {
		return nil, naming(err, createChatFields)
	}
	made, err := s.chat(ctx, chat)
	return &tegamiv1.CreateChatResponse{Chat: made}, err
}

// chat returns a chat as it is now.
func (s chatService) chat(ctx context.Context, chat string) (*tegamiv1.Chat, error) {
	known, err := s.talk.Chat(ctx, callerOf(ctx).User, chat)
	if err != nil {
		return nil, naming(err, chatFields)
	}
	return chatOf(known), nil
}

// change does what the caller asks of a chat.
func (s chatService) change(ctx context.Context, chat string, change *record.ChangeChat) error {
	if err := validate.ChatID("chatId", chat); err != nil {
		return err
	}
	return naming(s.talk.ChangeChat(ctx, callerOf(ctx), chat, change), chatFields)
}

func (s chatService) InviteToChat(ctx context.Context, request *tegamiv1.InviteToChatRequest) (*tegamiv1.InviteToChatResponse, error) {
	if err := validate.InviteToChat(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return &tegamiv1.InviteToChatResponse{}, s.change(ctx, request.GetChatId(), &record.ChangeChat{
		Change: &record.ChangeChat_Invite_{Invite: &record.ChangeChat_Invite{Users: request.GetUserIds()}},
	})
}

func (s chatService) AcceptInvitation(ctx context.Context, request *tegamiv1.AcceptInvitationRequest) (*tegamiv1.AcceptInvitationResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.change(ctx, request.GetChatId(), &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}}); err != nil {
		return nil, err
	}
	chat, err := s.chat(ctx, request.GetChatId())
	return &tegamiv1.AcceptInvitationResponse{Chat: chat}, err
}

func (s chatService) DeclineInvitation(ctx context.Context, request *tegamiv1.DeclineInvitationRequest) (*tegamiv1.DeclineInvitationResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return &tegamiv1.DeclineInvitationResponse{}, s.change(ctx, request.GetChatId(), &record.ChangeChat{Change: &record.ChangeChat_Decline{Decline: true}})
}

func (s chatService) JoinByLink(ctx context.Context, request *tegamiv1.JoinByLinkRequest) (*tegamiv1.JoinByLinkResponse, error) {
	if err := validate.Code("code", request.GetCode()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	id, err := s.talk.JoinByLink(ctx, callerOf(ctx), request.GetCode())
	if err != nil {
		return nil, naming(err, fieldNames{refusal.UnknownInvitation: "code", refusal.ChatFull: "code"})
	}
	chat, err := s.chat(ctx, id)
	return &tegamiv1.JoinByLinkResponse{Chat: chat}, err
}

func (s chatService) LeaveChat(ctx context.Context, request *tegamiv1.LeaveChatRequest) (*tegamiv1.LeaveChatResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return &tegamiv1.LeaveChatResponse{}, s.change(ctx, request.GetChatId(), &record.ChangeChat{Change: &record.ChangeChat_Leave{Leave: true}})
}

func (s chatService) RemoveFromChat(ctx context.Context, request *tegamiv1.RemoveFromChatRequest) (*tegamiv1.RemoveFromChatResponse, error) {
	if err := validate.ChatUser(request.GetChatId(), request.GetUserId()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return &tegamiv1.RemoveFromChatResponse{}, s.change(ctx, request.GetChatId(), &record.ChangeChat{Change: &record.ChangeChat_Remove{Remove: request.GetUserId()}})
}

func (s chatService) SetChatRole(ctx context.Context, request *tegamiv1.SetChatRoleRequest) (*tegamiv1.SetChatRoleResponse, error) {
	if err := validate.SetChatRole(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return &tegamiv1.SetChatRoleResponse{}, s.change(ctx, request.GetChatId(), &record.ChangeChat{
		Change: &record.ChangeChat_Role{Role: &record.ChangeChat_ChatRoleOf{
			User: request.GetUserId(), Role: record.ChatRole(request.GetRole() - 1), // theirs begins with one that is unspecified
		}},
	})
}

func (s chatService) UpdateChat(ctx context.Context, request *tegamiv1.UpdateChatRequest) (*tegamiv1.UpdateChatResponse, error) {
	if err := validate.UpdateChat(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if request.Name != nil {
		if err := s.change(ctx, request.GetChatId(), &record.ChangeChat{Change: &record.ChangeChat_Name{Name: request.GetName()}}); err != nil {
			return nil, err
		}
	}
	if request.History != nil {
		whole := request.GetHistory() == tegamiv1.ChatHistory_WHOLE_HISTORY
		if err := s.change(ctx, request.GetChatId(), &record.ChangeChat{Change: &record.ChangeChat_WholeHistory{WholeHistory: whole}}); err != nil {
			return nil, err
		}
	}
	chat, err := s.chat(ctx, request.GetChatId())
	return &tegamiv1.UpdateChatResponse{Chat: chat}, err
}

func (s chatService) CreateChatLink(ctx context.Context, request *tegamiv1.CreateChatLinkRequest) (*tegamiv1.CreateChatLinkResponse, error) {
	if err := validate.ChatID("chatId", request.GetChatId()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	code, err := s.talk.CreateChatLink(ctx, callerOf(ctx), request.GetChatId())
	if err != nil {
		return nil, naming(err, chatFields)
	}
	return &tegamiv1.CreateChatLinkResponse{Code: code}, nil
}

func (s chatService) RevokeChatLink(ctx context.Context, request *tegamiv1.RevokeChatLinkRequest) (*tegamiv1.RevokeChatLinkResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return &tegamiv1.RevokeChatLinkResponse{}, s.change(ctx, request.GetChatId(), &record.ChangeChat{Change: &record.ChangeChat_Link{}})
}

func (s chatService) GetChat(ctx context.Context, request *tegamiv1.GetChatRequest) (*tegamiv1.GetChatResponse, error) {
	if err := validate.ChatID("chatId", request.GetChatId()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	chat, err := s.chat(ctx, request.GetChatId())
	return &tegamiv1.GetChatResponse{Chat: chat}, err
}

func (s chatService) ListChats(ctx context.Context, request *tegamiv1.ListChatsRequest) (*tegamiv1.ListChatsResponse, error) {
	if err := validate.ListChats(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	page, err := s.talk.Chats(ctx, callerOf(ctx).User, &record.ChatsQuery{
		After: request.GetPageToken(), Limit: int32(validate.PageSize(request.GetLimit())),
	})
	if err != nil {
		return nil, err
	}
	response := &tegamiv1.ListChatsResponse{Revision: page.Revision}
	response.Chats, response.NextPageToken = chatPage(page)
	return response, nil
}

func (s chatService) ListMembers(ctx context.Context, request *tegamiv1.ListMembersRequest) (*tegamiv1.ListMembersResponse, error) {
	if err := validate.ListMembers(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	page, err := s.talk.Members(ctx, request.GetChatId(), &record.MembersQuery{
		Reader: callerOf(ctx).User, After: request.GetPageToken(), Limit: int32(validate.PageSize(request.GetLimit())),
	})
	if err != nil {
		return nil, naming(err, chatFields)
	}
	response := &tegamiv1.ListMembersResponse{ChatRevision: page.Revision}
	for _, m := range page.Members {
		member := &tegamiv1.ChatMember{
			UserId: m.GetUser(), Role: roleOf(m.GetMember().GetRole()), InvitedBy: m.GetMember().GetInvitedBy(), SinceTime: new(timestamppb.Timestamp),
		}
		setTime(member.SinceTime, m.GetMember().GetSince())
		response.Members = append(response.Members, member)
	}
	if n := len(response.Members); page.HasMore && n > 0 {
		response.NextPageToken = response.Members[n-1].UserId
	}
	return response, nil
}

// chatPage returns a page of chats in the form that clients get, and where the
// next one begins; empty when there is none.
func chatPage(page talk.Chats) (chats []*tegamiv1.Chat, next string) {
	for _, known := range page.Chats {
		chats = append(chats, chatOf(known))
	}
	if n := len(chats); page.HasMore && n > 0 {
		next = chats[n-1].ChatId
	}
	return chats, next
}

// chatOf returns a chat in the form that clients get, as one of its users sees
// it.
func chatOf(known *record.ChatOf) *tegamiv1.Chat {
	membership := known.GetMembership()
	member, facts := membership.GetMember(), membership.GetChat()
	chat := &tegamiv1.Chat{
		ChatId:        known.GetChat(),
		Name:          facts.GetName(),
		Role:          roleOf(member.GetRole()),
		InvitedBy:     member.GetInvitedBy(),
		MemberCount:   facts.GetMembers(),
		InvitedCount:  facts.GetInvited(),
		History:       tegamiv1.ChatHistory_FROM_JOINING,
		Large:         facts.GetLarge(),
		ChatRevision:  membership.GetChatRevision(),
		FirstRevision: member.GetFirstRevision(),
		Revision:      membership.GetRevision(),
	}
	if facts.GetWholeHistory() {
		chat.History = tegamiv1.ChatHistory_WHOLE_HISTORY
	}
	return chat
}

// roleOf returns a role in the form that clients get: theirs begin with one that
// is unspecified.
func roleOf(role record.ChatRole) tegamiv1.ChatRole { return tegamiv1.ChatRole(role + 1) }

// chatChangeOf returns what happened in a chat in the form that clients get. In
// the chat itself it says nothing of the reader, whose mailbox has no revision of
// it then.
func chatChangeOf(operation *record.Operation) *tegamiv1.ChatChange {
	c := operation.GetChatChanged()
	change := &tegamiv1.ChatChange{
		Kind: tegamiv1.ChatChange_Kind(c.GetKind()), By: c.GetBy(), Users: c.GetUsers(), Successor: c.GetSuccessor(),
		Chat: chatOf(&record.ChatOf{Chat: operation.GetChat(), Membership: &record.ChatMembership{
			Member: c.GetMember(), Chat: c.GetChat(), ChatRevision: operation.GetChatRevision(), Revision: operation.GetRevision(),
		}}),
	}
	if c.GetMember() == nil {
		change.Chat.Role, change.Chat.Revision = tegamiv1.ChatRole_CHAT_ROLE_UNSPECIFIED, 0
	}
	if c.GetRole() != record.ChatRole_CHAT_ROLE_NONE {
		change.Role = roleOf(c.GetRole())
	}
	return change
}
