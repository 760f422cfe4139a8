package node

import (
	"context"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// inspect runs a function on a user's state, inside its mailbox actor, and
// returns what it returned. Names without a key never reach an actor.
func inspect[T any](ctx context.Context, n *Node, user string, with func(*mailbox.State) (T, *refusal.Refusal)) (T, error) {
	var none T
	if _, err := n.key(ctx, user); err != nil {
		return none, err
	}
	type result struct {
		value   T
		refused *refusal.Refusal
	}
	results := make(chan result, 1)
	n.system.Root.Send(n.shards[n.places.Shard(user)], &shard.Inspect{
		Mailbox: user,
		With: func(state *mailbox.State, refused *refusal.Refusal) {
			var value T
			if refused == nil {
				value, refused = with(state)
			}
			results <- result{value, refused}
		},
	})
	select {
	case got := <-results:
		if got.refused != nil {
			return none, got.refused
		}
		return got.value, nil
	case <-ctx.Done():
		return none, refusal.After(refusal.NotReady, time.Second)
	}
}

// Account returns what is known of a user.
func (n *Node) Account(ctx context.Context, user string) (talk.Account, error) {
	return inspect(ctx, n, user, func(state *mailbox.State) (talk.Account, *refusal.Refusal) {
		if !state.Exists() {
			return talk.Account{}, refusal.Of(refusal.UnknownRecipient)
		}
		displayName, passwordHash := state.Account()
		return talk.Account{DisplayName: displayName, PasswordHash: passwordHash}, nil
	})
}

// CheckSession reports whether a session is live.
func (n *Node) CheckSession(ctx context.Context, session talk.Session) error {
	_, err := inspect(ctx, n, session.User, func(state *mailbox.State) (struct{}, *refusal.Refusal) {
		if epoch, ok := state.Epoch(session.Device); !ok || epoch != session.Epoch {
			return struct{}{}, refusal.Of(refusal.UnknownDevice)
		}
		return struct{}{}, nil
	})
	return err
}

// Devices lists a user's devices, newest first.
func (n *Node) Devices(ctx context.Context, user string) ([]talk.Device, error) {
	return inspect(ctx, n, user, func(state *mailbox.State) ([]talk.Device, *refusal.Refusal) {
		return state.Devices(), nil
	})
}

// Head returns the limits of a mailbox.
func (n *Node) Head(ctx context.Context, user string) (talk.Head, error) {
	return inspect(ctx, n, user, func(state *mailbox.State) (talk.Head, *refusal.Refusal) {
		return talk.Head{Revision: state.Head(), First: state.First()}, nil
	})
}

// Messages pages back through a conversation.
func (n *Node) Messages(ctx context.Context, user, peer string, before int64, limit int) (talk.History, error) {
	type result struct {
		history talk.History
		refused *refusal.Refusal
	}
	results := make(chan result, 1)
	n.system.Root.Send(n.shards[n.places.Shard(user)], &shard.History{
		User: user, Peer: peer, Before: before, Limit: limit,
		Answer: func(history talk.History, refused *refusal.Refusal) { results <- result{history, refused} },
	})
	select {
	case got := <-results:
		if got.refused != nil {
			return talk.History{}, got.refused
		}
		return got.history, nil
	case <-ctx.Done():
		return talk.History{}, refusal.After(refusal.StoreUnavailable, time.Second)
	}
}

// Open opens the bodies of a user's operations. A body that does not open
// comes back empty.
func (n *Node) Open(ctx context.Context, user string, operations []*record.Operation) ([]talk.Body, error) {
	bodies := make([]talk.Body, len(operations))
	if len(operations) == 0 {
		return bodies, nil
	}
	key, err := n.key(ctx, user)
	if err != nil {
		return nil, err
	}
	opener := sealing.NewOpener(key, user)
	for i, operation := range operations {
		message := operation.GetReceiveMessage()
		if message == nil {
			message = operation.GetSendMessage()
		}
		encoded, err := opener.Open(message.GetMessageId(), message.GetSealedBody())
		if err == nil {
			bodies[i], err = talk.DecodeBody(encoded)
		}
		if err != nil {
			n.options.Logger.Error("message body does not open", "revision", operation.GetRevision(), "error", err)
		}
	}
	return bodies, nil
}
