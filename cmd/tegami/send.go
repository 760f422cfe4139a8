package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tegami-im/tegami/client"
)

type sendCommand struct {
	asFlags
	To      string        `arg:"" help:"The recipient's user id."`
	Text    []string      `arg:"" optional:"" help:"The text; words are joined by spaces. Missing: standard input, without the last end of line."`
	File    string        `placeholder:"FILE" type:"existingfile" xor:"body" help:"Send a file of at most 64 KiB in place of text."`
	Type    string        `placeholder:"MIME" help:"The type of the file; guessed from its name when missing."`
	ID      string        `placeholder:"ID" help:"The client message id: the same id to the same recipient is one message, however often it is sent."`
	Timeout time.Duration `default:"30s" help:"How long to try."`
	Output  string        `enum:"text,json" default:"text" help:"text or json."`
}

func (sendCommand) Help() string {
	return `It ends once the message is durable in the recipient's mailbox, and tries again while the server cannot be reached.

Examples:
  tegami send bob Hello there --as alice
  date | tegami send bob --as alice
  tegami send bob --as alice --file cat.webp
  tegami send bob "Backup done" --as ops --id "backup-$(date +%F)" --output json`
}

func (c *sendCommand) Run(ctx context.Context, std streams) error {
	signedIn, err := c.resume(ctx, std)
	if err != nil {
		return err
	}
	c.ID = cmp.Or(c.ID, rand.Text())
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	sent, err := c.send(ctx, std, signedIn)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v: the message may have been sent; with --id %s it is sent once, however often: %w", c.Timeout, c.ID, err)
	}
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(map[string]string{
			"messageId": sent.MessageID, "createTime": sent.Time.Format(time.RFC3339Nano),
		})
	}
	std.printf("Sent %s\n", sent.MessageID)
	return nil
}

func (c *sendCommand) send(ctx context.Context, std streams, from *client.Client) (client.Sent, error) {
	switch {
	case c.File != "":
		if len(c.Text) > 0 {
			return client.Sent{}, usagef("give a text or --file, not both")
		}
		data, err := os.ReadFile(c.File)
		if err != nil {
			return client.Sent{}, err
		}
		return from.SendContent(ctx, c.To, c.mimeType(), data, client.WithID(c.ID))
	case len(c.Text) > 0:
		return from.Send(ctx, c.To, strings.Join(c.Text, " "), client.WithID(c.ID))
	default:
		text, err := io.ReadAll(io.LimitReader(std.in, 1<<20))
		if err != nil {
			return client.Sent{}, err
		}
		return from.Send(ctx, c.To, strings.TrimSuffix(string(text), "\n"), client.WithID(c.ID))
	}
}

func (c *sendCommand) mimeType() string {
	if c.Type != "" {
		return c.Type
	}
	if guessed := mime.TypeByExtension(filepath.Ext(c.File)); guessed != "" {
		return guessed
	}
	return "application/octet-stream"
}
