package behaviour

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/talk"
)

// Event is what a behaviour is asked about: *Message, *Timer or *Call. A handler
// ignores those that it does not know: there may be more.
type Event interface {
	// hopsSoFar is how many behaviours led to it, one by the other.
	hopsSoFar() int32
}

// Message is a message that the behaviour received.
type Message struct {
	// ID is a UUIDv7, 16 bytes.
	ID   string
	From string
	Body talk.Body
	// Time is the log time of the message.
	Time time.Time
	// Revision is the operation's in the behaviour's mailbox.
	Revision int64

	hops int32
}

// Text returns the message's text; empty when it has other content.
func (m *Message) Text() string { return m.Body.Text }

// Timer is a timer that is due. It is no longer set.
type Timer struct {
	Name string
	// Due is when it was to come; it may come later, never before.
	Due time.Time
	// Payload is what it was set with; nil for nothing.
	Payload proto.Message

	hops int32
}

// Call is what was asked from outside, by HTTP. It comes once for each id that
// the asker gave.
type Call struct {
	// Body is what was posted, at most 64 KiB.
	Body     []byte
	Time     time.Time
	Revision int64
}

func (m *Message) hopsSoFar() int32 { return m.hops }
func (t *Timer) hopsSoFar() int32   { return t.hops }
func (*Call) hopsSoFar() int32      { return 0 }
