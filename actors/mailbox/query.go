package mailbox

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

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
		return &record.Known{Conversations: []*record.ConversationUpdate{{
			Peer: about.Conversation, Conversation: c, Large: s.parts.isLarge(about.Conversation),
		}}}, nil
	case *record.Query_Conversations:
		return s.queryConversations(about.Conversations)
	case *record.Query_Behaviour:
		behaviour, timers := s.Behaviour()
		return &record.Known{Behaviour: behaviour, Timers: timers}, nil
	case *record.Query_Chats:
		return s.queryChats(about.Chats)
	case *record.Query_ChatFor:
		return s.queryChat(about.ChatFor)
	case *record.Query_Members:
		return s.queryMembers(about.Members)
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
	case *record.Query_Behaviour:
		return behaviourVersion
	case *record.Query_Chats, *record.Query_ChatFor, *record.Query_Members:
		return ChatVersion
	default:
		return 1
	}
}

// knownBytes is where a page of contacts, with their profiles, ends, though never
// before its first.
const knownBytes = 1 << 20

func (s *State) queryContacts(q *record.ContactsQuery) (*record.Known, *refusal.Refusal) {
	switch {
	case q.Since > s.head:
		return nil, &refusal.Refusal{Reason: refusal.CursorAhead, ResumeRevision: s.head}
	case q.Since > 0 && q.Since < s.contactsSince:
		return nil, refusal.Of(refusal.CursorTooOld)
	}
	page, more := first(int(q.Limit), byName[*record.Contact], func(yield func(named[*record.Contact]) bool) {
		for user, c := range s.parts.contacts {
			c = visible(c)
			if user <= q.After || c.Revision <= q.Since || q.Since <= 0 && !isLive(c) || q.Blocked && !c.Blocked {
				continue
			}
			if !yield(named[*record.Contact]{user, c}) {
				return
			}
		}
	})
	known := &record.Known{HasMore: more}
	for size, i := 0, 0; i < len(page); i++ {
		c := &record.ContactUpdate{UserId: page[i].name, Contact: page[i].value}
		if size += proto.Size(c); i > 0 && size > knownBytes {
			known.HasMore = true
			break
		}
		known.Contacts = append(known.Contacts, c)
	}
	return known, nil
}

func (s *State) queryConversations(q *record.ConversationsQuery) (*record.Known, *refusal.Refusal) {
	if q.Since > s.head {
		return nil, &refusal.Refusal{Reason: refusal.CursorAhead, ResumeRevision: s.head}
	}
	type conversation = named[*record.Conversation]
	order := func(a, b conversation) int { return cmp.Compare(b.value.LastRevision, a.value.LastRevision) }
	if q.ByPeer {
		order = byName
	}
	page, more := first(int(q.Limit), order, func(yield func(conversation) bool) {
		for peer, c := range s.parts.conversations {
			if c.Revision <= q.Since || q.ByPeer && peer <= q.After || !q.ByPeer && q.Before > 0 && c.LastRevision >= q.Before {
				continue
			}
			if !yield(conversation{peer, c}) {
				return
			}
		}
	})
	known := &record.Known{HasMore: more}
	for _, c := range page {
		known.Conversations = append(known.Conversations, &record.ConversationUpdate{Peer: c.name, Conversation: c.value, Large: s.parts.isLarge(c.name)})
	}
	return known, nil
}

// named is a part with its name.
type named[V any] struct {
	name  string
	value V
}

func byName[V any](a, b named[V]) int { return strings.Compare(a.name, b.name) }

// first returns the first items of a sequence by an order, and whether there are
// more. It keeps no more than twice as many at a time: the actor is held up by
// one look at each item, not by sorting all.
func first[T any](limit int, order func(a, b T) int, items iter.Seq[T]) (page []T, more bool) {
	limit = max(limit, 0)
	cut := func() {
		slices.SortFunc(page, order)
		if len(page) > limit {
			page, more = page[:limit], true
		}
	}
	for item := range items {
		if more && (limit == 0 || order(item, page[limit-1]) > 0) {
			continue // behind those that are kept already
		}
		if page = append(page, item); len(page) > 2*limit {
			cut()
		}
	}
	cut()
	return page, more
}
