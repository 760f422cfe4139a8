package behaviour

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
)

// Event is what a behaviour is asked about: *Message, *Timer, *Call or
// *Membership. A handler ignores those that it does not know: there may be more.
// It does not change them: the next attempt is given the same.
type Event interface {
	// hopsSoFar is how many behaviours led to it, one by the other.
	hopsSoFar() int32
}

// Message is a message that the behaviour received.
type Message struct {
	// ID is a UUIDv7, 16 bytes.
	ID   string
	From string
	// Chat is the chat that it was written to; empty when it was written to the
	// behaviour alone.
	Chat string
	Body talk.Body
	// Time is the log time of the message.
	Time time.Time
	// Revision is the operation's in the behaviour's mailbox.
	Revision int64

	hops int32
}

// Text returns the message's text; empty when it has other content.
func (m *Message) Text() string { return m.Body.Text }

// FromBehaviour reports whether a behaviour wrote it. One that speaks in chats
// mostly passes over what others of its sort say there.
func (m *Message) FromBehaviour() bool { return m.hops > 0 }

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

// Standing is what a behaviour is in a chat.
type Standing int

// The standings.
const (
	// Invited: [Context.Join] accepts, [Context.Leave] declines; without either it
	// stays invited.
	Invited Standing = iota + 1
	// Joined: it is a member, and is told of what is written from then on, though
	// not while the chat is large (more than 500 members).
	Joined
	// Alone: of the members it is the last, and nobody is invited. It leaves: a chat
	// without people is of no use, and a behaviour may be in so many.
	Alone
	// Gone: it left or was removed, or the invitation is void.
	Gone
)

// Membership is a change of what the behaviour is in a chat.
type Membership struct {
	Chat string
	// Name is the chat's, as of then.
	Name string
	// Is is what the behaviour is from then on, By who made it that.
	Is       Standing
	By       string
	Time     time.Time
	Revision int64
}

func (m *Message) hopsSoFar() int32 { return m.hops }
func (t *Timer) hopsSoFar() int32   { return t.hops }
func (*Call) hopsSoFar() int32      { return 0 }

func (*Membership) hopsSoFar() int32 { return 0 }

// membershipOf returns what a change of a chat makes of a behaviour; nil when
// that is what it was before.
func membershipOf(self string, o *record.Operation, at time.Time) Event {
	change := o.GetChatChanged()
	is := standingOf(self, change)
	if is == 0 {
		return nil
	}
	return &Membership{
		Chat: o.GetChat(), Name: change.GetChat().GetName(), Is: is, By: change.GetBy(), Time: at, Revision: o.GetRevision(),
	}
}

func standingOf(self string, change *record.ChatChange) Standing {
	about := slices.Contains(change.GetUsers(), self)
	switch change.GetKind() {
	case record.ChatChange_CREATED, record.ChatChange_INVITED:
		if about {
			return Invited
		}
	case record.ChatChange_JOINED:
		if about {
			return Joined
		}
	case record.ChatChange_DECLINED, record.ChatChange_LEFT, record.ChatChange_REMOVED:
		c := change.GetChat()
		switch member := change.GetMember().GetRole() >= record.ChatRole_CHAT_ROLE_MEMBER; {
		case about:
			return Gone
		case member && c.GetMembers() == 1 && c.GetInvited() == 0:
			return Alone
		}
	default: // a role, a name
	}
	return 0
}
