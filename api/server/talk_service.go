package server

import (
	"context"

	"github.com/tegami-im/tegami/actors/refusal"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

// talkService is TalkService as Connect's handlers call it.
type talkService struct{ *Server }

func (s talkService) SendMessage(ctx context.Context, request *tegamiv1.SendMessageRequest) (*tegamiv1.SendMessageResponse, error) {
	return await[*tegamiv1.SendMessageResponse](ctx, func(reply func(Reply)) func() {
		return s.sendMessage(ctx, callerOf(ctx), deadlineOf(ctx), request, reply)
	})
}

func (s talkService) FetchOps(ctx context.Context, request *tegamiv1.FetchOpsRequest) (*tegamiv1.FetchOpsResponse, error) {
	return await[*tegamiv1.FetchOpsResponse](ctx, func(reply func(Reply)) func() {
		return s.fetchOps(ctx, callerOf(ctx), deadlineOf(ctx), request, reply)
	})
}

func (s talkService) GetHead(ctx context.Context, _ *tegamiv1.GetHeadRequest) (*tegamiv1.GetHeadResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	head, err := s.talk.Head(ctx, callerOf(ctx).User)
	if err != nil {
		return nil, err
	}
	return &tegamiv1.GetHeadResponse{Revision: head.Revision, FirstRevision: head.First}, nil
}

func (s talkService) ListMessages(ctx context.Context, request *tegamiv1.ListMessagesRequest) (*tegamiv1.ListMessagesResponse, error) {
	if err := validate.ListMessages(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	user := callerOf(ctx).User
	history, err := s.talk.Messages(ctx, user, request.GetPeer(), request.GetBefore(), validate.PageSize(request.GetLimit()))
	if err != nil {
		return nil, naming(err, fieldNames{refusal.UnknownRecipient: "peer", refusal.UnknownChat: "peer"})
	}
	operations, err := s.open(ctx, user, history.Operations)
	if err != nil {
		return nil, err
	}
	response := &tegamiv1.ListMessagesResponse{HasMore: history.HasMore}
	for i := range operations {
		switch kind := operations[i].operation.Kind.(type) {
		case *tegamiv1.Operation_ReceiveMessage, *tegamiv1.Operation_SendMessage:
			response.Messages = append(response.Messages, &operations[i].message)
		case *tegamiv1.Operation_MessageAmended:
			response.Amendments = append(response.Amendments, kind.MessageAmended)
		case *tegamiv1.Operation_ChatChanged:
			response.ChatChanges = append(response.ChatChanges, kind.ChatChanged)
		}
	}
	if history.HasMore {
		response.NextBefore = operations[len(operations)-1].operation.Revision
	}
	return response, nil
}
