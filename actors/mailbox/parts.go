package mailbox

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// parts are the parts of a mailbox's state. What they lead to is replaced when
// it changes, and never changed.
type parts struct {
	contacts    map[string]*record.Contact // by user
	live        int                        // contacts that were not removed
	invitations map[string]*record.Invitation
	settings    *record.Settings                  // nil before any was made
	devices     map[string]*record.DeviceSettings // by device
	profile     *record.Profile                   // nil before it was changed

	conversations map[string]*record.Conversation   // by peer
	chats         map[string]*record.ChatMembership // by chat

	// Of a chat.
	chat    *record.Chat
	members map[string]*record.ChatMember // by user, those invited included

	behaviour *record.Behaviour // nil before its first step
	timers    map[string]*record.Timer
}

// partKind is the first byte of a part's key; what follows tells it from others
// of its kind.
type partKind byte

const (
	contactPart    partKind = 'c' // user
	invitationPart partKind = 'i' // hash of the code's secret
	settingsPart   partKind = 's' // device; empty for the user's own
	profilePart    partKind = 'p' // empty

	conversationPart partKind = 'v' // peer
	membershipPart   partKind = 'g' // chat

	chatPart   partKind = 'h' // empty
	memberPart partKind = 'm' // user

	behaviourPart partKind = 'b' // empty
	timerPart     partKind = 't' // name
)

// change is a part as a decision leaves it; a nil value removes it.
type change struct {
	kind  partKind
	name  string
	value proto.Message
	data  []byte
}

func (p *parts) contact(user string) *record.Contact { return p.contacts[user] }

func (p *parts) liveContacts() int { return p.live }

// set makes a part what a change says.
func (p *parts) set(c *change) {
	switch c.kind {
	case contactPart:
		if isLive(p.contacts[c.name]) {
			p.live--
		}
		contact, _ := c.value.(*record.Contact)
		if isLive(contact) {
			p.live++
		}
		put(&p.contacts, c.name, contact)
	case invitationPart:
		invitation, _ := c.value.(*record.Invitation)
		put(&p.invitations, c.name, invitation)
	case settingsPart:
		if c.name == "" {
			p.settings, _ = c.value.(*record.Settings)
			return
		}
		settings, _ := c.value.(*record.DeviceSettings)
		put(&p.devices, c.name, settings)
	case profilePart:
		p.profile, _ = c.value.(*record.Profile)
	case conversationPart:
		conversation, _ := c.value.(*record.Conversation)
		put(&p.conversations, c.name, conversation)
	case behaviourPart:
		p.behaviour, _ = c.value.(*record.Behaviour)
	case timerPart:
		timer, _ := c.value.(*record.Timer)
		put(&p.timers, c.name, timer)
	case membershipPart:
		membership, _ := c.value.(*record.ChatMembership)
		put(&p.chats, c.name, membership)
	case chatPart:
		p.chat, _ = c.value.(*record.Chat)
	case memberPart:
		member, _ := c.value.(*record.ChatMember)
		put(&p.members, c.name, member)
	}
}

// put puts a value into a map, made when it is needed; nil removes.
func put[V any](m *map[string]*V, name string, value *V) {
	switch {
	case value == nil:
		delete(*m, name)
	case *m == nil:
		*m = map[string]*V{name: value}
	default:
		(*m)[name] = value
	}
}

// load takes in a part as it was stored.
func (p *parts) load(stored persistence.Part) error {
	if stored.Key == "" {
		return fmt.Errorf("part without a key")
	}
	c := change{kind: partKind(stored.Key[0]), name: stored.Key[1:]}
	switch c.kind {
	case contactPart:
		c.value = new(record.Contact)
	case invitationPart:
		c.value = new(record.Invitation)
	case settingsPart:
		c.value = new(record.DeviceSettings)
		if c.name == "" {
			c.value = new(record.Settings)
		}
	case profilePart:
		c.value = new(record.Profile)
	case conversationPart:
		c.value = new(record.Conversation)
	case behaviourPart:
		c.value = new(record.Behaviour)
	case timerPart:
		c.value = new(record.Timer)
	case membershipPart:
		c.value = new(record.ChatMembership)
	case chatPart:
		c.value = new(record.Chat)
	case memberPart:
		c.value = new(record.ChatMember)
	default:
		return fmt.Errorf("part of kind %q, which this version does not know", stored.Key[0])
	}
	if err := proto.Unmarshal(stored.Data, c.value); err != nil {
		return fmt.Errorf("part %q: %w", stored.Key, err)
	}
	p.set(&c)
	return nil
}

// CheckPart returns what is wrong with a part as it was stored.
func CheckPart(stored persistence.Part) error { return new(parts).load(stored) }

// changePart has a part changed when the decision is carried out.
func (d *decision) changePart(kind partKind, name string, value proto.Message) {
	if d.changes == nil {
		d.changes = d.few[:0]
	}
	d.changes = append(d.changes, change{kind: kind, name: name, value: value})
}

// encodeParts encodes what the decision changed. To a store, a part without
// content is one that was removed: it is here, too.
func (d *decision) encodeParts() {
	for i := range d.changes {
		if c := &d.changes[i]; c.value != nil {
			if c.data = encode(c.value); len(c.data) == 0 {
				c.value = nil
			}
		}
	}
}

// setParts carries the changes out and returns them for the store.
func (s *State) setParts(changes []change) []persistence.Part {
	if len(changes) == 0 {
		return nil
	}
	written := make([]persistence.Part, len(changes))
	for i := range changes {
		c := &changes[i]
		s.parts.set(c)
		written[i] = persistence.Part{Key: string(rune(c.kind)) + c.name, Position: s.position, Data: c.data}
	}
	return written
}
