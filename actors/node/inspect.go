package node

import (
	"context"
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// view asks what a user's mailbox looks like, and what else q asks for, unless
// that is nil. Names without a key never reach an actor.
func (n *Node) view(ctx context.Context, user string, q *record.Query) (talk.View, error) {
	if _, err := n.key(ctx, user); err != nil {
		return talk.View{}, err
	}
	return ask(ctx, n, refusal.After(refusal.NotReady, time.Second), func(answer func(talk.View, *refusal.Refusal)) {
		n.system.Root.Send(n.routeOf(user), &shard.Inspect{Mailbox: user, Query: q, Answer: answer})
	})
}

// Account returns what is known of a user.
func (n *Node) Account(ctx context.Context, user string) (talk.Account, error) {
	view, err := n.view(ctx, user, nil)
	if err == nil && !view.Exists {
		err = refusal.Of(refusal.UnknownRecipient)
	}
	return view.Account, err
}

// CheckSession reports whether a session is live.
func (n *Node) CheckSession(ctx context.Context, session talk.Session) error {
	view, err := n.view(ctx, session.User, nil)
	if err == nil && !view.Live(session) {
		err = refusal.Of(refusal.UnknownDevice)
	}
	return err
}

// Devices lists a user's devices, newest first.
func (n *Node) Devices(ctx context.Context, user string) ([]talk.Device, error) {
	view, err := n.view(ctx, user, nil)
	return view.Devices, err
}

// Head returns the limits of a mailbox.
func (n *Node) Head(ctx context.Context, user string) (talk.Head, error) {
	view, err := n.view(ctx, user, nil)
	return view.Head, err
}

// Messages pages back through a conversation: in the user's mailbox, or in the
// chat as a member sees it.
func (n *Node) Messages(ctx context.Context, user, peer string, before int64, limit int) (talk.History, error) {
	history := shard.History{User: user, Peer: peer, Before: before, Limit: limit}
	if mailbox.IsChat(peer) {
		if _, err := n.chatKey(ctx, peer); err != nil { // names of no chat never reach an actor
			return talk.History{}, err
		}
		history.User, history.Reader = peer, user
	}
	return n.history(ctx, history)
}

func (n *Node) history(ctx context.Context, history shard.History) (talk.History, error) {
	page, err := ask(ctx, n, refusal.After(refusal.StoreUnavailable, time.Second), func(answer func(shard.HistoryPage, *refusal.Refusal)) {
		asked := history
		asked.Answer = answer
		n.system.Root.Send(n.routeOf(history.User), &asked)
	})
	if err != nil {
		return talk.History{}, err
	}
	operations, err := record.DecodeOperations(page.Operations)
	return talk.History{Operations: operations, HasMore: page.HasMore}, err
}

// openTimeout bounds the wait for a key that is not in memory: whoever encodes a
// page waits for it, with all that is to be written to that client.
const openTimeout = 2 * time.Second

// Opener returns what opens the bodies that lie in a mailbox, or in a chat: in one
// without a key nothing, so that all else is read that lies beside it.
func (n *Node) Opener(ctx context.Context, name string) (talk.Opener, error) {
	if !n.known(name) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	key, err := n.key(ctx, name)
	switch {
	case mailbox.IsChat(name) && reasonIs(err, refusal.UnknownRecipient):
		return keyless{}, nil
	case err != nil:
		return nil, err
	}
	if mailbox.IsChat(name) {
		return opener{n.ciphers.Opener(key, name), n.options.Logger}, nil
	}
	return opener{sealing.NewOpener(key, name), n.options.Logger}, nil
}

// opener is a talk.Opener.
type opener struct {
	mailbox *sealing.Opener
	log     *slog.Logger
}

func (o opener) Open(dst, messageID, sealed []byte) []byte {
	opened, err := o.mailbox.Open(dst, messageID, sealed)
	if err != nil {
		o.log.Error("message body does not open", "message", hex.EncodeToString(messageID), "error", err)
		return dst
	}
	return opened
}

// Open opens the bodies of a user's operations. A body that does not open
// comes back empty.
func (n *Node) Open(ctx context.Context, user string, operations []*record.Operation) ([]talk.Body, error) {
	bodies := make([]talk.Body, len(operations))
	if len(operations) == 0 {
		return bodies, nil
	}
	own, err := n.Opener(ctx, user)
	if err != nil {
		return nil, err
	}
	chats, err := n.openChats(ctx, operations)
	if err != nil {
		return nil, err
	}
	for i, operation := range operations {
		id, sealed := sealedOf(operation)
		if id == nil { // of a kind that has no body
			continue
		}
		opener := own
		if chat := chats[operation.GetChat()]; chat != nil {
			opener, sealed = chat.Opener, chat.bodyOf(operation, sealed)
		}
		if len(sealed) == 0 { // it is no longer kept
			continue
		}
		encoded := opener.Open(nil, id, sealed)
		if len(encoded) == 0 {
			continue
		}
		if bodies[i], err = talk.DecodeBody(encoded); err != nil {
			n.options.Logger.Error("message body does not decode", "revision", operation.GetRevision(), "error", err)
		}
	}
	return bodies, nil
}

// sealedOf returns the sealed body that an operation carries and the message
// that it is of; both are nil when it carries none.
func sealedOf(operation *record.Operation) (messageID, sealed []byte) {
	if m := messageOf(operation); m != nil {
		return m.GetMessageId(), m.GetSealedBody()
	}
	if a, edits := operation.GetMessageAmended().GetChange().(*record.Amendment_SealedBody); edits {
		return operation.GetMessageAmended().GetMessageId(), a.SealedBody
	}
	return nil, nil
}
