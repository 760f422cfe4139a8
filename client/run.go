package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

type (
	// Operation is one entry of the mailbox. One of a kind that this version
	// does not know has no kind set; skip it.
	Operation = tegamiv1.Operation
	// Message is what was sent or received.
	Message = tegamiv1.Message
	// Content is a body that is not text.
	Content = tegamiv1.Content
)

// Handler deals with one operation. The operation is its own to keep.
type Handler func(ctx context.Context, operation *Operation) error

// RevisionError means that the server broke its promise of dense revisions. The
// cursor stays before the gap.
type RevisionError struct{ Want, Got int64 }

func (e *RevisionError) Error() string {
	return fmt.Sprintf("the server answered revision %d where %d follows", e.Got, e.Want)
}

// Run hands over the operations after a cursor, in order, and goes on with
// those that arrive until the context ends. It moves the cursor after each
// operation for which the handler returned nil. It always returns an error: the
// context's, the handler's or the cursor store's, ErrSuperseded,
// ErrCursorTooOld or ErrCursorAhead, CodeUnauthenticated when the device was
// signed out, or a *RevisionError. Everything that may pass it waits out.
func (c *Client) Run(ctx context.Context, cursor CursorStore, handle Handler) error {
	return c.run(ctx, "", cursor, handle)
}

// run reads the mailbox, or a chat unless that is empty.
func (c *Client) run(ctx context.Context, chat string, cursor CursorStore, handle Handler) error {
	after, err := cursor.Load(ctx)
	if err != nil {
		return err
	}
	for failures := 0; ; {
		page, err := c.poll(ctx, chat, after)
		if err != nil {
			if err := c.pause(ctx, failures, err); err != nil {
				return err
			}
			failures++
			continue
		}
		failures = 0
		for _, operation := range page.GetOps() {
			if operation.GetRevision() != after+1 {
				return &RevisionError{Want: after + 1, Got: operation.GetRevision()}
			}
			if err := handle(ctx, operation); err != nil {
				return err
			}
			after++
			if err := cursor.Save(ctx, after); err != nil {
				return err
			}
		}
		if err := c.afterPage(ctx, page); err != nil {
			return err
		}
	}
}

func (c *Client) poll(ctx context.Context, chat string, after int64) (*tegamiv1.FetchOpsResponse, error) {
	hold := c.pollTimeout - rand.N(c.pollTimeout/10+1) //nolint:gosec // spreads load
	request := &tegamiv1.FetchOpsRequest{ChatId: chat, AfterRevision: after, Timeout: durationpb.New(hold)}
	page := new(tegamiv1.FetchOpsResponse)
	err := c.call(ctx, hold+callTimeout, "TalkService/FetchOps", request, page)
	return page, err
}

// afterPage decides whether the loop goes on. A server that drains answers all
// its polls at once; coming back spread over a second spares its successor.
func (c *Client) afterPage(ctx context.Context, page *tegamiv1.FetchOpsResponse) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch page.GetReason() {
	case tegamiv1.FetchOpsResponse_SUPERSEDED:
		return ErrSuperseded
	case tegamiv1.FetchOpsResponse_DRAINING:
		c.wire.drained()
		if sleep(ctx, rand.N(time.Second)) != nil { //nolint:gosec // spreads load
			return context.Cause(ctx)
		}
	case tegamiv1.FetchOpsResponse_OPERATIONS, tegamiv1.FetchOpsResponse_TIMEOUT, tegamiv1.FetchOpsResponse_REASON_UNSPECIFIED:
	}
	return nil
}
