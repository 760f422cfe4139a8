package server

import (
	"context"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

var amendFields = fieldNames{
	refusal.UnknownMessage: "revision", refusal.NotYours: "revision", refusal.TooLate: "revision", refusal.UnknownRecipient: "peer",
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
