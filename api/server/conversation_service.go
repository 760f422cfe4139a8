package server

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

var conversationFields = fieldNames{refusal.UnknownConversation: "peer", refusal.UnknownChat: "peer", refusal.CursorAhead: "sinceRevision"}

func (s talkService) MarkRead(ctx context.Context, request *tegamiv1.MarkReadRequest) (*tegamiv1.MarkReadResponse, error) {
	if err := validate.MarkRead(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.talk.MarkRead(ctx, callerOf(ctx), request.GetPeer(), request.GetRevision()); err != nil {
		return nil, naming(err, conversationFields)
	}
	conversation, err := s.conversation(ctx, request.GetPeer())
	if err != nil {
		return nil, err
	}
	return &tegamiv1.MarkReadResponse{Conversation: conversation}, nil
}

func (s talkService) conversation(ctx context.Context, peer string) (*tegamiv1.Conversation, error) {
	c, err := s.talk.Conversation(ctx, callerOf(ctx).User, peer)
	if err != nil {
		return nil, naming(err, conversationFields)
	}
	return conversationOf(peer, c), nil
}

func (s talkService) UpdateConversation(ctx context.Context, request *tegamiv1.UpdateConversationRequest) (*tegamiv1.UpdateConversationResponse, error) {
	if err := validate.Peer("peer", request.GetPeer()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.talk.EditConversation(ctx, callerOf(ctx), request.GetPeer(), request.Pinned, request.Muted); err != nil {
		return nil, naming(err, conversationFields)
	}
	conversation, err := s.conversation(ctx, request.GetPeer())
	if err != nil {
		return nil, err
	}
	return &tegamiv1.UpdateConversationResponse{Conversation: conversation}, nil
}

func (s talkService) ListConversations(ctx context.Context, request *tegamiv1.ListConversationsRequest) (*tegamiv1.ListConversationsResponse, error) {
	before, err := validate.ListConversations(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	items, page, err := s.conversations(ctx, &record.ConversationsQuery{
		Since: request.GetSinceRevision(), Before: before, Limit: int32(validate.PageSize(request.GetLimit())),
	})
	if err != nil {
		return nil, err
	}
	response := &tegamiv1.ListConversationsResponse{Items: items, Revision: page.Revision}
	if page.HasMore {
		response.NextPageToken = strconv.FormatInt(items[len(items)-1].Conversation.LastRevision, 10)
	}
	return response, nil
}

// conversations returns a page of the caller's conversations in the form that
// clients get.
func (s talkService) conversations(ctx context.Context, query *record.ConversationsQuery) ([]*tegamiv1.ListConversationsResponse_Item, talk.Conversations, error) {
	user := callerOf(ctx).User
	page, err := s.talk.Conversations(ctx, user, query)
	if err != nil {
		return nil, page, naming(err, conversationFields)
	}
	var operations []*record.Operation
	for _, c := range page.Conversations {
		for _, operation := range []*record.Operation{c.Last, c.Amended} {
			if operation != nil {
				operations = append(operations, operation)
			}
		}
	}
	opened, err := s.open(ctx, user, operations)
	if err != nil {
		return nil, page, err
	}
	items := make([]*tegamiv1.ListConversationsResponse_Item, len(page.Conversations))
	for i, c := range page.Conversations {
		items[i] = &tegamiv1.ListConversationsResponse_Item{Conversation: conversationOf(c.GetPeer(), c.GetConversation())}
		if c.Last != nil {
			items[i].LastMessage = &opened[0].message
			opened = opened[1:]
		}
		if c.Amended != nil {
			items[i].LastAmendment = opened[0].operation.GetMessageAmended()
			opened = opened[1:]
		}
	}
	return items, page, nil
}

// conversationOf returns a conversation in the form that clients get.
func conversationOf(peer string, c *record.Conversation) *tegamiv1.Conversation {
	conversation := &tegamiv1.Conversation{
		Peer:         peer,
		Unread:       c.GetReceived() - c.GetRead(),
		ReadRevision: c.GetReadRevision(),
		Pinned:       c.GetPinned(),
		Muted:        c.GetMuted(),
		LastRevision: c.GetLastRevision(),
		Revision:     c.GetRevision(),
	}
	if mailbox.IsChat(peer) {
		conversation.ReadMessages = c.GetRead()
	}
	if len(c.GetPeerReadId()) > 0 {
		conversation.PeerReadMessageId = messageID(c.GetPeerReadId())
		conversation.PeerReadTime = new(timestamppb.Timestamp)
		setTime(conversation.PeerReadTime, c.GetPeerReadTime())
	}
	return conversation
}

func messageReadOf(m *record.MessageRead) *tegamiv1.MessageRead {
	read := &tegamiv1.MessageRead{Peer: m.GetPeer(), MessageId: messageID(m.GetMessageId()), CreateTime: new(timestamppb.Timestamp)}
	setTime(read.CreateTime, m.GetTime())
	return read
}
