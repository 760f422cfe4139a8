package behaviour

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// Home is the mailbox of a behaviour, as its host needs it. Bodies, memory and
// payloads are in the clear. Errors are *refusal.Refusal where there is a reason.
type Home interface {
	// Load returns how far the behaviour came.
	Load(ctx context.Context) (*Progress, error)
	// Read returns operations behind a revision, in order. When there are none it
	// waits until there are, but not beyond a time, and returns none then.
	// Refused with CursorTooOld.
	Read(ctx context.Context, after int64, until time.Time) ([]Operation, error)
	// Commit appends a step and waits until it was applied and what it sends is
	// durable. Refused with NotNext when it was not computed behind the newest.
	Commit(ctx context.Context, step *Step) error
}

// Poster posts a body under an id to another service; hook.Client does.
type Poster interface {
	Post(ctx context.Context, id string, body []byte) error
}

// Progress is how far a behaviour came.
type Progress struct {
	// Step is the id of the newest step; empty before the first.
	Step   []byte
	Cursor int64
	// Memory is nil before the first step.
	Memory *record.Memory
	Timers []*record.Timer
}

// Operation is one of the behaviour's mailbox, and what its body says, of a
// message or of a call.
type Operation struct {
	*record.Operation
	Body talk.Body
	Call []byte
}

// Step is what a step came to.
type Step struct {
	ID, After []byte
	Cursor    int64
	Memory    *record.Memory
	// Sends has at most one effect for each user or chat.
	Sends  []*record.Effect
	Timers []*record.Timer
	Failed bool
}

// Sealer seals a body for a mailbox, under an id. Refused with UnknownRecipient
// when there is no such mailbox.
type Sealer func(mailbox string, id, body []byte) ([]byte, error)

// Record returns the step as apply takes it. What is for nobody is left out.
func (s *Step) Record(self string, seal Sealer) (*record.Step, error) {
	memory, err := proto.Marshal(s.Memory)
	if err != nil {
		return nil, err
	}
	step := &record.Step{After: s.After, Cursor: s.Cursor, Failed: s.Failed}
	if step.SealedMemory, err = seal(self, s.ID, memory); err != nil {
		return nil, err
	}
	for _, e := range s.Sends {
		send, err := stepSend(e, seal)
		if refused, ok := errors.AsType[*refusal.Refusal](err); ok && refused.Reason == refusal.UnknownRecipient {
			continue
		}
		if err != nil {
			return nil, err
		}
		step.Sends = append(step.Sends, send)
	}
	for _, timer := range s.Timers {
		sealed := &record.Timer{Name: timer.Name, DueTime: timer.DueTime, Hops: timer.Hops}
		if len(timer.SealedPayload) > 0 {
			if sealed.SealedPayload, err = seal(self, s.ID, timer.SealedPayload); err != nil {
				return nil, err
			}
		}
		step.Timers = append(step.Timers, sealed)
	}
	return step, nil
}

// stepSend returns an effect as a step has it. Sealing tells whether there is
// such a user or chat.
func stepSend(e *record.Effect, seal Sealer) (*record.StepSend, error) {
	sealed, err := seal(e.To, e.Id, e.Body)
	if err != nil {
		return nil, err
	}
	message := &record.StepMessage{MessageId: e.Id, SealedBody: sealed, Hops: e.Hops}
	send := &record.StepSend{To: e.To}
	switch {
	case e.Join:
		send.Chat = &record.ChatStep{Act: &record.ChatStep_Join{Join: true}}
	case e.Leave:
		send.Chat = &record.ChatStep{Act: &record.ChatStep_Leave{Leave: true}}
	case mailbox.IsChat(e.To):
		send.Chat = &record.ChatStep{Act: &record.ChatStep_Message{Message: message}}
	default:
		send.Message = message
	}
	return send, nil
}

// Open returns the progress that a mailbox knows of, with what open opens.
func Open(known *record.Known, open func(id, sealed []byte) ([]byte, error)) (*Progress, error) {
	stored := known.GetBehaviour()
	if stored == nil {
		return new(Progress), nil
	}
	p := &Progress{Step: stored.GetStep(), Cursor: stored.GetCursor(), Memory: new(record.Memory)}
	memory, err := open(stored.GetStep(), stored.GetSealedMemory())
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(memory, p.Memory); err != nil {
		return nil, err
	}
	for _, sealed := range known.GetTimers() {
		timer := &record.Timer{Name: sealed.GetName(), DueTime: sealed.GetDueTime(), Hops: sealed.GetHops()}
		if len(sealed.GetSealedPayload()) > 0 {
			if timer.SealedPayload, err = open(sealed.GetStep(), sealed.GetSealedPayload()); err != nil {
				return nil, err
			}
		}
		p.Timers = append(p.Timers, timer)
	}
	return p, nil
}
