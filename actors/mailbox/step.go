package mailbox

import (
	"bytes"

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

// behaviourVersion is the version of Apply since which there are behaviours.
const behaviourVersion = 7

// stepKind is no command: a step names the one before it, so that a second copy
// is known without a dedup entry, of which a busy behaviour would need many.
var stepKind = kind{
	since:          behaviourVersion,
	withoutAccount: refusal.UnknownRecipient,
	malformed:      malformedStep,
	decide:         func(d *decision, r *record.Record) { d.step(r) },
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
		if to == "" || to == r.GetMailbox() || recipients[to] || malformedStepMessage(send.GetMessage()) {
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
		d.follow(send.To, &record.Record{Kind: &record.Record_StepMessage{StepMessage: send.Message}})
	}
}

// setTimers sets the timers of a step and reports whether there is room for
// them.
func (d *decision) setTimers(step []byte, timers []*record.Timer) bool {
	after := make(map[string]bool, len(timers)) // whether they are set
	count := len(d.parts.timers)
	for _, timer := range timers {
		before, changed := after[timer.Name]
		if !changed {
			before = d.parts.timers[timer.Name] != nil
		}
		set := timer.DueTime > 0
		after[timer.Name] = set
		switch {
		case set && !before:
			count++
		case !set && before:
			count--
		}
		if !set {
			d.changePart(timerPart, timer.Name, nil)
			continue
		}
		d.changePart(timerPart, timer.Name, &record.Timer{
			Name: timer.Name, DueTime: timer.DueTime, Hops: timer.Hops, SealedPayload: timer.SealedPayload, Step: step,
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
