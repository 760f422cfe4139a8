package client

import (
	"context"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

type (
	// Conversation is what the server keeps of the messages with another user.
	Conversation = tegamiv1.Conversation
	// ConversationItem is a conversation with its newest message, and what became of
	// it.
	ConversationItem = tegamiv1.ListConversationsResponse_Item
)

// MarkRead marks a conversation read up to a revision, of which the peer learns
// unless read receipts are off. CodeNotFound: there is no conversation.
func (c *Client) MarkRead(ctx context.Context, peer string, revision int64) (*Conversation, error) {
	var response tegamiv1.MarkReadResponse
	request := &tegamiv1.MarkReadRequest{Peer: peer, Revision: revision}
	err := c.call(ctx, callTimeout, "TalkService/MarkRead", request, &response)
	return response.GetConversation(), err
}

// Conversations returns a page of the conversations, the one with the newest
// message first. after is what the page before returned as next, empty for the
// first page; next is empty on the last. limit is 0, for 100, to 1,000.
func (c *Client) Conversations(ctx context.Context, after string, limit int32) (items []*ConversationItem, next string, err error) {
	var response tegamiv1.ListConversationsResponse
	request := &tegamiv1.ListConversationsRequest{PageToken: after, Limit: limit}
	err = c.call(ctx, callTimeout, "TalkService/ListConversations", request, &response)
	return response.GetItems(), response.GetNextPageToken(), err
}

// Pin pins a conversation, or ends that. CodeNotFound: there is no message.
func (c *Client) Pin(ctx context.Context, peer string, pinned bool) error {
	return c.updateConversation(ctx, &tegamiv1.UpdateConversationRequest{Peer: peer, Pinned: &pinned})
}

// Mute mutes a conversation, or ends that. CodeNotFound: there is no message.
func (c *Client) Mute(ctx context.Context, peer string, muted bool) error {
	return c.updateConversation(ctx, &tegamiv1.UpdateConversationRequest{Peer: peer, Muted: &muted})
}

func (c *Client) updateConversation(ctx context.Context, request *tegamiv1.UpdateConversationRequest) error {
	return c.call(ctx, callTimeout, "TalkService/UpdateConversation", request, new(tegamiv1.UpdateConversationResponse))
}
