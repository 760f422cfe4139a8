package behaviour

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// commit appends a step: it sends what is to be sent, the first to each
// recipient, and leaves the rest to the next.
func (r *runner) commit(ctx context.Context, step *Step, began time.Time) (bool, error) {
	step.ID, step.After = newID(), r.progress.Step
	step.Sends, step.Memory = departing(step.Memory)
	err := r.Home.Commit(ctx, step)
	if refused, ok := errors.AsType[*refusal.Refusal](err); ok && refused.Reason == refusal.NotNext {
		r.count(Overtaken)
		r.progress = nil
		return true, nil
	}
	if err != nil {
		// It may have been taken, unless apply says that it was not.
		if refused, ok := errors.AsType[*refusal.Refusal](err); !ok || !refused.Reason.Durable() {
			r.progress = nil
		}
		return false, err
	}
	r.progress = r.progress.after(step)
	if r.Stepped != nil {
		r.Stepped(time.Since(began))
	}
	return true, nil
}

// departing returns what a step sends of the effects that its memory has, and the
// memory without it: a record has one follow-up for a mailbox.
func departing(memory *record.Memory) (sends []*record.Effect, rest *record.Memory) {
	rest = &record.Memory{Kind: memory.GetKind(), StateType: memory.GetStateType(), State: memory.GetState()}
	seen := map[string]bool{}
	size := 0
	for _, e := range memory.GetEffects() {
		first := isSend(e) && !seen[e.GetTo()]
		seen[e.GetTo()] = true
		if size += len(e.GetBody()); !first || len(sends) > 0 && size > stepBytes {
			rest.Effects = append(rest.Effects, e)
			continue
		}
		sends = append(sends, e)
	}
	return sends, rest
}

// after returns the progress when a step was taken.
func (p *Progress) after(step *Step) *Progress {
	next := &Progress{Step: step.ID, Cursor: max(p.Cursor, step.Cursor), Memory: step.Memory}
	changed := map[string]*record.Timer{}
	for _, timer := range step.Timers {
		changed[timer.GetName()] = timer
	}
	for _, timer := range p.Timers {
		if _, gone := changed[timer.GetName()]; !gone {
			next.Timers = append(next.Timers, timer)
		}
	}
	for _, timer := range changed {
		if timer.GetDueTime() > 0 {
			next.Timers = append(next.Timers, timer)
		}
	}
	return next
}

// deliver posts what is first to be posted, and takes it off the list.
func (r *runner) deliver(ctx context.Context, e *record.Effect) (bool, error) {
	err := errors.New("there is no URL for it")
	permanent, after := true, time.Duration(0)
	if r.Poster != nil {
		err = r.Poster.Post(ctx, hex.EncodeToString(e.GetId()), e.GetBody())
		permanent = false
		if err != nil && r.Judge != nil {
			permanent, after = r.Judge(err)
		}
	}
	now := time.Now()
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err == nil:
		r.count(Posted)
	case permanent:
		r.count(Refused)
		r.Logger.Warn("what a behaviour posts is refused", "behaviour", r.Kind.name, "error", err)
	default:
		r.count(Unposted)
		if passed, due := r.unposted.Due(now); due {
			r.Logger.Warn("what a behaviour posts is not taken; it is tried again", "behaviour", r.Kind.name, "others", passed, "error", err)
		}
		r.post.failed(string(e.GetId()), now, min(after, maxDelay))
		return true, nil
	}
	memory := proto.CloneOf(r.progress.Memory)
	memory.Effects = slices.DeleteFunc(memory.Effects, func(other *record.Effect) bool { return bytes.Equal(other.GetId(), e.GetId()) })
	r.post = retry{}
	return r.commit(ctx, &Step{Cursor: r.cursor, Memory: memory}, now)
}

func isSend(e *record.Effect) bool { return e.GetTo() != "" }

// waiting returns how many bytes wait to be posted, as they are remembered: of
// small bodies the ids are the most.
func waiting(effects []*record.Effect) (size int) {
	for _, e := range effects {
		size += proto.Size(e)
	}
	return size
}
