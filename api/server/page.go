package server

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// opened is an operation in the form that clients get, in one allocation: a
// page has up to a thousand.
type opened struct {
	operation tegamiv1.Operation
	received  tegamiv1.Operation_ReceiveMessage
	sent      tegamiv1.Operation_SendMessage
	message   tegamiv1.Message
	text      tegamiv1.Message_Text
	content   tegamiv1.Message_Content
	data      tegamiv1.Content
	time      timestamppb.Timestamp // of the operation
	logTime   timestamppb.Timestamp // of the message
}

// open opens the bodies of a user's operations.
func (s *Server) open(ctx context.Context, user string, operations []*record.Operation) ([]opened, error) {
	if len(operations) == 0 {
		return nil, nil
	}
	bodies, err := s.talk.Open(ctx, user, operations)
	if err != nil {
		return nil, err
	}
	if len(bodies) != len(operations) {
		return nil, fmt.Errorf("open %d operations: got %d bodies", len(operations), len(bodies))
	}
	result := make([]opened, len(operations))
	for i, operation := range operations {
		result[i].fill(user, operation, bodies[i])
	}
	return result, nil
}

// fill fills in an operation as its reader gets it. A chat has one of each message,
// which is what one sent to who wrote it, and what one received to all others.
func (o *opened) fill(reader string, from *record.Operation, body talk.Body) {
	setTime(&o.time, from.GetTime())
	o.operation.Revision = from.GetRevision()
	o.operation.CreateTime = &o.time
	o.operation.ChatId, o.operation.ChatRevision = from.GetChat(), from.GetChatRevision()

	var message *record.Message
	switch kind := from.GetKind().(type) {
	case *record.Operation_ReceiveMessage:
		message = kind.ReceiveMessage
		if from.GetChat() != "" && message.GetFrom() == reader {
			o.sent.SendMessage = &o.message
			o.operation.Kind = &o.sent
			break
		}
		o.received.ReceiveMessage = &o.message
		o.operation.Kind = &o.received
	case *record.Operation_SendMessage:
		message = kind.SendMessage
		o.sent.SendMessage = &o.message
		o.operation.Kind = &o.sent
	case *record.Operation_ContactUpdated:
		contact := contactOf(kind.ContactUpdated.GetUserId(), kind.ContactUpdated.GetContact())
		o.operation.Kind = &tegamiv1.Operation_ContactUpdated{ContactUpdated: contact}
		return
	case *record.Operation_SettingsUpdated:
		o.operation.Kind = &tegamiv1.Operation_SettingsUpdated{SettingsUpdated: settingsUpdateOf(kind.SettingsUpdated)}
		return
	case *record.Operation_ProfileUpdated:
		o.operation.Kind = &tegamiv1.Operation_ProfileUpdated{ProfileUpdated: profileOf(kind.ProfileUpdated)}
		return
	case *record.Operation_ConversationUpdated:
		conversation := conversationOf(kind.ConversationUpdated.GetPeer(), kind.ConversationUpdated.GetConversation())
		o.operation.Kind = &tegamiv1.Operation_ConversationUpdated{ConversationUpdated: conversation}
		return
	case *record.Operation_MessageRead:
		o.operation.Kind = &tegamiv1.Operation_MessageRead{MessageRead: messageReadOf(kind.MessageRead)}
		return
	case *record.Operation_MessageAmended:
		o.operation.Kind = &tegamiv1.Operation_MessageAmended{MessageAmended: amendmentOf(from.GetRevision(), kind.MessageAmended, body)}
		return
	case *record.Operation_ChatChanged:
		o.operation.Kind = &tegamiv1.Operation_ChatChanged{ChatChanged: chatChangeOf(from)}
		return
	default:
		return // a kind of a later version: the client sees its revision
	}
	setTime(&o.logTime, message.GetTime())
	m := &o.message
	m.MessageId = messageID(message.GetMessageId())
	m.From = message.GetFrom()
	m.To = message.GetTo()
	m.ClientMessageId = message.GetClientMessageId()
	m.CreateTime = &o.logTime
	m.Revision = from.GetRevision()
	m.Forwarded = body.Forwarded
	m.ChatRevision, m.ChatMessages = from.GetChatRevision(), from.GetChatMessages()
	if body.ReplyTo != "" {
		m.ReplyTo = messageID([]byte(body.ReplyTo))
	}
	for _, mention := range body.Mentions {
		m.Mentions = append(m.Mentions, &tegamiv1.Mention{UserId: mention.GetUserId(), Start: mention.GetStart(), Length: mention.GetLength()})
	}
	switch {
	case body.MimeType != "":
		o.data.MimeType, o.data.Data = body.MimeType, body.Data
		o.content.Content = &o.data
		m.Body = &o.content
	case body.Text != "":
		o.text.Text = body.Text
		m.Body = &o.text
	}
}

// messageID returns the text form of a stored id.
func messageID(raw []byte) string {
	id, err := uuid.FromBytes(raw)
	if err != nil {
		return "" // no record of ours has another length
	}
	return id.String()
}

// setTime sets t to an instant in milliseconds since 1970.
func setTime(t *timestamppb.Timestamp, millis int64) {
	t.Seconds, t.Nanos = split(millis)
}

// split returns an instant in milliseconds as seconds and what is over.
func split(millis int64) (seconds int64, nanos int32) {
	seconds, rest := millis/1000, millis%1000
	if rest < 0 {
		seconds, rest = seconds-1, rest+1000
	}
	return seconds, int32(rest) * 1_000_000
}
