package behaviourtest

import (
	"context"
	"errors"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// host is the mailbox of the behaviour as one of its hosts has it. It implements
// behaviour.Home and behaviour.Poster. Nothing is sealed in a World.
type host struct {
	world  *World
	cancel context.CancelFunc
	done   chan struct{}
}

var errCrashed = errors.New("the host crashed")

func (h *host) stop() {
	h.cancel()
	<-h.done
}

// crash reports whether the host dies here. If so it hears and does nothing any
// more, and another goes on.
func (h *host) crash() bool {
	w := h.world
	w.mu.Lock()
	w.points++
	crashed := w.points == w.crashAt
	w.mu.Unlock()
	if crashed {
		h.cancel()
		w.start()
	}
	return crashed
}

// Load implements behaviour.Home.
func (h *host) Load(context.Context) (*behaviour.Progress, error) {
	w := h.world
	w.mu.Lock()
	defer w.mu.Unlock()
	stored, timers := w.boxes[Self].Behaviour()
	return behaviour.Open(&record.Known{Behaviour: stored, Timers: timers}, func(_, sealed []byte) ([]byte, error) { return sealed, nil })
}

// Read implements behaviour.Home.
func (h *host) Read(ctx context.Context, after int64, until time.Time) ([]behaviour.Operation, error) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		operations, grown, err := h.behind(after)
		if err != nil || len(operations) > 0 {
			return operations, err
		}
		select {
		case <-grown:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (h *host) behind(after int64) (operations []behaviour.Operation, grown chan struct{}, err error) {
	w := h.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if first := w.boxes[Self].First(); after < first-1 {
		return nil, nil, &refusal.Refusal{Reason: refusal.CursorTooOld, ResumeRevision: first - 1}
	}
	for _, o := range w.history[Self] {
		if o.GetRevision() <= after {
			continue
		}
		operation := behaviour.Operation{Operation: o, Call: o.GetCalled().GetSealedBody()}
		if m := o.GetReceiveMessage(); m != nil {
			operation.Body, _ = talk.DecodeBody(w.bodyOf(o, m))
		}
		operations = append(operations, operation)
	}
	return operations, w.grown, nil
}

// Commit implements behaviour.Home.
func (h *host) Commit(_ context.Context, step *behaviour.Step) error {
	if h.crash() { //nolint:contextcheck // the next host outlives this one
		return errCrashed
	}
	w := h.world
	sealed, err := step.Record(Self, func(to string, _, body []byte) ([]byte, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.boxes[to] == nil {
			return nil, refusal.Of(refusal.UnknownRecipient)
		}
		return body, nil
	})
	if err != nil {
		return err
	}
	answer := w.apply(&record.Record{
		Id: step.ID, Mailbox: Self, ApplyVersion: mailbox.ApplyVersion, Kind: &record.Record_Step{Step: sealed},
	})
	if h.crash() { //nolint:contextcheck // the next host outlives this one
		return errCrashed
	}
	if answer.Reason != refusal.None {
		return refusal.Of(answer.Reason)
	}
	return nil
}

// Post implements behaviour.Poster.
func (h *host) Post(_ context.Context, id string, body []byte) error {
	w := h.world
	w.mu.Lock()
	err := w.away
	if err == nil && !w.posts[id] {
		w.posts[id] = true
		w.posted = append(w.posted, string(body))
	}
	w.mu.Unlock()
	if err == nil && h.crash() { //nolint:contextcheck // the next host outlives this one
		return errCrashed
	}
	return err
}
