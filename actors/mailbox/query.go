package mailbox

import (
	"cmp"
	"slices"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// Query answers what the mailbox knows. What the answer leads to is shared.
func (s *State) Query(q *record.Query) (*record.Known, *refusal.Refusal) {
	switch about := q.GetAbout().(type) {
	case *record.Query_Contact:
		return &record.Known{Contacts: []*record.ContactUpdate{{UserId: about.Contact, Contact: s.Contact(about.Contact)}}}, nil
	case *record.Query_Contacts:
		return s.queryContacts(about.Contacts)
	case *record.Query_Counts:
		contacts, requests := s.ContactCounts()
		return &record.Known{ContactCount: int32(contacts), RequestCount: int32(requests)}, nil
	case *record.Query_SettingsOfDevice:
		settings, device := s.Settings(about.SettingsOfDevice)
		return &record.Known{Settings: settings, DeviceSettings: device}, nil
	case *record.Query_ProfileFor:
		if !s.Exists() {
			return nil, refusal.Of(refusal.UnknownRecipient)
		}
		return &record.Known{Profile: s.Profile(about.ProfileFor)}, nil
	case *record.Query_Conversation:
		c := s.Conversation(about.Conversation)
		if c == nil {
			return nil, refusal.Of(refusal.UnknownConversation)
		}
		return &record.Known{Conversations: []*record.ConversationUpdate{{Peer: about.Conversation, Conversation: c}}}, nil
	case *record.Query_Conversations:
		return s.queryConversations(about.Conversations)
	default:
		return new(record.Known), nil
	}
}

// QuerySince returns the version of Apply that has what a query asks for first.
func QuerySince(q *record.Query) uint32 {
	switch q.GetAbout().(type) {
	case *record.Query_Contact, *record.Query_Contacts, *record.Query_Counts:
		return 2
	case *record.Query_SettingsOfDevice, *record.Query_ProfileFor:
		return profileVersion
	case *record.Query_Conversation, *record.Query_Conversations:
		return conversationVersion
	default:
		return 1
	}
}

func (s *State) queryContacts(q *record.ContactsQuery) (*record.Known, *refusal.Refusal) {
	if q.Since > s.head {
		return nil, &refusal.Refusal{Reason: refusal.CursorAhead, ResumeRevision: s.head}
	}
	all, ok := s.Contacts(q.Since)
	if !ok {
		return nil, refusal.Of(refusal.CursorTooOld)
	}
	all = slices.DeleteFunc(all, func(c *record.ContactUpdate) bool { return c.UserId <= q.After || q.Blocked && !c.Contact.Blocked })
	slices.SortFunc(all, func(a, b *record.ContactUpdate) int { return cmp.Compare(a.UserId, b.UserId) })
	page, more := firstOf(all, int(q.Limit))
	return &record.Known{Contacts: page, HasMore: more}, nil
}

func (s *State) queryConversations(q *record.ConversationsQuery) (*record.Known, *refusal.Refusal) {
	if q.Since > s.head {
		return nil, &refusal.Refusal{Reason: refusal.CursorAhead, ResumeRevision: s.head}
	}
	behind := func(c *record.ConversationUpdate) bool {
		return q.Before > 0 && c.Conversation.LastRevision >= q.Before
	}
	order := func(a, b *record.ConversationUpdate) int {
		return cmp.Compare(b.Conversation.LastRevision, a.Conversation.LastRevision)
	}
	if q.ByPeer {
		behind = func(c *record.ConversationUpdate) bool { return c.Peer <= q.After }
		order = func(a, b *record.ConversationUpdate) int { return cmp.Compare(a.Peer, b.Peer) }
	}
	all := slices.DeleteFunc(s.Conversations(q.Since), behind)
	slices.SortFunc(all, order)
	page, more := firstOf(all, int(q.Limit))
	return &record.Known{Conversations: page, HasMore: more}, nil
}

// firstOf returns the first of some, and whether there are more.
func firstOf[T any](all []T, limit int) (page []T, more bool) {
	if len(all) <= max(limit, 0) {
		return all, false
	}
	return all[:max(limit, 0)], true
}
