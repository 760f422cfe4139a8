package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/internal/terminal"
)

type opsCommand struct {
	asFlags
	After  int64  `placeholder:"N" default:"0" help:"Begin after this revision."`
	Limit  int    `placeholder:"N" default:"0" help:"End after this many; 0 for all."`
	Follow bool   `short:"f" help:"Go on with those that arrive, until interrupted."`
	Output string `enum:"text,json" default:"text" help:"text or json: one operation a line, as the API's JSON."`
}

func (opsCommand) Help() string {
	return `One device holds one poll: a second --follow, or a chat, with the same device ends the first.

Examples:
  tegami ops --as alice
  tegami ops --as alice --follow
  tegami ops --as alice --after 120 --limit 10 --output json | jq .receiveMessage.text`
}

// errEnough ends Run when the limit is reached.
var errEnough = errors.New("enough")

func (c *opsCommand) Run(ctx context.Context, std streams) error {
	signedIn, err := c.resume(ctx, std)
	if err != nil {
		return err
	}
	printed := 0
	handle := func(_ context.Context, op *client.Operation) error {
		line, err := c.format(op)
		if err != nil {
			return err
		}
		std.printf("%s\n", line)
		if printed++; printed == c.Limit {
			return errEnough
		}
		return nil
	}
	if c.Follow {
		err = signedIn.Run(ctx, client.NewMemoryCursor(c.After), handle)
	} else {
		err = c.once(ctx, signedIn, handle)
	}
	if errors.Is(err, errEnough) || c.Follow && errors.Is(err, context.Canceled) {
		return nil // following is ended by interrupting it
	}
	return err
}

func (c *opsCommand) once(ctx context.Context, signedIn *client.Client, handle client.Handler) error {
	for after := c.After; ; {
		operations, more, err := signedIn.Fetch(ctx, after, 0)
		if err != nil {
			return err
		}
		for _, op := range operations {
			if err := handle(ctx, op); err != nil {
				return err
			}
			after = op.GetRevision()
		}
		if !more {
			return nil
		}
	}
}

func (c *opsCommand) format(op *client.Operation) (string, error) {
	if c.Output == "json" {
		encoded, err := protojson.Marshal(op)
		if err != nil {
			return "", err
		}
		var compact bytes.Buffer // protojson varies its spaces on purpose
		err = json.Compact(&compact, encoded)
		return compact.String(), err
	}
	line := fmt.Sprintf("#%d %s ", op.GetRevision(), op.GetCreateTime().AsTime().Local().Format(time.DateTime))
	message := messageOf(op)
	if message == nil {
		return line + withoutMessage(op), nil
	}
	return line + fmt.Sprintf("%s → %s: %s", message.GetFrom(), message.GetTo(), bodyText(message)), nil
}

// withoutMessage shows an operation that carries no message.
func withoutMessage(op *client.Operation) string {
	switch {
	case op.GetContactUpdated() != nil:
		return fmt.Sprintf("contact %s: %s", op.GetContactUpdated().GetUserId(), op.GetContactUpdated().GetRelation())
	case op.GetSettingsUpdated() != nil:
		return "settings changed"
	case op.GetProfileUpdated() != nil:
		return "profile changed"
	case op.GetConversationUpdated() != nil:
		return fmt.Sprintf("conversation with %s: %d unread", op.GetConversationUpdated().GetPeer(), op.GetConversationUpdated().GetUnread())
	case op.GetMessageAmended() != nil:
		return fmt.Sprintf("message %s of the conversation with %s was changed by %s",
			op.GetMessageAmended().GetMessageId(), op.GetMessageAmended().GetPeer(), op.GetMessageAmended().GetBy())
	case op.GetChatChanged() != nil:
		return "chat " + op.GetChatId() + ": " + chatChangeText(op.GetChatChanged())
	case op.GetMessageRead() != nil:
		return fmt.Sprintf("%s has read up to %s", op.GetMessageRead().GetPeer(), op.GetMessageRead().GetMessageId())
	default:
		return "(a kind that this version does not know)"
	}
}

// messageOf returns the message that an operation carries; nil for none.
func messageOf(op *client.Operation) *client.Message {
	if received := op.GetReceiveMessage(); received != nil {
		return received
	}
	return op.GetSendMessage()
}

// bodyText shows a body on a terminal.
func bodyText(message *client.Message) string {
	if content := message.GetContent(); content != nil {
		return terminal.Clean(fmt.Sprintf("[%s, %d bytes]", content.GetMimeType(), len(content.GetData())))
	}
	return terminal.Clean(message.GetText())
}
