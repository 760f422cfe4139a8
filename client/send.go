package client

import (
	"context"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Sent tells of a message that is durable in the recipient's mailbox.
type Sent struct {
	MessageID string
	Time      time.Time
}

// SendOption changes one send.
type SendOption func(*tegamiv1.SendMessageRequest)

// WithID sends under a client message id, 1 to 64 printable ASCII characters,
// in place of one made at random. Within 24 hours the same id to the same
// recipient is one message, however often it is sent.
func WithID(id string) SendOption {
	return func(r *tegamiv1.SendMessageRequest) { r.ClientMessageId = id }
}

// ReplyTo says which message this one replies to, by the id that Sent or a
// Message has.
func ReplyTo(messageID string) SendOption {
	return func(r *tegamiv1.SendMessageRequest) { r.ReplyTo = messageID }
}

// Mention says that a part of the text, in code points, means a user.
func Mention(user string, start, length int32) SendOption {
	return func(r *tegamiv1.SendMessageRequest) {
		r.Mentions = append(r.Mentions, &tegamiv1.Mention{UserId: user, Start: start, Length: length})
	}
}

// Send sends text, 1 to 10,000 code points, kept as they are. While the server
// cannot be reached, or asks to wait, it tries again until the context ends:
// then whether the message arrived is not known, and a Send with the same
// [WithID] finds out. CodeNotFound: no such user; CodeAlreadyExists: the id was
// used with another body; CodeAborted: the id is more than an hour old.
func (c *Client) Send(ctx context.Context, to, text string, opts ...SendOption) (Sent, error) {
	return c.send(ctx, &tegamiv1.SendMessageRequest{To: to, Body: &tegamiv1.SendMessageRequest_Text{Text: text}}, opts)
}

// SendContent sends data that is not text, at most 64 KiB, as Send does.
func (c *Client) SendContent(ctx context.Context, to, mimeType string, data []byte, opts ...SendOption) (Sent, error) {
	content := &tegamiv1.Content{MimeType: mimeType, Data: data}
	return c.send(ctx, &tegamiv1.SendMessageRequest{To: to, Body: &tegamiv1.SendMessageRequest_Content{Content: content}}, opts)
}

func (c *Client) send(ctx context.Context, request *tegamiv1.SendMessageRequest, opts []SendOption) (Sent, error) {
	request.ClientMessageId = newID()
	for _, opt := range opts {
		opt(request)
	}
	for attempt := 0; ; attempt++ {
		var response tegamiv1.SendMessageResponse
		err := c.call(ctx, callTimeout, "TalkService/SendMessage", request, &response)
		if err == nil {
			return Sent{MessageID: response.GetMessageId(), Time: response.GetCreateTime().AsTime()}, nil
		}
		if err := c.pause(ctx, attempt, err); err != nil {
			return Sent{}, err
		}
	}
}
