package node

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// markPage is how many operations of a conversation are looked at at a time for
// the newest of the peer's messages.
const markPage = 100

// MarkRead moves the mark of a conversation up to the newest message that is not
// above a revision. What that message is does not change, so that it is read
// before the record is made.
func (n *Node) MarkRead(ctx context.Context, session talk.Session, peer string, revision int64) error {
	if mailbox.IsChat(peer) {
		return n.markChatRead(ctx, session, peer, revision)
	}
	c, err := n.Conversation(ctx, session.User, peer)
	if err != nil {
		return err
	}
	mark := &record.MarkRead{Peer: peer, Device: session.Device}
	if revision >= c.LastRevision { // though that message may be kept no longer
		mark.Revision, mark.Received = c.LastRevision, c.Received
	}
	if err := n.findMark(ctx, session.User, mark, min(revision, c.LastRevision), c); err != nil {
		return err
	}
	r := n.newRecord(session.User)
	r.Kind = &record.Record_MarkRead{MarkRead: mark}
	_, err = n.do(ctx, r)
	return err
}

// findMark fills in what a mark at a revision covers: the newest message, and,
// where it covers more of the peer's than the mark before, the newest of those.
func (n *Node) findMark(ctx context.Context, user string, mark *record.MarkRead, revision int64, c *record.Conversation) error {
	for more := true; more && revision > c.ReadRevision && (mark.Revision == 0 || mark.Received > c.Read); {
		history, err := n.Messages(ctx, user, mark.Peer, revision+1, markPage)
		if err != nil {
			return err
		}
		for _, operation := range history.Operations {
			m := messageOf(operation)
			if m != nil && mark.Revision == 0 {
				mark.Revision, mark.Received = operation.GetRevision(), m.GetReceived()
			}
			if m := operation.GetReceiveMessage(); m != nil {
				mark.MessageId, mark.MessageTime = m.GetMessageId(), m.GetTime()
				return nil
			}
			revision = operation.GetRevision() - 1
		}
		more = history.HasMore
	}
	return nil
}

// EditConversation changes what a user alone decides about a conversation: that
// which is not nil.
func (n *Node) EditConversation(ctx context.Context, session talk.Session, peer string, pinned, muted *bool) error {
	for _, c := range []*record.EditConversation{
		{Change: &record.EditConversation_Pinned{Pinned: pinned != nil && *pinned}},
		{Change: &record.EditConversation_Muted{Muted: muted != nil && *muted}},
	} {
		if _, pins := c.Change.(*record.EditConversation_Pinned); pins && pinned == nil || !pins && muted == nil {
			continue
		}
		c.Peer, c.Device = peer, session.Device
		r := n.newRecord(session.User)
		r.Kind = &record.Record_EditConversation{EditConversation: c}
		if _, err := n.do(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Conversation returns what is known of the conversation with a peer.
func (n *Node) Conversation(ctx context.Context, user, peer string) (*record.Conversation, error) {
	heard, err := n.heard(ctx, user, peer)
	if err != nil {
		return nil, err
	}
	c := talk.Conversation{ConversationUpdate: heard}
	if c.GetLarge() {
		err = n.readChat(ctx, user, &c)
	}
	return c.GetConversation(), err
}

// heard returns what a mailbox knows of a conversation, which of one with a large
// chat is less than there is.
func (n *Node) heard(ctx context.Context, user, peer string) (*record.ConversationUpdate, error) {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Conversation{Conversation: peer}})
	if err != nil || len(known.GetConversations()) != 1 {
		return nil, orNotReady(err)
	}
	return known.GetConversations()[0], nil
}

// Conversations returns a page of a user's conversations with their newest
// messages. It may end before its limit, with HasMore.
func (n *Node) Conversations(ctx context.Context, user string, page *record.ConversationsQuery) (talk.Conversations, error) {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Conversations{Conversations: page}})
	if err != nil {
		return talk.Conversations{}, err
	}
	result := talk.Conversations{HasMore: known.GetHasMore(), Revision: known.Head}
	for _, c := range known.GetConversations() {
		result.Conversations = append(result.Conversations, talk.Conversation{ConversationUpdate: c})
	}
	read, err := n.readLast(ctx, user, result.Conversations)
	if read < len(result.Conversations) {
		result.Conversations, result.HasMore = result.Conversations[:read], true
	}
	return result, err
}

const (
	// lastReads is how many messages of one list are read at a time.
	lastReads = 16
	// listBytes is where a list with its messages ends, though never before its
	// first.
	listBytes = 1 << 20
)

// readLast reads the newest message of each conversation and what became of it,
// up to where that is enough for one page. It returns how many it read.
func (n *Node) readLast(ctx context.Context, user string, conversations []talk.Conversation) (read int, err error) {
	for size := 0; read < len(conversations) && (read == 0 || size < listBytes); {
		some := conversations[read:min(read+lastReads, len(conversations))]
		errs := make([]error, len(some))
		var readers sync.WaitGroup
		for i := range some {
			readers.Go(func() { errs[i] = n.readLastOf(ctx, user, &some[i]) })
		}
		readers.Wait()
		if err := errors.Join(errs...); err != nil {
			return 0, err
		}
		for i := range some {
			size += proto.Size(some[i].Last) + proto.Size(some[i].Amended)
			if read > 0 && size > listBytes {
				break
			}
			read++
		}
	}
	return read, nil
}

func (n *Node) readLastOf(ctx context.Context, user string, c *talk.Conversation) (err error) {
	if c.GetLarge() {
		return n.readChat(ctx, user, c)
	}
	if c.Last, err = n.operation(ctx, user, c.Peer, c.GetConversation().GetLastRevision()); err != nil {
		return err
	}
	if c.Last.GetChat() != "" && c.Last.GetChatMessages() < c.GetConversation().GetReceived() {
		return n.readChat(ctx, user, c) // there are newer ones, from when it was large
	}
	if amended := c.GetConversation().GetLastAmended(); amended > 0 {
		if c.Amended, err = n.operation(ctx, user, c.Peer, amended); err != nil {
			return err
		}
	}
	if messageOf(c.Last) == nil { // one of the chat, that the conversation began with
		c.Last = nil
	}
	if c.Last, err = n.withBody(ctx, c.Last); err != nil {
		return err
	}
	c.Amended, err = n.withBody(ctx, c.Amended)
	return err
}

// operation returns the operation of a conversation at a revision of the user's
// mailbox, also where the conversation is with a chat; nil when it is kept no
// longer, or is of another conversation.
func (n *Node) operation(ctx context.Context, user, peer string, revision int64) (*record.Operation, error) {
	if revision == persistence.MaxRevision { // nothing is
		return nil, nil
	}
	history, err := n.history(ctx, shard.History{User: user, Peer: peer, Before: revision + 1, Limit: 1})
	return operationAt(history, revision), err
}

// operationAt returns the newest operation of a page if it is at a revision, else
// nil.
func operationAt(history talk.History, revision int64) *record.Operation {
	if len(history.Operations) == 0 || history.Operations[0].GetRevision() != revision {
		return nil
	}
	return history.Operations[0]
}

// markChatRead moves the mark of a chat up to a revision of it. The chat tells how
// many messages it had by then; nobody else learns of the mark.
func (n *Node) markChatRead(ctx context.Context, session talk.Session, chat string, revision int64) error {
	if revision == persistence.MaxRevision {
		revision-- // nothing is there either
	}
	history, err := n.Messages(ctx, session.User, chat, revision+1, 1)
	if err != nil {
		return err
	}
	mark := &record.MarkRead{Peer: chat, Device: session.Device}
	if len(history.Operations) > 0 {
		mark.Revision, mark.Received = history.Operations[0].GetRevision(), history.Operations[0].GetChatMessages()
	} else { // though it may be kept no longer, the mailbox has counted it
		heard, err := n.heard(ctx, session.User, chat)
		if err != nil || revision < heard.GetConversation().GetChatRevision() {
			return err
		}
		mark.Revision, mark.Received = heard.GetConversation().GetChatRevision(), heard.GetConversation().GetReceived()
	}
	r := n.newRecord(session.User)
	r.Kind = &record.Record_MarkRead{MarkRead: mark}
	_, err = n.do(ctx, r)
	return err
}

// readChat reads the newest message of a chat, what became of it, and how many
// there are, from the chat: the mailbox does not know what was not copied to it.
func (n *Node) readChat(ctx context.Context, user string, c *talk.Conversation) error {
	history, err := n.Messages(ctx, user, c.Peer, 0, markPage)
	switch {
	case reasonIs(err, refusal.UnknownChat): // the membership ended just now
		return nil
	case err != nil || len(history.Operations) == 0:
		return err
	}
	now := proto.CloneOf(c.Conversation)
	now.Received = max(now.Received, history.Operations[0].GetChatMessages())
	c.ConversationUpdate = &record.ConversationUpdate{Peer: c.Peer, Conversation: now, Large: c.GetLarge()}
	c.Last, c.Amended = newestMessage(history.Operations)
	return nil
}

// newestMessage finds the newest message among operations of a chat, the newest
// first, and what became of it: that it was unsent, or its newest edit.
func newestMessage(operations []*record.Operation) (newest, amended *record.Operation) {
	i := slices.IndexFunc(operations, func(operation *record.Operation) bool { return messageOf(operation) != nil })
	if i < 0 {
		return nil, nil
	}
	newest = operations[i]
	for _, operation := range operations[:i] { // a change lies above its message
		a := operation.GetMessageAmended()
		_, reacts := a.GetChange().(*record.Amendment_Reaction)
		if a != nil && !reacts && (amended == nil || a.GetUnsent()) && bytes.Equal(a.GetMessageId(), messageOf(newest).GetMessageId()) {
			amended = operation
		}
	}
	return newest, amended
}
