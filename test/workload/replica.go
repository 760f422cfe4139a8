package workload

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// replica is what operations make of a mailbox, as docs/api.md tells clients to
// apply them.
type replica struct {
	contacts       map[string]*tegamiv1.Contact
	conversations  map[string]*conversation
	settings       *tegamiv1.Settings
	deviceSettings map[string]*tegamiv1.DeviceSettings
	profile        *tegamiv1.Profile
	messages       map[string]*amended // those that were changed
}

// conversation is what a device knows of the messages with one other user.
type conversation struct {
	received      []int64 // the revisions of the peer's messages
	last          *tegamiv1.Message
	lastAmendment *tegamiv1.MessageAmendment
	updated       *tegamiv1.Conversation
	peerRead      *tegamiv1.MessageRead
	revision      int64
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
	}
}

func (r *replica) conversation(peer string, revision int64) *conversation {
	c := r.conversations[peer]
	if c == nil {
		c = new(conversation)
		r.conversations[peer] = c
	}
	c.revision = revision
	return c
}

func (r *replica) apply(op *tegamiv1.Operation) {
	switch kind := op.Kind.(type) {
	case *tegamiv1.Operation_ReceiveMessage:
		c := r.conversation(kind.ReceiveMessage.From, op.Revision)
		c.last, c.lastAmendment = kind.ReceiveMessage, nil
		if kind.ReceiveMessage.From != kind.ReceiveMessage.To {
			c.received = append(c.received, op.Revision)
		}
	case *tegamiv1.Operation_SendMessage:
		c := r.conversation(kind.SendMessage.To, op.Revision)
		c.last, c.lastAmendment = kind.SendMessage, nil
	case *tegamiv1.Operation_ContactUpdated:
		r.contacts[kind.ContactUpdated.UserId] = kind.ContactUpdated
	case *tegamiv1.Operation_SettingsUpdated:
		switch scope := kind.SettingsUpdated.Scope.(type) {
		case *tegamiv1.SettingsUpdate_Settings:
			r.settings = scope.Settings
		case *tegamiv1.SettingsUpdate_DeviceSettings:
			r.deviceSettings[kind.SettingsUpdated.DeviceId] = scope.DeviceSettings
		}
	case *tegamiv1.Operation_ProfileUpdated:
		r.profile = kind.ProfileUpdated
	case *tegamiv1.Operation_ConversationUpdated:
		r.conversation(kind.ConversationUpdated.Peer, op.Revision).updated = kind.ConversationUpdated
	case *tegamiv1.Operation_MessageRead:
		r.conversation(kind.MessageRead.Peer, op.Revision).peerRead = kind.MessageRead
	case *tegamiv1.Operation_MessageAmended:
		r.amend(kind.MessageAmended)
	}
}

func (r *replica) amend(a *tegamiv1.MessageAmendment) {
	c := r.conversation(a.Peer, a.Revision)
	m := r.messages[a.MessageId]
	if m == nil {
		m = &amended{peer: a.Peer, reactions: map[string]string{}}
		r.messages[a.MessageId] = m
	}
	switch change := a.Change.(type) {
	case *tegamiv1.MessageAmendment_Reaction:
		if m.reactions[a.By] = change.Reaction; change.Reaction == "" {
			delete(m.reactions, a.By)
		}
		return
	case *tegamiv1.MessageAmendment_Unsent:
		m.unsent = true
	case *tegamiv1.MessageAmendment_Text:
		m.text = change.Text
	}
	if c.last.GetMessageId() == a.MessageId && !c.lastAmendment.GetUnsent() {
		c.lastAmendment = a
	}
}

// same reports whether two users have the same of a message.
func (m *amended) same(other *amended) bool {
	return other != nil && m.unsent == other.unsent && m.text == other.text && maps.Equal(m.reactions, other.reactions)
}

// unread counts the peer's messages above the mark.
func (c *conversation) unread() (n int64) {
	for _, revision := range c.received {
		if revision > c.updated.GetReadRevision() {
			n++
		}
	}
	return n
}

// item is the conversation as the server is to list it.
func (c *conversation) item(peer string) *tegamiv1.ListConversationsResponse_Item {
	return &tegamiv1.ListConversationsResponse_Item{
		Conversation: &tegamiv1.Conversation{
			Peer: peer, Unread: c.unread(), ReadRevision: c.updated.GetReadRevision(), Pinned: c.updated.GetPinned(), Muted: c.updated.GetMuted(),
			LastRevision: c.last.GetRevision(), Revision: c.revision,
			PeerReadMessageId: c.peerRead.GetMessageId(), PeerReadTime: c.peerRead.GetCreateTime(),
		},
		LastMessage: c.last, LastAmendment: c.lastAmendment,
	}
}

// differs returns what is otherwise in a snapshot, empty for nothing. Settings
// and a profile that were never changed are told by the snapshot alone.
func (r *replica) differs(snapshot []*tegamiv1.SyncResponse_Item, device string) string {
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
			if c := r.conversations[peer]; c != nil {
				want = c.item(peer)
			}
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
	live := len(r.conversations)
	for _, c := range r.contacts {
		if isLive(c) {
			live++
		}
	}
	if listed != live {
		return fmt.Sprintf("the snapshot has %d contacts and conversations, the operations make %d", listed, live)
	}
	return ""
}

func isLive(c *tegamiv1.Contact) bool {
	return c.GetRelation() != tegamiv1.Contact_NONE || c.GetBlocked() || c.GetFavorite() || c.GetAlias() != ""
}
