package mailbox

import (
	"iter"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// Reads returns the first revision of a chat that a user may read; ok is false
// for one who is no member.
func (s *State) Reads(user string) (first int64, ok bool) {
	member := s.parts.members[user]
	return member.GetFirstRevision(), member.GetRole() >= record.ChatRole_CHAT_ROLE_MEMBER
}

// isLarge reports whether a conversation is with a large chat.
func (p *parts) isLarge(peer string) bool { return p.chats[peer].GetChat().GetLarge() }

// queryChats answers which chats the owner is in.
func (s *State) queryChats(q *record.ChatsQuery) (*record.Known, *refusal.Refusal) {
	page, more := first(int(q.Limit), byName, behind(s.parts.chats, q.After))
	known := &record.Known{HasMore: more}
	for _, c := range page {
		known.Chats = append(known.Chats, &record.ChatOf{Chat: c.name, Membership: c.value})
	}
	return known, nil
}

// behind goes through the parts with names behind one.
func behind[V any](parts map[string]V, after string) iter.Seq[named[V]] {
	return func(yield func(named[V]) bool) {
		for name, value := range parts {
			if name > after && !yield(named[V]{name, value}) {
				return
			}
		}
	}
}

// queryChat answers what the chat is to a user who is in it or invited.
func (s *State) queryChat(user string) (*record.Known, *refusal.Refusal) {
	member := s.parts.members[user]
	if member == nil {
		return nil, refusal.Of(refusal.UnknownChat)
	}
	return &record.Known{Chats: []*record.ChatOf{{
		Chat: s.user, Membership: &record.ChatMembership{Member: member, Chat: shownChat(s.parts.chat), ChatRevision: s.head},
	}}}, nil
}

// queryMembers answers who is in the chat.
func (s *State) queryMembers(q *record.MembersQuery) (*record.Known, *refusal.Refusal) {
	if _, ok := s.Reads(q.Reader); !ok {
		return nil, refusal.Of(refusal.UnknownChat)
	}
	page, more := first(int(q.Limit), byName, behind(s.parts.members, q.After))
	known := &record.Known{HasMore: more}
	for _, m := range page {
		known.Members = append(known.Members, &record.MemberOf{User: m.name, Member: m.value})
	}
	return known, nil
}
