package node

import (
	"context"
	"slices"
	"sync"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// markSearch is how many messages are searched for the newest of the peer's.
const markSearch = 100

// MarkRead moves the mark of a conversation up to the newest message that is not
// above a revision. What that message is does not change, so that it is read
// before the record is made.
func (n *Node) MarkRead(ctx context.Context, session talk.Session, peer string, revision int64) error {
	history, err := n.Messages(ctx, session.User, peer, revision+1, markSearch)
	if err != nil {
		return err
	}
	newest := slices.IndexFunc(history.Operations, func(o *record.Operation) bool { return messageOf(o) != nil })
	if newest < 0 {
		return refusal.Of(refusal.UnknownConversation)
	}
	mark := &record.MarkRead{
		Peer: peer, Device: session.Device, Revision: history.Operations[newest].GetRevision(),
		Received: messageOf(history.Operations[newest]).GetReceived(),
	}
	for _, operation := range history.Operations {
		if m := operation.GetReceiveMessage(); m != nil {
			mark.MessageId, mark.MessageTime = m.GetMessageId(), m.GetTime()
			break
		}
	}
	r := n.newRecord(session.User)
	r.Kind = &record.Record_MarkRead{MarkRead: mark}
	_, err = n.do(ctx, r)
	return err
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
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Conversation{Conversation: peer}})
	if err != nil || len(known.GetConversations()) != 1 {
		return nil, orNotReady(err)
	}
	return known.GetConversations()[0].GetConversation(), nil
}

// Conversations returns a page of a user's conversations with their newest
// messages.
func (n *Node) Conversations(ctx context.Context, user string, page *record.ConversationsQuery) (talk.Conversations, error) {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Conversations{Conversations: page}})
	if err != nil {
		return talk.Conversations{}, err
	}
	result := talk.Conversations{HasMore: known.GetHasMore(), Revision: known.Head}
	for _, c := range known.GetConversations() {
		result.Conversations = append(result.Conversations, talk.Conversation{ConversationUpdate: c})
	}
	return result, n.readLast(ctx, user, result.Conversations)
}

// lastReads is how many messages of one list are read at a time.
const lastReads = 16

// readLast reads the newest message of each conversation.
func (n *Node) readLast(ctx context.Context, user string, conversations []talk.Conversation) error {
	var (
		readers sync.WaitGroup
		once    sync.Once
		failed  error
		turns   = make(chan struct{}, lastReads)
	)
	for i := range conversations {
		c := &conversations[i]
		turns <- struct{}{}
		readers.Go(func() {
			defer func() { <-turns }()
			history, err := n.Messages(ctx, user, c.Peer, c.GetConversation().GetLastRevision()+1, 1)
			if err != nil {
				once.Do(func() { failed = err })
			} else if len(history.Operations) > 0 {
				c.Last = history.Operations[0]
			}
		})
	}
	readers.Wait()
	return failed
}
