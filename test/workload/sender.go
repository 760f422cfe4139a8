package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/checker"
	"github.com/tegami-im/tegami/test/process"
)

// callLimit ends a call that hangs.
const callLimit = 30 * time.Second

// remembered is how many acknowledged messages a sender keeps to send again,
// also after the server was killed in between.
const remembered = 200

// sender sends one message after another.
type sender struct {
	workload   *Workload
	user, name string
	client     *process.Client
	rand       *rand.Rand

	next  int
	acked []message
	last  string // the id of the newest message that was acknowledged
}

// message is a message in both its shapes.
type message struct {
	request *tegamiv1.SendMessageRequest
	known   checker.Message
}

// run sends until stop is closed, and then still finishes what it began.
func (s *sender) run(ctx context.Context, stop <-chan struct{}) {
	for ctx.Err() == nil {
		begun := time.Now()
		select {
		case <-stop:
			return
		default:
		}
		m := s.choose()
		if s.deliver(ctx, m) {
			s.remember(m)
		}
		if s.workload.options.Every == 0 {
			continue
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Until(begun.Add(s.workload.options.Every))):
		}
	}
}

func (s *sender) remember(m message) {
	if len(s.acked) < remembered {
		s.acked = append(s.acked, m)
		return
	}
	s.acked[s.rand.IntN(remembered)] = m
}

// choose makes a new message, most of the time. Now and then it takes one that
// was acknowledged, perhaps before a crash, and sends it again, as it was or
// with another body; or it writes to nobody.
func (s *sender) choose() message {
	roll := s.rand.IntN(100)
	if len(s.acked) > 0 && roll < 6 {
		m := s.acked[s.rand.IntN(len(s.acked))]
		if roll < 4 {
			return m
		}
		s.next++
		return s.message(m.known.To, m.known.ClientID, fmt.Sprintf("another body %d", s.next))
	}
	s.next++
	to := s.workload.users[s.rand.IntN(len(s.workload.users))]
	if roll == 99 {
		to = "nobody-" + s.user
	}
	id := fmt.Sprintf("%s-%d", s.name, s.next)
	if roll > 90 {
		return s.content(to, id)
	}
	m := s.message(to, id, samples[s.rand.IntN(len(samples))]+" "+id)
	if roll > 80 && s.last != "" {
		m.request.ReplyTo = s.last
		m.known.Body = textBody(m.request.GetText(), s.last)
	}
	return m
}

func (s *sender) message(to, id, text string) message {
	return message{
		request: &tegamiv1.SendMessageRequest{To: to, ClientMessageId: id, Body: &tegamiv1.SendMessageRequest_Text{Text: text}},
		known:   checker.Message{From: s.user, To: to, ClientID: id, Body: textBody(text, "")},
	}
}

func (s *sender) content(to, id string) message {
	content := &tegamiv1.Content{MimeType: "application/octet-stream", Data: make([]byte, s.rand.IntN(2048))}
	for i := range content.Data {
		content.Data[i] = byte(s.rand.Uint32())
	}
	return message{
		request: &tegamiv1.SendMessageRequest{To: to, ClientMessageId: id, Body: &tegamiv1.SendMessageRequest_Content{Content: content}},
		known:   checker.Message{From: s.user, To: to, ClientID: id, Body: contentBody(content.MimeType, content.Data)},
	}
}

// deliver sends until the server has decided, or, once in ten times that
// nothing is known, gives up. It reports whether the message was acknowledged.
func (s *sender) deliver(ctx context.Context, m message) bool {
	// A server that stays away must not keep a test for ever.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	begun := time.Now()
	for ctx.Err() == nil {
		attempt := s.workload.History.Invoke(m.known)
		response := new(tegamiv1.SendMessageResponse)
		call, cancelCall := context.WithTimeout(ctx, callLimit)
		err := s.client.Call(call, "TalkService/SendMessage", m.request, response)
		cancelCall()
		switch outcome(err) {
		case acknowledged:
			if attempt.OK(response.GetMessageId(), response.GetCreateTime().AsTime().UnixNano()) {
				s.workload.acked.Add(1)
				s.workload.took.add(time.Since(begun))
			}
			s.last = response.GetMessageId()
			return true
		case refused:
			attempt.Refused()
			s.judge(m, err)
			return false
		case notTaken:
			attempt.NotTaken()
			s.workload.turnedAway.Add(1)
			s.judge(m, err)
		case unknown:
			attempt.Unknown()
			s.workload.unknown.Add(1)
			s.judge(m, err)
			if s.rand.IntN(10) == 0 {
				return false
			}
		}
		pause(ctx, s.rand, retryAfter(err))
	}
	return false
}

// judge notes a refusal that the message did not ask for.
func (s *sender) judge(m message, err error) {
	refusal, ok := errors.AsType[*process.Error](err)
	if !ok {
		if !mayRetry(err) {
			s.workload.unexpected.add("send of %v: %v", m.known, err)
		}
		return
	}
	switch refusal.Code {
	case "unavailable", "resource_exhausted", "already_exists":
		// already_exists: that another body was sent under the id before, the
		// checker knows.
		return
	case "not_found":
		if m.known.To == "nobody-"+s.user {
			return
		}
	}
	s.workload.unexpected.add("send of %v: %v", m.known, err)
}

// What a client knows after an attempt.
type knowledge int

const (
	acknowledged knowledge = iota
	refused
	notTaken
	unknown
)

// outcome reads an answer as docs/api.md tells clients to.
func outcome(err error) knowledge {
	if err == nil {
		return acknowledged
	}
	refusal, ok := errors.AsType[*process.Error](err)
	if !ok {
		if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
			return notTaken // there was no connection to send it on
		}
		return unknown
	}
	switch refusal.Code {
	case "invalid_argument", "not_found", "already_exists", "aborted", "permission_denied", "failed_precondition", "unimplemented":
		return refused
	case "resource_exhausted", "unauthenticated":
		return notTaken
	case "unavailable":
		switch refusal.Detail.GetReason() {
		case "not_ready", "stopping", "disk_full", "shard_stopped":
			return notTaken
		}
	}
	return unknown
}

// retryAfter is what the server asks for, else a short while.
func retryAfter(err error) time.Duration {
	if refusal, ok := errors.AsType[*process.Error](err); ok {
		if after := refusal.Detail.GetRetryAfter(); after != nil {
			return min(after.AsDuration(), 2*time.Second)
		}
	}
	return 20 * time.Millisecond
}

// pause waits for d and up to twice as long, so that clients do not come back
// all at once.
func pause(ctx context.Context, random *rand.Rand, d time.Duration) {
	timer := time.NewTimer(d + time.Duration(random.Int64N(int64(d)+1)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// samples are short texts in scripts that have broken servers.
var samples = []string{
	"hello", "こんにちは、元気？", "مرحبا، كيف حالك؟", "שלום עולם", "สวัสดีครับ", "नमस्ते, क्या हाल है?",
	"👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽", "Z̷̛a̴lg̵o", " leading and trailing ", "line\nbreak\ttab", "", "\u200b\u202ertl override",
}
