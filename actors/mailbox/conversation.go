package mailbox

import (
	"bytes"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// MaxConversations is how many conversations a mailbox keeps account of. For
// one more, the one that was quiet the longest is forgotten, with its marks;
// its messages stay.
const MaxConversations = 10_000

// conversationVersion is the version of Apply since which conversations are
// kept account of.
const conversationVersion = 4

var markReadKind = kind{
	since:          conversationVersion,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		c := r.GetMarkRead()
		return c.GetPeer() == "" || c.GetRevision() < 0 || c.GetReceived() < 0 ||
			len(c.GetMessageId()) != 0 && len(c.GetMessageId()) != persistence.MessageIDSize
	},
	decide: func(d *decision, r *record.Record) { d.markRead(r.GetMarkRead()) },
}

var peerReadKind = kind{
	since:     conversationVersion,
	source:    recordSource,
	malformed: func(r *record.Record) bool { return len(r.GetPeerRead().GetMessageId()) != persistence.MessageIDSize },
	decide:    func(d *decision, r *record.Record) { d.peerRead(r.GetPeerRead(), r.GetSource().GetMailbox()) },
}

var editConversationKind = kind{
	since:          conversationVersion,
	command:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		return r.GetEditConversation().GetPeer() == "" || r.GetEditConversation().GetChange() == nil
	},
	decide: func(d *decision, r *record.Record) { d.editConversation(r.GetEditConversation()) },
}

// count enters a message, which is the newest operation, in the account of its
// conversation.
func (d *decision) count(peer string, m *record.Message) {
	if d.version < conversationVersion {
		return
	}
	old := d.parts.conversations[peer]
	if old == nil {
		d.makeRoomForConversation()
	}
	c := copyOfConversation(old)
	c.LastRevision, c.Revision = d.head, d.head
	if m.From != d.user {
		c.Received++
	}
	m.Received = c.Received
	if d.version >= amendedVersion {
		c.LastMessageId, c.LastAmended, c.LastUnsent = m.MessageId, 0, false
	}
	d.changePart(conversationPart, peer, c)
}

// makeRoomForConversation forgets, when there are too many, the conversation that
// changed the longest ago, pinned ones last.
func (d *decision) makeRoomForConversation() {
	if len(d.parts.conversations) < MaxConversations {
		return
	}
	oldest := ""
	for peer, c := range d.parts.conversations {
		o := d.parts.conversations[oldest]
		if o == nil || o.Pinned && !c.Pinned || o.Pinned == c.Pinned && c.Revision < o.Revision {
			oldest = peer
		}
	}
	d.changePart(conversationPart, oldest, nil)
}

// markRead moves the mark up, which the owner's devices learn, and the peer, if
// it now covers more of the peer's messages and the owner lets them know.
func (d *decision) markRead(c *record.MarkRead) {
	old := d.parts.conversations[c.Peer]
	if old == nil {
		d.refuse(refusal.UnknownConversation)
		return
	}
	marked := copyOfConversation(old)
	if IsChat(c.Peer) { // of which the mailbox may have heard less
		marked.Received = max(old.Received, c.Received)
		marked.Read = max(old.Read, c.Received)
		marked.ReadRevision = max(old.ReadRevision, c.Revision)
	} else {
		marked.Read = max(old.Read, min(c.Received, old.Received))
		marked.ReadRevision = max(old.ReadRevision, min(c.Revision, old.LastRevision))
	}
	if marked.Read == old.Read || !d.setConversation(c.Peer, marked, c.Device) {
		return
	}
	settings, told := d.parts.settings, len(c.MessageId) > 0 && c.Peer != d.user && !IsChat(c.Peer)
	if told && (settings == nil || settings.ReadReceipts == nil || *settings.ReadReceipts) && !d.parts.contact(c.Peer).GetBlocked() {
		d.follow(c.Peer, &record.Record{Kind: &record.Record_PeerRead{PeerRead: &record.PeerRead{
			MessageId: c.MessageId, MessageTime: c.MessageTime,
		}}})
	}
}

// setConversation makes a conversation what is given, with an operation.
func (d *decision) setConversation(peer string, c *record.Conversation, origin string) bool {
	shown := copyOfConversation(c)
	if !d.operate(&record.Operation{
		OriginDevice: origin,
		Kind: &record.Operation_ConversationUpdated{ConversationUpdated: &record.ConversationUpdate{
			Peer: peer, Conversation: shown, Large: d.parts.isLarge(peer),
		}},
	}) {
		return false
	}
	c.Revision, shown.Revision = d.head, d.head
	d.changePart(conversationPart, peer, c)
	return true
}

// peerRead takes in up to where a peer has read. It comes in the order in which
// the peer read.
func (d *decision) peerRead(c *record.PeerRead, peer string) {
	old := d.parts.conversations[peer]
	if old == nil || c.MessageTime < old.PeerReadTime || bytes.Equal(c.MessageId, old.PeerReadId) || d.parts.contact(peer).GetBlocked() {
		return
	}
	if !d.operate(&record.Operation{Kind: &record.Operation_MessageRead{MessageRead: &record.MessageRead{
		Peer: peer, MessageId: c.MessageId, Time: c.MessageTime,
	}}}) {
		return
	}
	read := copyOfConversation(old)
	read.PeerReadId, read.PeerReadTime, read.Revision = c.MessageId, c.MessageTime, d.head
	d.changePart(conversationPart, peer, read)
}

// editConversation changes what the owner alone decides.
func (d *decision) editConversation(c *record.EditConversation) {
	old := d.parts.conversations[c.Peer]
	if old == nil {
		d.refuse(refusal.UnknownConversation)
		return
	}
	edited := copyOfConversation(old)
	switch change := c.Change.(type) {
	case *record.EditConversation_Pinned:
		edited.Pinned = change.Pinned
	case *record.EditConversation_Muted:
		edited.Muted = change.Muted
	}
	if !proto.Equal(old, edited) {
		d.setConversation(c.Peer, edited, c.Device)
	}
}

func copyOfConversation(c *record.Conversation) *record.Conversation {
	return &record.Conversation{
		LastRevision: c.GetLastRevision(), Received: c.GetReceived(), Read: c.GetRead(), ReadRevision: c.GetReadRevision(),
		Pinned: c.GetPinned(), Muted: c.GetMuted(), Revision: c.GetRevision(),
		PeerReadId: c.GetPeerReadId(), PeerReadTime: c.GetPeerReadTime(),
		LastMessageId: c.GetLastMessageId(), LastAmended: c.GetLastAmended(), LastUnsent: c.GetLastUnsent(),
		ChatRevision: c.GetChatRevision(),
	}
}

// Conversation returns what is known of the conversation with a peer; nil when
// there is none. It is shared.
func (s *State) Conversation(peer string) *record.Conversation { return s.parts.conversations[peer] }
