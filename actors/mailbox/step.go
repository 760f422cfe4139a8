package mailbox

import (
	"bytes"
	"slices"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// The limits of a behaviour's steps.
const (
	// MaxHops is how many behaviours in a row may answer one another: two of them
	// cannot talk for ever.
	MaxHops = 8
	// MaxTimers is how many timers a behaviour may have set.
	MaxTimers = 1_000
	// MaxTimerName is how long the name of a timer may be, in bytes.
	MaxTimerName = 100
	// MaxStepSends is how many messages a step sends, MaxStepTimers how many
	// timers it sets or takes away, and MaxMemory how many bytes of memory it has,
	// sealed.
	MaxStepSends  = 64
	MaxStepTimers = 65
	MaxMemory     = 512 << 10
)

const (
	// behaviourVersion is the version of Apply since which there are behaviours,
	// and chatStepVersion that since which they are in chats.
	behaviourVersion = 7
	chatStepVersion  = 9
)

// stepKind is no command: a step names the one before it, so that a second copy
// is known without a dedup entry, of which a busy behaviour would need many.
var stepKind = kind{
	since:          behaviourVersion,
	withoutAccount: refusal.UnknownRecipient,
	malformed:      malformedStep,
	decide:         func(d *decision, r *record.Record) { d.step(r) },
}

// stepIntoChatsKind is that of steps which reach chats.
var stepIntoChatsKind = kind{
	since:          chatStepVersion,
	withoutAccount: refusal.UnknownRecipient,
	malformed:      malformedStep,
	decide:         func(d *decision, r *record.Record) { d.step(r) },
}

func reachesChats(c *record.Step) bool {
	return slices.ContainsFunc(c.GetSends(), func(send *record.StepSend) bool { return send.GetChat() != nil })
}

var chatStepKind = kind{
	since:     chatStepVersion,
	chat:      true,
	source:    recordSource,
	malformed: func(r *record.Record) bool { return malformedChatStep(r.GetChatStep()) },
	decide:    func(d *decision, r *record.Record) { d.chatStep(r.GetChatStep(), r.GetSource().GetMailbox()) },
}

var stepMessageKind = kind{
	since:     behaviourVersion,
	source:    recordSource,
	malformed: func(r *record.Record) bool { return malformedStepMessage(r.GetStepMessage()) },
	decide:    func(d *decision, r *record.Record) { d.stepMessage(r.GetStepMessage(), r.GetSource().GetMailbox()) },
}

var callKind = kind{
	since:          behaviourVersion,
	command:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed:      func(r *record.Record) bool { return len(r.GetId()) != persistence.MessageIDSize },
	decide:         func(d *decision, r *record.Record) { d.call(r) },
}

func malformedStep(r *record.Record) bool {
	c := r.GetStep()
	if len(r.GetId()) == 0 || len(c.GetSealedMemory()) > MaxMemory || len(c.GetSends()) > MaxStepSends || len(c.GetTimers()) > MaxStepTimers {
		return true
	}
	recipients := make(map[string]bool, len(c.GetSends()))
	for _, send := range c.GetSends() {
		to := send.GetTo()
		if to == "" || to == r.GetMailbox() || recipients[to] || malformedStepSend(send) {
			return true
		}
		recipients[to] = true
	}
	for _, timer := range c.GetTimers() {
		if name := timer.GetName(); name == "" || len(name) > MaxTimerName || timer.GetHops() < 0 || timer.GetHops() > MaxHops {
			return true
		}
	}
	return false
}

func malformedStepSend(send *record.StepSend) bool {
	if send.GetChat() != nil {
		return !IsChat(send.GetTo()) || send.GetMessage() != nil || malformedChatStep(send.GetChat())
	}
	return malformedStepMessage(send.GetMessage())
}

func malformedChatStep(c *record.ChatStep) bool {
	switch act := c.GetAct().(type) {
	case *record.ChatStep_Message:
		return malformedStepMessage(act.Message)
	case *record.ChatStep_Join, *record.ChatStep_Leave:
		return false
	default:
		return true
	}
}

func malformedStepMessage(m *record.StepMessage) bool {
	return len(m.GetMessageId()) != persistence.MessageIDSize || m.GetHops() < 1 || m.GetHops() > MaxHops
}

// step takes a behaviour one step further, if this is its next: of those that
// two owners computed behind the same one, the later is refused.
func (d *decision) step(r *record.Record) {
	c, old := r.GetStep(), d.parts.behaviour
	switch {
	case old != nil && bytes.Equal(old.Step, r.Id):
		return // it was taken
	case !bytes.Equal(old.GetStep(), c.After) && !anyStep:
		d.refuse(refusal.NotNext)
		return
	}
	if !d.setTimers(r.Id, c.Timers) {
		d.changes = nil
		d.refuse(refusal.TooManyTimers)
		return
	}
	next := &record.Behaviour{
		Step:         r.Id,
		Steps:        old.GetSteps() + 1,
		Cursor:       max(old.GetCursor(), min(c.Cursor, d.head)),
		SealedMemory: c.SealedMemory,
		Failed:       old.GetFailed(),
	}
	if c.Failed {
		next.Failed++
	}
	d.changePart(behaviourPart, "", next)
	for _, send := range c.Sends {
		if send.Chat != nil {
			d.follow(send.To, &record.Record{Kind: &record.Record_ChatStep{ChatStep: send.Chat}})
			continue
		}
		d.follow(send.To, &record.Record{Kind: &record.Record_StepMessage{StepMessage: send.Message}})
	}
}

// setTimers sets the timers of a step and reports whether there is room for
// them. Of one that it names twice the last counts: a store that is given a part
// twice at one position need not know which is the newer.
func (d *decision) setTimers(step []byte, timers []*record.Timer) bool {
	last := make(map[string]*record.Timer, len(timers))
	for _, timer := range timers {
		last[timer.Name] = timer
	}
	count := len(d.parts.timers)
	for _, name := range sortedKeys(last) {
		timer, before := last[name], d.parts.timers[name] != nil
		set := timer.DueTime > 0
		switch {
		case set && !before:
			count++
		case !set && before:
			count--
		}
		if !set {
			d.changePart(timerPart, name, nil)
			continue
		}
		d.changePart(timerPart, name, &record.Timer{
			Name: name, DueTime: timer.DueTime, Hops: timer.Hops, SealedPayload: timer.SealedPayload, Step: step,
		})
	}
	return count <= MaxTimers
}

// stepMessage takes a behaviour's message in, once from each of its steps. The
// behaviour does not learn whether it was welcome.
func (d *decision) stepMessage(c *record.StepMessage, from string) {
	if d.parts.contact(from).GetBlocked() || !d.mayWrite(from) {
		return
	}
	d.deliver(from, &delivery{message: record.Message{
		MessageId:  c.MessageId,
		From:       from,
		To:         d.user,
		Time:       d.time,
		SealedBody: c.SealedBody,
		Hops:       c.Hops,
	}})
}

// chatStep has a behaviour do in a chat what a user does by commands. What it may
// not do comes to nothing, of which it does not learn.
func (d *decision) chatStep(c *record.ChatStep, from string) {
	switch act := c.Act.(type) {
	case *record.ChatStep_Join:
		d.changeChat(&record.ChangeChat{Actor: from, Change: &record.ChangeChat_Accept{Accept: true}})
	case *record.ChatStep_Leave:
		d.changeChat(&record.ChangeChat{Actor: from, Change: &record.ChangeChat_Leave{Leave: true}})
	case *record.ChatStep_Message:
		m := act.Message
		d.writeToChat("", &record.Message{
			MessageId: m.MessageId, From: from, To: d.user, Time: d.time, SealedBody: m.SealedBody, Hops: m.Hops,
		})
	}
}

// call hands a behaviour what was asked from outside.
func (d *decision) call(r *record.Record) {
	d.operate(&record.Operation{Kind: &record.Operation_Called{Called: &record.Called{
		Id: r.Id, SealedBody: r.GetCall().GetSealedBody(),
	}}})
}

// Behaviour returns up to where the behaviour came whose account it is, and its
// timers in any order; nil when there was no step. They are shared.
func (s *State) Behaviour() (*record.Behaviour, []*record.Timer) {
	timers := make([]*record.Timer, 0, len(s.parts.timers))
	for _, timer := range s.parts.timers {
		timers = append(timers, timer)
	}
	return s.parts.behaviour, timers
}
