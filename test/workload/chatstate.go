package workload

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// chatState is what a chat comes to by its operations, as docs/api.md tells it.
type chatState struct {
	id       string
	revision int64
	name     string
	history  tegamiv1.ChatHistory
	large    bool
	users    map[string]member
	// spans are the memberships of each user, the last one open while it lasts.
	spans map[string][]span
	// messages are those of the chat, amended what became of them.
	messages []*tegamiv1.Message
	amended  map[string]*amended
	// lastChange is, of each message, its newest edit or that it was unsent.
	lastChange changes
	// uncopied are the messages that came while the chat was large, lastCopied is as
	// lastChange, of the changes that did not.
	uncopied   map[string]bool
	lastCopied changes
}

// changes are changes of messages, by message.
type changes map[string]*tegamiv1.MessageAmendment

// note takes a change that is no reaction.
func (c changes) note(a *tegamiv1.MessageAmendment) {
	if !c[a.MessageId].GetUnsent() {
		c[a.MessageId] = a
	}
}

// member is what a user is in a chat.
type member struct {
	role          tegamiv1.ChatRole
	invitedBy     string
	joined, first int64
}

// span is a membership: from where the user may read, and up to which revision.
type span struct{ first, last int64 }

func newChatState(id string) *chatState {
	return &chatState{
		id: id, users: map[string]member{}, spans: map[string][]span{},
		amended: map[string]*amended{}, lastChange: changes{}, uncopied: map[string]bool{}, lastCopied: changes{},
	}
}

// role returns what a user is in the chat.
func (s *chatState) role(user string) tegamiv1.ChatRole {
	return max(s.users[user].role, tegamiv1.ChatRole_CHAT_NONE)
}

func (s *chatState) isMember(user string) bool { return s.role(user) >= tegamiv1.ChatRole_CHAT_MEMBER }

// sees reports whether a user was ever one who may read a revision.
func (s *chatState) sees(user string, revision int64) bool {
	return slices.ContainsFunc(s.spans[user], func(of span) bool {
		return of.first <= revision && (of.last == 0 || revision <= of.last)
	})
}

// apply takes the next operation of the chat, and returns to whose mailboxes it is
// to be copied. The error says what no chat may come to.
func (s *chatState) apply(op *tegamiv1.Operation) (copiedTo []string, err error) {
	if op.ChatId != s.id || op.Revision != s.revision+1 || op.ChatRevision != op.Revision {
		return nil, fmt.Errorf("revision %d is followed by %v", s.revision, op)
	}
	s.revision = op.Revision
	wasLarge := s.large
	concerned := map[string]bool{}
	switch kind := op.Kind.(type) {
	case *tegamiv1.Operation_ReceiveMessage:
		err = s.message(kind.ReceiveMessage)
	case *tegamiv1.Operation_MessageAmended:
		err = s.amend(kind.MessageAmended)
	case *tegamiv1.Operation_ChatChanged:
		err = s.change(kind.ChatChanged, concerned)
	default:
		err = fmt.Errorf("a chat has no %T", op.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("revision %d, %v: %w", s.revision, op, err)
	}
	for user := range s.users {
		if s.isMember(user) && (!wasLarge || !s.large) {
			concerned[user] = true
		}
	}
	for user := range concerned {
		copiedTo = append(copiedTo, user)
	}
	return copiedTo, nil
}

func (s *chatState) message(m *tegamiv1.Message) error {
	switch {
	case !s.isMember(m.From):
		return fmt.Errorf("%s is no member", m.From)
	case m.To != s.id || m.ChatRevision != s.revision || m.ChatMessages != int64(len(s.messages))+1:
		return fmt.Errorf("%d messages are before it", len(s.messages))
	}
	s.messages = append(s.messages, m)
	s.uncopied[m.MessageId] = s.large
	return nil
}

func (s *chatState) amend(a *tegamiv1.MessageAmendment) error {
	i := slices.IndexFunc(s.messages, func(m *tegamiv1.Message) bool { return m.MessageId == a.MessageId })
	_, reacts := a.Change.(*tegamiv1.MessageAmendment_Reaction)
	switch {
	case !s.isMember(a.By):
		return fmt.Errorf("%s is no member", a.By)
	case i < 0 || a.Peer != s.id:
		return fmt.Errorf("there is no such message")
	case !reacts && s.messages[i].From != a.By:
		return fmt.Errorf("the message is of %s", s.messages[i].From)
	}
	m := s.amended[a.MessageId]
	if m == nil {
		m = newAmended(s.id)
		s.amended[a.MessageId] = m
	}
	m.take(a)
	if !reacts {
		s.lastChange.note(a)
	}
	if !reacts && !s.large {
		s.lastCopied.note(a)
	}
	return nil
}

// change takes a change of the chat by one who may make it, and notes whom it
// concerns.
func (s *chatState) change(c *tegamiv1.ChatChange, concerned map[string]bool) error {
	by := s.role(c.By)
	for _, user := range c.Users {
		concerned[user] = true
		was := s.role(user)
		may := false
		switch c.Kind {
		case tegamiv1.ChatChange_CREATED, tegamiv1.ChatChange_INVITED:
			may = was == tegamiv1.ChatRole_CHAT_NONE || was == tegamiv1.ChatRole_CHAT_INVITED && s.users[user].invitedBy != c.By
			s.set(user, member{role: tegamiv1.ChatRole_CHAT_INVITED, invitedBy: c.By})
		case tegamiv1.ChatChange_JOINED:
			may = c.By == user && was <= tegamiv1.ChatRole_CHAT_INVITED
			s.join(user, tegamiv1.ChatRole_CHAT_MEMBER)
		case tegamiv1.ChatChange_DECLINED:
			may = c.By == user && was == tegamiv1.ChatRole_CHAT_INVITED
			s.set(user, member{})
		case tegamiv1.ChatChange_LEFT:
			may = c.By == user && was >= tegamiv1.ChatRole_CHAT_MEMBER
			s.set(user, member{})
		case tegamiv1.ChatChange_REMOVED:
			may = by >= tegamiv1.ChatRole_CHAT_ADMIN && was != tegamiv1.ChatRole_CHAT_NONE && was < by
			s.set(user, member{})
		case tegamiv1.ChatChange_ROLE_CHANGED:
			may = by == tegamiv1.ChatRole_CHAT_OWNER && was >= tegamiv1.ChatRole_CHAT_MEMBER && was != c.Role && c.By != user
			s.setRole(user, c.Role)
		case tegamiv1.ChatChange_KIND_UNSPECIFIED, tegamiv1.ChatChange_UPDATED: // of the chat, not of a user
		}
		if !may {
			return fmt.Errorf("%s was %v and %s %v", c.By, by, user, was)
		}
	}
	switch c.Kind {
	case tegamiv1.ChatChange_CREATED:
		s.name, s.history = c.Chat.GetName(), c.Chat.GetHistory()
		concerned[c.By] = true
		s.join(c.By, tegamiv1.ChatRole_CHAT_OWNER)
	case tegamiv1.ChatChange_LEFT:
		if successor := s.successor(by); successor != c.Successor {
			return fmt.Errorf("the next owner is to be %q", successor)
		} else if successor != "" {
			concerned[successor] = true
			s.setRole(successor, tegamiv1.ChatRole_CHAT_OWNER)
		}
	case tegamiv1.ChatChange_ROLE_CHANGED:
		if c.Role == tegamiv1.ChatRole_CHAT_OWNER {
			concerned[c.By] = true
			s.setRole(c.By, tegamiv1.ChatRole_CHAT_ADMIN)
		}
	case tegamiv1.ChatChange_UPDATED:
		if by < tegamiv1.ChatRole_CHAT_ADMIN || s.name == c.Chat.GetName() && s.history == c.Chat.GetHistory() {
			return fmt.Errorf("%s is %v, the name was %s, the history %v", c.By, by, s.name, s.history)
		}
		s.name, s.history = c.Chat.GetName(), c.Chat.GetHistory()
	case tegamiv1.ChatChange_KIND_UNSPECIFIED:
		return errors.New("nothing happens")
	case tegamiv1.ChatChange_INVITED, tegamiv1.ChatChange_JOINED, tegamiv1.ChatChange_DECLINED, tegamiv1.ChatChange_REMOVED: // that was all
	}
	s.large = c.Chat.GetLarge() // when it becomes so is a matter of the configuration
	if want := s.chatFor(""); !proto.Equal(c.Chat, want) {
		return fmt.Errorf("the chat is %v", want)
	}
	return nil
}

// set makes a user something else than a member.
func (s *chatState) set(user string, m member) {
	if s.isMember(user) {
		spans := s.spans[user]
		spans[len(spans)-1].last = s.revision
	}
	s.users[user] = m
}

func (s *chatState) setRole(user string, role tegamiv1.ChatRole) {
	m := s.users[user]
	m.role = role
	s.users[user] = m
}

func (s *chatState) join(user string, role tegamiv1.ChatRole) {
	m := member{role: role, joined: s.revision, first: s.revision}
	if s.history == tegamiv1.ChatHistory_WHOLE_HISTORY {
		m.first = 1
	}
	s.users[user] = m
	s.spans[user] = append(s.spans[user], span{first: m.first})
}

// successor returns who owns the chat when one of a role has left.
func (s *chatState) successor(left tegamiv1.ChatRole) string {
	if left != tegamiv1.ChatRole_CHAT_OWNER {
		return ""
	}
	first := ""
	for user, m := range s.users {
		if f := s.users[first]; s.isMember(user) && cmp.Or(cmp.Compare(f.role, m.role), cmp.Compare(m.joined, f.joined)) < 0 {
			first = user
		}
	}
	return first
}

// chatFor returns the chat as one of its users is to see it; as the chat's own
// sequence has it, for nobody.
func (s *chatState) chatFor(user string) *tegamiv1.Chat {
	chat := &tegamiv1.Chat{ChatId: s.id, Name: s.name, History: s.history, Large: s.large, ChatRevision: s.revision}
	for _, m := range s.users {
		switch {
		case m.role >= tegamiv1.ChatRole_CHAT_MEMBER:
			chat.MemberCount++
		case m.role == tegamiv1.ChatRole_CHAT_INVITED:
			chat.InvitedCount++
		}
	}
	if user != "" {
		m := s.users[user]
		chat.Role, chat.InvitedBy, chat.FirstRevision = s.role(user), m.invitedBy, m.first
	}
	return chat
}

// copyFor returns the newest operation as it is to be in a user's mailbox, but for
// the revision and the time there.
func (s *chatState) copyFor(user string, op *tegamiv1.Operation) *tegamiv1.Operation {
	copied := proto.CloneOf(op)
	switch kind := copied.Kind.(type) {
	case *tegamiv1.Operation_ReceiveMessage:
		if kind.ReceiveMessage.From == user {
			copied.Kind = &tegamiv1.Operation_SendMessage{SendMessage: kind.ReceiveMessage}
		}
	case *tegamiv1.Operation_ChatChanged:
		kind.ChatChanged.Chat = s.chatFor(user)
		if len(kind.ChatChanged.Users) > 1 && !s.isMember(user) && !s.leaves(user) { // such learn of nobody else
			kind.ChatChanged.Users = []string{user}
		}
	}
	return copied
}

// leaves reports whether the newest revision ended the membership of a user.
func (s *chatState) leaves(user string) bool {
	spans := s.spans[user]
	return len(spans) > 0 && spans[len(spans)-1].last == s.revision
}

// messagesUpTo returns how many messages the chat had at a revision.
func (s *chatState) messagesUpTo(revision int64) int64 {
	n, found := slices.BinarySearchFunc(s.messages, revision, func(m *tegamiv1.Message, revision int64) int {
		return cmp.Compare(m.ChatRevision, revision)
	})
	if found {
		n++
	}
	return int64(n)
}

// unreadFrom returns the revision of the first message above a mark.
func (s *chatState) unreadFrom(mark int64) int64 {
	if n := s.messagesUpTo(mark); n < int64(len(s.messages)) {
		return s.messages[n].ChatRevision
	}
	return math.MaxInt64
}
