package behaviour

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
)

// The limits of a behaviour. What goes beyond is a [LimitError], and the event
// is treated as one that the handler failed on.
const (
	// MaxState is how many bytes the encoded state may have.
	MaxState = 64 << 10
	// MaxEffects is how many messages, posts and changes of timers one event may
	// lead to, and MaxEffectBytes how many bytes of bodies and payloads.
	MaxEffects     = 64
	MaxEffectBytes = 128 << 10
	// MaxText bounds a text, in code points, MaxBody any body, and MaxPayload what
	// a timer carries.
	MaxText    = 10_000
	MaxBody    = 64 << 10
	MaxPayload = 4 << 10
	// MaxTimers is how many timers may be set, and MaxTimerName how long the name
	// of one may be, in bytes.
	MaxTimers    = mailbox.MaxTimers
	MaxTimerName = mailbox.MaxTimerName
	// MaxHops is how many behaviours in a row may answer one another.
	MaxHops = mailbox.MaxHops
)

// LimitError says that a behaviour asked for more than it may.
type LimitError struct {
	What  string
	Limit int
}

// Error says what there is too much of.
func (e *LimitError) Error() string { return fmt.Sprintf("%s: at most %d", e.What, e.Limit) }

// Context is how a handler has effects. They come about together with the new
// state when Handle returns nil, and else not at all. It is of use until then, in
// the goroutine that Handle was called in.
type Context struct {
	ctx  context.Context //nolint:containedctx // of one call of a handler
	self string
	now  time.Time
	hops int32
	rand *rand.Rand

	effects []*record.Effect
	timers  []*record.Timer // payloads in the clear
	size    int
	dropped int // messages that would have been a hop too far
	err     error
}

// Context ends when the handler takes too long. It is for handlers that ask
// other services.
func (c *Context) Context() context.Context { return c.ctx }

// Self returns the behaviour's user id.
func (c *Context) Self() string { return c.self }

// Now returns the time of the step.
func (c *Context) Now() time.Time { return c.now }

// Rand returns a source of randomness. Another attempt has other numbers.
func (c *Context) Rand() *rand.Rand { return c.rand }

// Send sends a text to a user or, as a member, to a chat. To a user that there is
// not, or that does not want to hear from the behaviour, and to a chat that it is
// not in, nothing is delivered. A message that would be a hop too far is not sent.
func (c *Context) Send(to, text string) { c.SendBody(to, talk.Body{Text: text}) }

// SendBody is Send with any body.
func (c *Context) SendBody(to string, body talk.Body) {
	if c.hops >= MaxHops {
		c.dropped++
		return
	}
	if to == c.self {
		c.fail(errors.New("a message to oneself"))
		return
	}
	if err := cmp.Or(checkName(to), checkBody(body)); err != nil {
		c.fail(err)
		return
	}
	c.add(&record.Effect{To: to, Body: body.Encode(), Hops: c.hops + 1})
}

// Join accepts an invitation to a chat. Where there is none, nothing happens.
func (c *Context) Join(chat string) { c.inChat(&record.Effect{To: chat, Join: true}) }

// Leave leaves a chat, or declines the invitation to it.
func (c *Context) Leave(chat string) { c.inChat(&record.Effect{To: chat, Leave: true}) }

func (c *Context) inChat(e *record.Effect) {
	if !mailbox.IsChat(e.GetTo()) || !utf8.ValidString(e.GetTo()) {
		c.fail(fmt.Errorf("%q is no chat", e.GetTo()))
		return
	}
	c.add(e)
}

// Post posts a body to the URL that the configuration has for the behaviour, at
// least once, in order, for as long as the receiver is away. While much waits to
// be posted, the behaviour waits too. The body stays the caller's.
func (c *Context) Post(body []byte) { c.add(&record.Effect{Body: bytes.Clone(body)}) }

// add adds an effect under a new id.
func (c *Context) add(e *record.Effect) {
	id, err := uuid.NewV7()
	if err != nil {
		c.fail(err)
		return
	}
	if len(e.GetBody()) > MaxBody {
		c.fail(&LimitError{"bytes of a body", MaxBody})
		return
	}
	if e.Id = id[:]; c.count(len(e.GetBody())) {
		c.effects = append(c.effects, e)
	}
}

// SetTimer has the handler called with a [Timer] when it is due, though the
// server was away by then, and at once when that is over. A timer of the same
// name is replaced. payload may be nil.
func (c *Context) SetTimer(name string, due time.Time, payload proto.Message) {
	timer := &record.Timer{Name: name, DueTime: dueTime(due), Hops: c.hops}
	if payload != nil {
		packed, err := anypb.New(payload)
		if err != nil {
			c.fail(err)
			return
		}
		if timer.SealedPayload, err = proto.Marshal(packed); err != nil {
			c.fail(err)
			return
		}
		if len(timer.SealedPayload) > MaxPayload {
			c.fail(&LimitError{"bytes of a timer's payload", MaxPayload})
			return
		}
	}
	c.setTimer(timer)
}

// latest is the last moment that a timer is due at: one that is set for later
// does not come either.
var latest = time.UnixMilli(1<<48 - 1)

// dueTime returns the first millisecond since 1970, from 1 on, that is not before
// a time.
func dueTime(t time.Time) int64 {
	switch {
	case t.Before(time.UnixMilli(1)):
		return 1
	case t.After(latest):
		return latest.UnixMilli()
	default:
		return t.Add(time.Millisecond - 1).UnixMilli()
	}
}

// CancelTimer takes a timer away; one that is not set is no mistake.
func (c *Context) CancelTimer(name string) { c.setTimer(&record.Timer{Name: name}) }

func (c *Context) setTimer(timer *record.Timer) {
	if !utf8.ValidString(timer.Name) {
		c.fail(errors.New("a timer whose name is not UTF-8"))
		return
	}
	if timer.Name == "" || len(timer.Name) > MaxTimerName {
		c.fail(&LimitError{"bytes of a timer's name, and not none", MaxTimerName})
		return
	}
	if c.count(len(timer.SealedPayload)) {
		c.timers = append(c.timers, timer)
	}
}

// count counts an effect and reports whether there may be one more.
func (c *Context) count(bytes int) bool {
	c.size += bytes
	switch {
	case len(c.effects)+len(c.timers) >= MaxEffects:
		c.fail(&LimitError{"effects of an event", MaxEffects})
	case c.size > MaxEffectBytes:
		c.fail(&LimitError{"bytes of the effects of an event", MaxEffectBytes})
	}
	return c.err == nil
}

// fail has Handle fail, for the first reason that there is.
func (c *Context) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}
