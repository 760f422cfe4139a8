package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

const (
	// deadlineMargin is how long before the client's deadline a hold ends, so
	// that the answer is there in time.
	deadlineMargin = 100 * time.Millisecond
	// lostPollMargin is how long after its end a poll that the talk tier has
	// forgotten is answered all the same.
	lostPollMargin = 5 * time.Second
	// vouchAfter is how long a poll is held before its session is taken to be
	// live for as long as it is held on: longer than it takes to notice that a
	// mailbox did not get it, or that its answer was lost.
	vouchAfter = 3 * time.Second
)

func noCancel() {}

// sendMessage hands a message to the talk tier and answers when it is durable,
// or with outcome_unknown when that takes too long.
func (s *Server) sendMessage(ctx context.Context, caller talk.Session, deadline time.Time, request *tegamiv1.SendMessageRequest, reply func(Reply)) (cancel func()) {
	if err := validate.SendMessage(request); err != nil {
		reply(failure{err})
		return noCancel
	}
	if err := s.enter(Sends); err != nil {
		reply(failure{err})
		return noCancel
	}
	return s.send(ctx, caller, deadline, request, bodyOf(request), func(r Reply) {
		s.leave()
		reply(r)
	})
}

// send hands a body to the talk tier, to whom and under which id a valid request
// says.
func (s *Server) send(ctx context.Context, caller talk.Session, deadline time.Time, request *tegamiv1.SendMessageRequest, body talk.Body, reply func(Reply)) (cancel func()) {
	id := request.GetClientMessageId()
	if id == "" {
		made, err := uuid.NewV7()
		if err != nil {
			reply(failure{err})
			return noCancel
		}
		id = made.String()
	}
	send := &pendingSend{reply: reply}
	send.timer = time.AfterFunc(s.sendWait(deadline), send.expire)
	s.talk.Send(ctx, talk.Send{
		From:            caller.User,
		FromDevice:      caller.Device,
		To:              request.GetTo(),
		ClientMessageID: id,
		Body:            body,
		Answer:          send.answer,
	})
	// A send cannot be taken back.
	return noCancel
}

// sendWait returns how long a send may take.
func (s *Server) sendWait(deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return s.opts.Deadlines.Send
	}
	return min(time.Until(deadline), s.opts.Deadlines.Max)
}

func bodyOf(request *tegamiv1.SendMessageRequest) talk.Body {
	body := talk.Body{Text: request.GetText()}
	if content := request.GetContent(); content != nil {
		body = talk.Body{MimeType: content.GetMimeType(), Data: content.GetData()}
	}
	if request.GetReplyTo() != "" {
		id := uuid.MustParse(request.GetReplyTo()) // it was validated
		body.ReplyTo = string(id[:])
	}
	for _, m := range request.GetMentions() {
		body.Mentions = append(body.Mentions, &record.Mention{UserId: m.GetUserId(), Start: m.GetStart(), Length: m.GetLength()})
	}
	return body
}

// fieldNames has the JSON names of the fields that refusals are about, which
// the edge alone knows.
type fieldNames map[refusal.Reason]string

var sendFields = fieldNames{refusal.UnknownRecipient: "to", refusal.UnknownChat: "to", refusal.DifferentBody: "clientMessageId"}

// naming returns err with the field that it is about, if it is one of those.
func naming(err error, fields fieldNames) error {
	refused, ok := errors.AsType[*refusal.Refusal](err)
	if !ok || refused.Field != "" || fields[refused.Reason] == "" {
		return err
	}
	named := *refused
	named.Field = fields[refused.Reason]
	return &named
}

// pendingSend is a send whose answer has not come.
type pendingSend struct {
	answered atomic.Bool
	timer    *time.Timer
	reply    func(Reply)
}

func (p *pendingSend) answer(sent talk.Sent, err error) {
	if !p.answered.CompareAndSwap(false, true) {
		return
	}
	p.timer.Stop()
	if err != nil {
		p.reply(failure{naming(err, sendFields)})
		return
	}
	p.reply(sentReply(sent))
}

func (p *pendingSend) expire() {
	if p.answered.CompareAndSwap(false, true) {
		p.reply(failure{refusal.Of(refusal.OutcomeUnknown)})
	}
}

type sentReply talk.Sent

func (r sentReply) Message(context.Context) (proto.Message, error) {
	created := new(timestamppb.Timestamp)
	setTime(created, r.Time)
	return &tegamiv1.SendMessageResponse{
		MessageId:    uuid.UUID(r.MessageID).String(),
		CreateTime:   created,
		ChatRevision: r.ChatRevision,
	}, nil
}

// fetchOps hands a poll to the talk tier.
func (s *Server) fetchOps(ctx context.Context, caller talk.Session, deadline time.Time, request *tegamiv1.FetchOpsRequest, reply func(Reply)) (cancel func()) {
	if err := validate.FetchOps(request, s.opts.Deadlines.Hold); err != nil {
		reply(failure{err})
		return noCancel
	}
	if err := s.writing.refuses(caller); err != nil {
		reply(failure{err})
		return noCancel
	}
	hold := request.GetTimeout().AsDuration()
	if !deadline.IsZero() {
		hold = max(0, min(hold, time.Until(deadline)-deadlineMargin))
	}
	if err := ctx.Err(); err != nil {
		// Nobody waits for it, and the device's next poll may be here already:
		// this one must not take over from it.
		reply(failure{err})
		return noCancel
	}
	leave, err := s.enterPoll(hold > 0)
	if err != nil {
		reply(failure{err})
		return noCancel
	}
	poll := &pendingPoll{
		leave: leave, server: s, caller: caller, ofChat: request.GetChatId() != "", after: request.GetAfterRevision(), reply: reply, held: hold > 0,
	}
	if poll.held {
		s.opts.Hooks.held(+1)
	}
	cancelPoll := s.talk.Poll(talk.Poll{
		Session: caller,
		Chat:    request.GetChatId(),
		After:   poll.after,
		Limit:   validate.PageSize(request.GetLimit()),
		Timeout: hold,
		Lost:    poll.disavow,
		Answer:  poll.answer,
	})
	poll.guard(hold, cancelPoll)
	return poll.cancel
}

// pendingPoll is a poll whose answer has not come.
type pendingPoll struct {
	server *Server
	caller talk.Session
	// ofChat: the talk tier does not end it with the session, of which a chat
	// does not know.
	ofChat bool
	after  int64
	held   bool
	reply  func(Reply)
	leave  func()

	ended      atomic.Bool
	vouching   atomic.Int32 // notYet, vouches or noMore
	cancelPoll func()       // set before guard returns
	timer      atomic.Pointer[time.Timer]
	margin     time.Duration // from vouchAfter until the poll is given up
}

// Whether a held poll vouches for its session: the mailbox that holds it would
// have said that the session ended.
const (
	notYet int32 = iota
	vouches
	noMore
)

// guard makes sure that the poll is answered even if the talk tier has
// forgotten it.
func (p *pendingPoll) guard(hold time.Duration, cancelPoll func()) {
	p.cancelPoll = cancelPoll
	if p.ended.Load() {
		return
	}
	p.margin = hold + lostPollMargin - vouchAfter
	p.keep(time.AfterFunc(vouchAfter, p.due))
}

// keep keeps a timer that was started, unless the poll has ended meanwhile and
// nobody would stop it.
func (p *pendingPoll) keep(timer *time.Timer) {
	p.timer.Store(timer)
	if p.ended.Load() {
		timer.Stop()
	}
}

// due is called when the poll has been held for a while, and when it should have
// been answered long ago.
func (p *pendingPoll) due() {
	if p.margin == 0 {
		p.expire()
		return
	}
	margin := p.margin
	p.margin = 0
	if p.held && !p.ofChat {
		p.vouch()
	}
	p.keep(time.AfterFunc(margin, p.due))
}

// vouch has the session be live while the poll is held, unless the poll's
// mailbox was lost sight of.
func (p *pendingPoll) vouch() {
	p.server.admission.sessions.Hold(p.caller)
	if !p.vouching.CompareAndSwap(notYet, vouches) {
		p.server.admission.sessions.Release(p.caller)
	}
}

// disavow ends that.
func (p *pendingPoll) disavow() {
	if p.vouching.Swap(noMore) == vouches {
		p.server.admission.sessions.Release(p.caller)
	}
}

// end reports whether the caller is the one that ends the poll.
func (p *pendingPoll) end() bool {
	if !p.ended.CompareAndSwap(false, true) {
		return false
	}
	if timer := p.timer.Load(); timer != nil {
		timer.Stop()
	}
	p.leave()
	if p.held {
		p.disavow()
		p.server.opts.Hooks.held(-1)
	}
	return true
}

func (p *pendingPoll) answer(page talk.Page, refused *refusal.Refusal) {
	switch {
	case !p.end():
	case refused != nil:
		if refused.Reason == refusal.SessionEnded || refused.Reason == refusal.UnknownDevice {
			p.server.admission.sessions.Doubt(p.caller.User, p.caller.Device)
		}
		p.reply(failure{refused})
	default:
		if page.Reason == talk.Operations && !p.ofChat { // so the mailbox knows the session
			p.server.admission.sessions.Confirm(p.caller)
		}
		p.reply(&pageReply{server: p.server, caller: p.caller, check: p.held && p.ofChat, page: page})
	}
}

func (p *pendingPoll) cancel() {
	if p.end() {
		p.cancelPoll()
	}
}

// expire answers a poll that the talk tier has forgotten. One that was held
// comes again; one that was not would take an empty page for the end of the
// mailbox.
func (p *pendingPoll) expire() {
	if !p.end() {
		return
	}
	p.cancelPoll()
	if !p.held {
		p.reply(failure{refusal.After(refusal.NotReady, time.Second)})
		return
	}
	p.reply(&pageReply{page: talk.Page{Revision: p.after, Reason: talk.Timeout}})
}
