package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/checker"
	"github.com/tegami-im/tegami/test/process"
)

// device is one signed-in device that polls.
type device struct {
	workload   *Workload
	user, name string
	// chat is the chat whose sequence it reads; empty for the user's mailbox.
	chat   string
	client *process.Client
	seen   *checker.Device
	rand   *rand.Rand
	// replica, unless nil, is what the device makes of what it reads.
	replica *replica
}

// hold is how long a device asks to be held. Long enough that polls are held
// when the server is killed, short enough that some time out.
const hold = 3 * time.Second

// limits are the page sizes that devices ask for.
var limits = []int32{0, 0, 0, 1, 7, 1000}

// poll reads until ctx ends.
func (d *device) poll(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := d.fetch(ctx, limits[d.rand.IntN(len(limits))], hold)
		switch {
		case err == nil:
			d.workload.answered.Add(1)
		case ctx.Err() == nil:
			d.workload.failed.Add(1)
			pause(ctx, d.rand, d.judge(err))
		}
	}
}

// judge notes what a device never ought to get, and returns how long it is to
// wait.
func (d *device) judge(err error) time.Duration {
	if !mayRetry(err) {
		d.workload.unexpected.add("poll of %s/%s after %d: %v", d.user, d.name, d.seen.Cursor(), err)
	}
	return retryAfter(err)
}

// mayRetry reports whether an error passes by itself. A call without an answer
// does not: the server bounds every wait.
func mayRetry(err error) bool {
	refused, ok := errors.AsType[*process.Error](err)
	if !ok {
		return !errors.Is(err, context.DeadlineExceeded)
	}
	return refused.Code == "unavailable" || refused.Code == "resource_exhausted"
}

// fetch asks for one page and reports what is in it.
func (d *device) fetch(ctx context.Context, limit int32, timeout time.Duration) (*tegamiv1.FetchOpsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout+callLimit)
	defer cancel()
	after := d.seen.Cursor()
	request := &tegamiv1.FetchOpsRequest{AfterRevision: after, Limit: limit, ChatId: d.chat}
	if timeout > 0 {
		request.Timeout = durationpb.New(timeout)
	}
	page := new(tegamiv1.FetchOpsResponse)
	if err := d.client.Call(ctx, "TalkService/FetchOps", request, page); err != nil {
		return nil, err
	}
	ops := page.GetOps()
	if d.chat != "" {
		ops = d.forAll(ops)
	}
	for _, op := range ops {
		d.seen.Saw(operation(op, d.chat))
		if d.replica != nil {
			d.replica.apply(op)
		}
	}
	d.judgePage(after, limit, page)
	return page, nil
}

// judgePage checks that a page agrees with itself.
func (d *device) judgePage(after int64, limit int32, page *tegamiv1.FetchOpsResponse) {
	if limit == 0 {
		limit = 100
	}
	last := after
	if n := len(page.GetOps()); n > 0 {
		last = page.GetOps()[n-1].GetRevision()
	}
	var wrong string
	switch {
	case len(page.GetOps()) > int(limit):
		wrong = "more than the limit"
	case page.GetRevision() != last:
		wrong = "the cursor is not that of the last operation"
	case len(page.GetOps()) > 0 && page.GetReason() != tegamiv1.FetchOpsResponse_OPERATIONS:
		wrong = "operations with another reason"
	case len(page.GetOps()) == 0 && page.GetHasMore():
		wrong = "an empty page with more behind it"
	case len(page.GetOps()) == 0 && page.GetReason() != tegamiv1.FetchOpsResponse_TIMEOUT && page.GetReason() != tegamiv1.FetchOpsResponse_DRAINING:
		wrong = "an empty page with reason " + page.GetReason().String()
	default:
		return
	}
	d.workload.unexpected.add("page of %s/%s after %d, limit %d: %s: %d operations, revision %d",
		d.user, d.name, after, limit, wrong, len(page.GetOps()), page.GetRevision())
}

// stuckLimit is how long a device may be turned away, again and again, before
// it counts as stuck.
const stuckLimit = 10 * time.Second

// catchUp reads, without being held, until nothing is left.
func (d *device) catchUp(ctx context.Context, limit int32) error {
	for progress := time.Now(); ; {
		page, err := d.fetch(ctx, limit, 0)
		switch {
		case err == nil && len(page.GetOps()) == 0:
			return nil
		case err == nil:
			progress = time.Now()
			continue
		case ctx.Err() != nil, !mayRetry(err):
			return err
		case time.Since(progress) > stuckLimit:
			return fmt.Errorf("no page after revision %d for %v: %w", d.seen.Cursor(), stuckLimit, err)
		}
		pause(ctx, d.rand, retryAfter(err))
	}
}

// operation turns what is on the wire of a mailbox, or of a chat, into what the
// checker knows. What a mailbox has of a chat is judged apart.
func operation(op *tegamiv1.Operation, chat string) checker.Operation {
	out := checker.Operation{Revision: op.GetRevision(), Time: op.GetCreateTime().AsTime().UnixNano()}
	m, sent := op.GetReceiveMessage(), op.GetSendMessage()
	switch {
	case op.GetChatId() == chat && m != nil:
		out.Kind = checker.Received
	case op.GetChatId() == chat && sent != nil:
		out.Kind, m = checker.Sent, sent
	default:
		encoded, _ := proto.MarshalOptions{Deterministic: true}.Marshal(op) // what was decoded can be encoded
		out.Kind, out.Message.Body = checker.Other, string(encoded)
		return out
	}
	out.MessageID = m.GetMessageId()
	out.Created = m.GetCreateTime().AsTime().UnixNano()
	out.Message = checker.Message{From: m.GetFrom(), To: m.GetTo(), ClientID: m.GetClientMessageId()}
	switch body := m.GetBody().(type) {
	case *tegamiv1.Message_Text:
		out.Message.Body = textBody(body.Text, m.GetReplyTo())
	case *tegamiv1.Message_Content:
		out.Message.Body = contentBody(body.Content.GetMimeType(), body.Content.GetData())
	}
	return out
}

// textBody and contentBody fold the two kinds of bodies, and what one replies to,
// into one string.
func textBody(text, replyTo string) string { return "text:" + replyTo + ":" + text }

func contentBody(mimeType string, data []byte) string { return mimeType + ":" + string(data) }
