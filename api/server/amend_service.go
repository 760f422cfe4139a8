package server

import (
	"context"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
	"github.com/tegami-im/tegami/persistence"
)

var amendFields = fieldNames{
	refusal.UnknownMessage: "revision", refusal.NotYours: "revision", refusal.TooLate: "revision", refusal.UnknownRecipient: "peer",
	refusal.UnknownChat: "peer",
}

func (s talkService) UnsendMessage(ctx context.Context, request *tegamiv1.UnsendMessageRequest) (*tegamiv1.UnsendMessageResponse, error) {
	return &tegamiv1.UnsendMessageResponse{}, s.amend(ctx, talk.Amend{Peer: request.GetPeer(), Revision: request.GetRevision()})
}

func (s talkService) EditMessage(ctx context.Context, request *tegamiv1.EditMessageRequest) (*tegamiv1.EditMessageResponse, error) {
	if err := validate.Text("text", request.GetText()); err != nil {
		return nil, err
	}
	return &tegamiv1.EditMessageResponse{}, s.amend(ctx, talk.Amend{
		Peer: request.GetPeer(), Revision: request.GetRevision(), Body: &talk.Body{Text: request.GetText()},
	})
}

func (s talkService) ReactToMessage(ctx context.Context, request *tegamiv1.ReactToMessageRequest) (*tegamiv1.ReactToMessageResponse, error) {
	if err := validate.Reaction("reaction", request.GetReaction()); err != nil {
		return nil, err
	}
	return &tegamiv1.ReactToMessageResponse{}, s.amend(ctx, talk.Amend{
		Peer: request.GetPeer(), Revision: request.GetRevision(), Reaction: new(request.GetReaction()),
	})
}

func (s talkService) amend(ctx context.Context, amend talk.Amend) error {
	if err := validate.MessagePlace(amend.Peer, amend.Revision); err != nil {
		return err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return naming(s.talk.Amend(ctx, callerOf(ctx), amend), amendFields)
}

func (s talkService) ForwardMessage(ctx context.Context, request *tegamiv1.ForwardMessageRequest) (*tegamiv1.ForwardMessageResponse, error) {
	if err := validate.ForwardMessage(request); err != nil {
		return nil, err
	}
	body, err := s.bodyAt(ctx, request.GetPeer(), request.GetRevision())
	if err != nil {
		return nil, err
	}
	send := &tegamiv1.SendMessageRequest{To: request.GetTo(), ClientMessageId: request.GetClientMessageId()}
	sent, err := await[*tegamiv1.SendMessageResponse](ctx, func(reply func(Reply)) func() {
		return s.send(ctx, callerOf(ctx), deadlineOf(ctx), send, body, reply)
	})
	if err != nil {
		return nil, err
	}
	return &tegamiv1.ForwardMessageResponse{MessageId: sent.GetMessageId(), CreateTime: sent.GetCreateTime()}, nil
}

// bodyAt returns what a message of the caller's mailbox, or an edit of one, says,
// to be forwarded.
func (s talkService) bodyAt(ctx context.Context, peer string, revision int64) (talk.Body, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	user := callerOf(ctx).User
	if revision == persistence.MaxRevision { // nothing is
		return talk.Body{}, &refusal.Refusal{Reason: refusal.UnknownMessage, Field: "revision"}
	}
	history, err := s.talk.Messages(ctx, user, peer, revision+1, 1)
	if err != nil {
		return talk.Body{}, naming(err, amendFields)
	}
	if len(history.Operations) == 1 && history.Operations[0].GetRevision() == revision {
		bodies, err := s.talk.Open(ctx, user, history.Operations)
		if err != nil {
			return talk.Body{}, err
		}
		if body := bodies[0]; body.Text != "" || body.MimeType != "" {
			return talk.Body{Text: body.Text, MimeType: body.MimeType, Data: body.Data, Forwarded: true}, nil
		}
	}
	return talk.Body{}, &refusal.Refusal{Reason: refusal.UnknownMessage, Field: "revision"}
}

// amendmentOf returns a change of a message in the form that clients get, with
// the body of an edit.
func amendmentOf(revision int64, a *record.Amendment, body talk.Body) *tegamiv1.MessageAmendment {
	amendment := &tegamiv1.MessageAmendment{
		MessageId: messageID(a.GetMessageId()), Peer: a.GetPeer(), By: a.GetBy(), Revision: revision,
	}
	switch change := a.GetChange().(type) {
	case *record.Amendment_Unsent:
		amendment.Change = &tegamiv1.MessageAmendment_Unsent{Unsent: true}
	case *record.Amendment_SealedBody:
		amendment.Change = &tegamiv1.MessageAmendment_Text{Text: body.Text}
	case *record.Amendment_Reaction:
		amendment.Change = &tegamiv1.MessageAmendment_Reaction{Reaction: change.Reaction}
	}
	return amendment
}
