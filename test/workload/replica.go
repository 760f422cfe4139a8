package workload

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// replica is what a device makes of a snapshot and of operations, as docs/api.md
// tells clients to.
type replica struct {
	contacts       map[string]*tegamiv1.Contact
	conversations  map[string]*conversation
	settings       *tegamiv1.Settings
	deviceSettings map[string]*tegamiv1.DeviceSettings
	profile        *tegamiv1.Profile
	messages       map[string]*amended // those that were changed, as far as was heard
	// chats are those that the user is in or invited to, inChats the conversations
	// with those that the user is a member of, copies all that came of each.
	chats   map[string]*tegamiv1.Chat
	inChats map[string]*conversation
	copies  map[string][]*tegamiv1.Operation
	// partial: it began with a snapshot.
	partial bool
}

// conversation is what a device knows of the messages with one other user.
type conversation struct {
	*tegamiv1.Conversation
	last          *tegamiv1.Message
	lastAmendment *tegamiv1.MessageAmendment
	received      []int64 // the revisions of the peer's messages
}

// amended is what became of a message.
type amended struct {
	peer      string
	unsent    bool
	text      string            // of the newest edit
	reactions map[string]string // by user
}

func newReplica() *replica {
	return &replica{
		contacts: map[string]*tegamiv1.Contact{}, conversations: map[string]*conversation{},
		deviceSettings: map[string]*tegamiv1.DeviceSettings{}, messages: map[string]*amended{},
		chats: map[string]*tegamiv1.Chat{}, inChats: map[string]*conversation{}, copies: map[string][]*tegamiv1.Operation{},
	}
}

// apply applies an operation to the item that it is about, if that is older.
func (r *replica) apply(op *tegamiv1.Operation) {
	if op.ChatId != "" {
		r.applyOfChat(op)
		return
	}
	switch kind := op.Kind.(type) {
	case *tegamiv1.Operation_ReceiveMessage:
		r.message(op.Revision, kind.ReceiveMessage.From, kind.ReceiveMessage)
	case *tegamiv1.Operation_SendMessage:
		r.message(op.Revision, kind.SendMessage.To, kind.SendMessage)
	case *tegamiv1.Operation_ContactUpdated:
		if c := kind.ContactUpdated; r.contacts[c.UserId].GetRevision() < op.Revision {
			r.contacts[c.UserId] = c
		}
	case *tegamiv1.Operation_SettingsUpdated:
		r.takeSettings(kind.SettingsUpdated)
	case *tegamiv1.Operation_ProfileUpdated:
		r.profile = kind.ProfileUpdated
	case *tegamiv1.Operation_ConversationUpdated:
		if c := r.inChats[kind.ConversationUpdated.Peer]; c != nil {
			c.update(kind.ConversationUpdated)
		} else if c := r.conversation(kind.ConversationUpdated.Peer, op.Revision); c != nil {
			c.Conversation = proto.CloneOf(kind.ConversationUpdated)
		}
	case *tegamiv1.Operation_MessageRead:
		if c := r.conversation(kind.MessageRead.Peer, op.Revision); c != nil {
			c.PeerReadMessageId, c.PeerReadTime = kind.MessageRead.MessageId, kind.MessageRead.CreateTime
		}
	case *tegamiv1.Operation_MessageAmended:
		r.amend(kind.MessageAmended)
	}
}

// conversation returns the conversation that an operation changes; nil if it has
// the change.
func (r *replica) conversation(peer string, revision int64) *conversation {
	c := r.conversations[peer]
	if c == nil {
		c = &conversation{Conversation: &tegamiv1.Conversation{Peer: peer}}
		r.conversations[peer] = c
	}
	if c.Revision >= revision {
		return nil
	}
	c.Revision = revision
	return c
}

func (r *replica) message(revision int64, peer string, m *tegamiv1.Message) {
	c := r.conversation(peer, revision)
	if c == nil {
		return
	}
	c.LastRevision, c.last, c.lastAmendment = revision, m, nil
	if m.From == peer && m.To != peer {
		c.Unread++
		c.received = append(c.received, revision)
	}
}

func (r *replica) amend(a *tegamiv1.MessageAmendment) {
	m := r.messages[a.MessageId]
	if m == nil {
		m = newAmended(a.Peer)
		r.messages[a.MessageId] = m
	}
	m.take(a)
	if c := r.conversation(a.Peer, a.Revision); c != nil {
		c.amend(a)
	}
}

func newAmended(peer string) *amended { return &amended{peer: peer, reactions: map[string]string{}} }

func (m *amended) take(a *tegamiv1.MessageAmendment) {
	switch change := a.Change.(type) {
	case *tegamiv1.MessageAmendment_Reaction:
		if m.reactions[a.By] = change.Reaction; change.Reaction == "" {
			delete(m.reactions, a.By)
		}
	case *tegamiv1.MessageAmendment_Unsent:
		m.unsent = true
	case *tegamiv1.MessageAmendment_Text:
		m.text = change.Text
	}
}

// amend takes a change of a message of the conversation, which a list tells of its
// newest.
func (c *conversation) amend(a *tegamiv1.MessageAmendment) {
	_, reacts := a.Change.(*tegamiv1.MessageAmendment_Reaction)
	if !reacts && c.last.GetMessageId() == a.MessageId && !c.lastAmendment.GetUnsent() {
		c.lastAmendment = a
	}
}

func (r *replica) takeSettings(update *tegamiv1.SettingsUpdate) {
	switch scope := update.Scope.(type) {
	case *tegamiv1.SettingsUpdate_Settings:
		r.settings = scope.Settings
	case *tegamiv1.SettingsUpdate_DeviceSettings:
		r.deviceSettings[update.DeviceId] = scope.DeviceSettings
	}
}

// take takes an item of a snapshot.
func (r *replica) take(item *tegamiv1.SyncResponse_Item) {
	r.partial = true
	switch kind := item.Item.(type) {
	case *tegamiv1.SyncResponse_Item_Settings:
		r.takeSettings(kind.Settings)
	case *tegamiv1.SyncResponse_Item_Profile:
		r.profile = kind.Profile
	case *tegamiv1.SyncResponse_Item_Contact:
		r.contacts[kind.Contact.UserId] = kind.Contact
	case *tegamiv1.SyncResponse_Item_Conversation:
		c := kind.Conversation
		taken := &conversation{Conversation: proto.CloneOf(c.Conversation), last: c.LastMessage, lastAmendment: c.LastAmendment}
		if peer := c.Conversation.Peer; isChat(peer) {
			r.inChats[peer] = taken
		} else {
			r.conversations[peer] = taken
		}
	case *tegamiv1.SyncResponse_Item_Chat:
		r.chats[kind.Chat.ChatId] = kind.Chat
	}
}

// same reports whether two users have the same of a message.
func (m *amended) same(other *amended) bool {
	return other != nil && m.unsent == other.unsent && m.text == other.text && maps.Equal(m.reactions, other.reactions)
}

// recount counts the peer's messages above the mark.
func (c *conversation) recount() (n int64) {
	for _, revision := range c.received {
		if revision > c.ReadRevision {
			n++
		}
	}
	return n
}

// item is the conversation as the server is to list it.
func (c *conversation) item() *tegamiv1.ListConversationsResponse_Item {
	return &tegamiv1.ListConversationsResponse_Item{Conversation: c.Conversation, LastMessage: c.last, LastAmendment: c.lastAmendment}
}

// differs returns what is otherwise in a snapshot, empty for nothing. Settings
// and a profile that were never changed are told by the snapshot alone.
// Of chats it takes what they came to, which operations alone do not say.
func (r *replica) differs(snapshot []*tegamiv1.SyncResponse_Item, user, device string, chats map[string]*verdict) string {
	listed := 0
	for _, item := range snapshot {
		var got, want proto.Message
		switch kind := item.Item.(type) {
		case *tegamiv1.SyncResponse_Item_Contact:
			listed++
			got, want = kind.Contact, r.contacts[kind.Contact.UserId]
		case *tegamiv1.SyncResponse_Item_Conversation:
			listed++
			got = kind.Conversation
			peer := kind.Conversation.GetConversation().GetPeer()
			if r.inChats[peer] != nil {
				got, want = r.itemsOfChat(kind.Conversation, user, chats[peer].chatState)
			}
			if c := r.conversations[peer]; c != nil {
				want = c.item()
				if !r.partial && c.recount() != c.Unread {
					return fmt.Sprintf("%d messages are unread, a recount says %d: %v", c.Unread, c.recount(), c)
				}
			}
		case *tegamiv1.SyncResponse_Item_Chat:
			listed++
			got, want = kind.Chat, r.chats[kind.Chat.ChatId]
		case *tegamiv1.SyncResponse_Item_Settings:
			if kind.Settings.DeviceId == "" && r.settings != nil {
				got, want = kind.Settings.GetSettings(), r.settings
			} else if made := r.deviceSettings[device]; kind.Settings.DeviceId != "" && made != nil {
				got, want = kind.Settings.GetDeviceSettings(), made
			}
		case *tegamiv1.SyncResponse_Item_Profile:
			if r.profile != nil {
				got, want = kind.Profile, r.profile
			}
		}
		if got != nil && (want == nil || !proto.Equal(got, want)) {
			return fmt.Sprintf("the snapshot has %v, the operations make %v", got, want)
		}
	}
	live := len(r.conversations) + len(r.inChats) + len(r.chats)
	for _, c := range r.contacts {
		if isLive(c) {
			live++
		}
	}
	if listed != live {
		return fmt.Sprintf("the snapshot has %d contacts, conversations and chats, the operations make %d", listed, live)
	}
	return ""
}

func isLive(c *tegamiv1.Contact) bool {
	return c.GetRelation() != tegamiv1.Contact_NONE || c.GetBlocked() || c.GetFavorite() || c.GetAlias() != ""
}
