package server_test

import (
	"context"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// The fake tier keeps no marks: all that was received is unread.

func (f *fakeTalk) Amend(ctx context.Context, session talk.Session, amend talk.Amend) error {
	_, err := f.Conversation(ctx, session.User, amend.Peer)
	return err
}

func (f *fakeTalk) MarkRead(ctx context.Context, session talk.Session, peer string, _ int64) error {
	_, err := f.Conversation(ctx, session.User, peer)
	return err
}

func (f *fakeTalk) EditConversation(ctx context.Context, session talk.Session, peer string, _, _ *bool) error {
	_, err := f.Conversation(ctx, session.User, peer)
	return err
}

func (f *fakeTalk) Conversation(ctx context.Context, id, peer string) (*record.Conversation, error) {
	history, err := f.Messages(ctx, id, peer, 0, 1000)
	if err != nil {
		return nil, err
	}
	if len(history.Operations) == 0 {
		return nil, refusal.Of(refusal.UnknownConversation)
	}
	c := &record.Conversation{LastRevision: history.Operations[0].GetRevision(), Revision: history.Operations[0].GetRevision()}
	for _, operation := range history.Operations {
		if operation.GetReceiveMessage() != nil {
			c.Received++
		}
	}
	return c, nil
}

func (f *fakeTalk) Conversations(ctx context.Context, id string, _ *record.ConversationsQuery) (talk.Conversations, error) {
	head, err := f.Head(ctx, id)
	list := talk.Conversations{Revision: head.Revision}
	f.mu.Lock()
	peers := make([]string, 0, len(f.users))
	for peer := range f.users {
		peers = append(peers, peer)
	}
	f.mu.Unlock()
	for _, peer := range peers {
		if c, err := f.Conversation(ctx, id, peer); err == nil {
			list.Conversations = append(list.Conversations, talk.Conversation{ConversationUpdate: &record.ConversationUpdate{Peer: peer, Conversation: c}})
		}
	}
	return list, err
}
