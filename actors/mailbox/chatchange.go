package mailbox

import (
	"cmp"
	"crypto/sha256"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

var changeChatKind = kind{
	since:          ChatVersion,
	chat:           true,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownChat,
	malformed: func(r *record.Record) bool {
		c := r.GetChangeChat()
		role := c.GetRole()
		return c.GetActor() == "" || c.GetChange() == nil || slices.Contains(c.GetInvite().GetUsers(), "") ||
			role != nil && (role.Role < record.ChatRole_CHAT_ROLE_MEMBER || role.Role > record.ChatRole_CHAT_ROLE_OWNER) ||
			len(c.GetLink()) != 0 && len(c.GetLink()) != sha256.Size
	},
	decide: func(d *decision, r *record.Record) { d.changeChat(r.GetChangeChat()) },
}

// happening is a change of a chat that is being decided.
type happening struct {
	d      *decision
	device string
	// change is what happens, chat what the chat comes to be.
	change *record.ChatChange
	chat   *record.Chat
	// members are those of whom it changes what they are; nil: nothing any more.
	members map[string]*record.ChatMember
}

func (d *decision) happening(by, device string) *happening {
	return &happening{
		d: d, device: device, change: &record.ChatChange{By: by}, chat: copyOfChat(d.parts.chat),
		members: map[string]*record.ChatMember{},
	}
}

// role returns what a user is in the chat.
func (h *happening) role(user string) record.ChatRole { return h.d.parts.members[user].GetRole() }

// changeChat decides a change, by the role of whoever asks for it.
func (d *decision) changeChat(c *record.ChangeChat) {
	h := d.happening(c.Actor, c.Device)
	if _, joins := c.Change.(*record.ChangeChat_Join); h.role(c.Actor) == record.ChatRole_CHAT_ROLE_NONE && !joins {
		if _, leaves := c.Change.(*record.ChangeChat_Leave); !leaves {
			d.refuse(refusal.UnknownChat)
		}
		return
	}
	if h.role(c.Actor) < least(c) {
		d.refuse(refusal.NotPermitted)
		return
	}
	reason := refusal.None
	switch change := c.Change.(type) {
	case *record.ChangeChat_Invite_:
		h.change.Kind = record.ChatChange_INVITED
		reason = h.invite(change.Invite.GetUsers())
	case *record.ChangeChat_Accept:
		reason = h.join(c.Actor)
	case *record.ChangeChat_Join:
		if !slices.Equal(h.chat.LinkHash, change.Join) || len(change.Join) == 0 {
			d.refuse(refusal.UnknownInvitation)
			return
		}
		reason = h.join(c.Actor)
	case *record.ChangeChat_Decline:
		if h.role(c.Actor) != record.ChatRole_CHAT_ROLE_INVITED {
			d.refuse(refusal.NotInvited)
			return
		}
		h.change.Kind = record.ChatChange_DECLINED
		h.drop(c.Actor)
	case *record.ChangeChat_Leave:
		h.leave(c.Actor)
	case *record.ChangeChat_Remove:
		reason = h.remove(change.Remove)
	case *record.ChangeChat_Role:
		reason = h.setRole(change.Role.GetUser(), change.Role.GetRole())
	case *record.ChangeChat_Name:
		h.update(change.Name != h.chat.Name)
		h.chat.Name = change.Name
	case *record.ChangeChat_WholeHistory:
		h.update(change.WholeHistory != h.chat.WholeHistory)
		h.chat.WholeHistory = change.WholeHistory
	case *record.ChangeChat_Link:
		h.chat.LinkHash = change.Link
		d.changePart(chatPart, "", h.chat) // of which nobody learns
		return
	}
	if reason != refusal.None {
		d.refuse(reason)
		return
	}
	h.carryOut()
}

// least returns the lowest role that may ask for a change.
func least(c *record.ChangeChat) record.ChatRole {
	switch c.Change.(type) {
	case *record.ChangeChat_Accept, *record.ChangeChat_Decline, *record.ChangeChat_Join, *record.ChangeChat_Leave:
		return record.ChatRole_CHAT_ROLE_NONE
	case *record.ChangeChat_Invite_:
		return record.ChatRole_CHAT_ROLE_MEMBER
	case *record.ChangeChat_Role:
		return record.ChatRole_CHAT_ROLE_OWNER
	default:
		return record.ChatRole_CHAT_ROLE_ADMIN
	}
}

// invite invites those who are not in the chat. Who is invited already may be
// invited by another: of the first they may see nothing.
func (h *happening) invite(users []string) refusal.Reason {
	for _, user := range users {
		was := h.d.parts.members[user]
		again := was.GetRole() == record.ChatRole_CHAT_ROLE_INVITED && was.InvitedBy != h.change.By && h.d.version >= heardVersion
		if was != nil && !again || h.members[user] != nil {
			continue
		}
		h.members[user] = &record.ChatMember{Role: record.ChatRole_CHAT_ROLE_INVITED, InvitedBy: h.change.By, Since: h.d.time}
		h.change.Users = append(h.change.Users, user)
		if !again {
			h.chat.Invited++
		}
	}
	if h.chat.Invited > MaxInvited || h.chat.Members+h.chat.Invited > MaxMembers {
		return refusal.ChatFull
	}
	if len(h.change.Users) == 0 {
		h.change.Kind = record.ChatChange_KIND_UNSPECIFIED
	}
	return refusal.None
}

// join makes a member of a user, who is invited or has the link.
func (h *happening) join(user string) refusal.Reason {
	switch h.role(user) {
	case record.ChatRole_CHAT_ROLE_NONE:
	case record.ChatRole_CHAT_ROLE_INVITED:
		h.chat.Invited--
	default:
		return refusal.None
	}
	h.chat.Members++
	if h.chat.Members+h.chat.Invited > MaxMembers {
		return refusal.ChatFull
	}
	h.change.Kind, h.change.Users = record.ChatChange_JOINED, []string{user}
	joined := h.d.head + 1
	member := &record.ChatMember{Role: record.ChatRole_CHAT_ROLE_MEMBER, Since: h.d.time, JoinedRevision: joined, FirstRevision: joined}
	if h.chat.WholeHistory {
		member.FirstRevision = 1
	}
	h.members[user] = member
	return refusal.None
}

// leave takes out whoever asks for it. Somebody owns the chat after the owner,
// and with the last member it ends.
func (h *happening) leave(user string) {
	role := h.role(user)
	h.change.Kind = record.ChatChange_LEFT
	if role == record.ChatRole_CHAT_ROLE_INVITED {
		h.change.Kind = record.ChatChange_DECLINED
	}
	h.drop(user)
	switch {
	case h.chat.Members == 0:
		h.chat.LinkHash = nil
		for _, invited := range sortedKeys(h.d.parts.members) {
			if invited != user {
				h.drop(invited)
			}
		}
	case role == record.ChatRole_CHAT_ROLE_OWNER:
		h.change.Successor = h.successor(user)
		h.members[h.change.Successor] = withRole(h.d.parts.members[h.change.Successor], record.ChatRole_CHAT_ROLE_OWNER)
	}
}

// successor returns the member with the highest role but for the owner, among
// them the one who has been there the longest.
func (h *happening) successor(owner string) string {
	members := h.d.parts.members
	names := slices.DeleteFunc(sortedKeys(members), func(user string) bool {
		return user == owner || members[user].Role < record.ChatRole_CHAT_ROLE_MEMBER
	})
	return slices.MinFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(members[b].Role, members[a].Role), cmp.Compare(members[a].JoinedRevision, members[b].JoinedRevision))
	})
}

func (h *happening) remove(user string) refusal.Reason {
	switch {
	case user == h.change.By:
		return refusal.Yourself
	case h.role(user) == record.ChatRole_CHAT_ROLE_NONE:
		return refusal.None
	case h.role(user) >= h.role(h.change.By):
		return refusal.NotPermitted
	}
	h.change.Kind = record.ChatChange_REMOVED
	h.drop(user)
	return refusal.None
}

// drop takes a user out of the chat.
func (h *happening) drop(user string) {
	if h.role(user) == record.ChatRole_CHAT_ROLE_INVITED {
		h.chat.Invited--
	} else {
		h.chat.Members--
	}
	h.change.Users = append(h.change.Users, user)
	h.members[user] = nil
}

func (h *happening) setRole(user string, role record.ChatRole) refusal.Reason {
	by := h.change.By
	switch {
	case user == by:
		return refusal.Yourself
	case h.role(user) < record.ChatRole_CHAT_ROLE_MEMBER:
		return refusal.UnknownMember
	case h.role(user) == role:
		return refusal.None
	}
	h.change.Kind, h.change.Users, h.change.Role = record.ChatChange_ROLE_CHANGED, []string{user}, role
	h.members[user] = withRole(h.d.parts.members[user], role)
	if role == record.ChatRole_CHAT_ROLE_OWNER {
		h.members[by] = withRole(h.d.parts.members[by], record.ChatRole_CHAT_ROLE_ADMIN)
	}
	return refusal.None
}

func (h *happening) update(changes bool) {
	if changes {
		h.change.Kind = record.ChatChange_UPDATED
	}
}

// carryOut makes it so, unless nothing changes. All members learn of it, those
// included who are none any more; of what happens in a chat that is large before
// and after, those alone whom it concerns.
func (h *happening) carryOut() {
	if h.change.Kind == record.ChatChange_KIND_UNSPECIFIED {
		return
	}
	d := h.d
	wasLarge := h.chat.Large
	h.chat.Large = h.chat.Members > h.chat.MaxCopied || wasLarge && h.chat.Members > h.chat.MaxCopied*4/5
	h.change.Chat = shownChat(h.chat)
	operation := &record.Operation{OriginDevice: h.device, Kind: &record.Operation_ChatChanged{ChatChanged: h.change}}
	if !d.operateInChat(operation) {
		return
	}
	d.changePart(chatPart, "", h.chat)
	concerned := sortedKeys(h.members)
	for _, user := range concerned {
		if member := h.members[user]; member != nil {
			d.changePart(memberPart, user, member)
		} else {
			d.changePart(memberPart, user, nil)
			h.members[user] = new(record.ChatMember) // to be told
		}
	}
	others := &record.ChatCopy{Operation: operation}
	if !wasLarge || !h.chat.Large {
		for _, user := range sortedKeys(d.parts.members) {
			if d.isMember(user) && h.members[user] == nil {
				d.copyTo(user, others)
			}
		}
	}
	for _, user := range concerned {
		d.copyTo(user, &record.ChatCopy{Operation: h.toldTo(user, operation), Member: h.members[user]})
	}
}

// toldTo returns the operation as a user is told of it whom it concerns. Who was
// no member before and is none after it learns of nobody else: of all who are
// invited members know, and such an operation may name hundreds to hundreds.
func (h *happening) toldTo(user string, operation *record.Operation) *record.Operation {
	const member = record.ChatRole_CHAT_ROLE_MEMBER
	if h.role(user) >= member || h.members[user].Role >= member || len(h.change.Users) == 1 || h.d.version < heardVersion {
		return operation
	}
	return &record.Operation{
		Revision: operation.Revision, Time: operation.Time, OriginDevice: operation.OriginDevice,
		Chat: operation.Chat, ChatRevision: operation.ChatRevision, ChatMessages: operation.ChatMessages,
		Kind: &record.Operation_ChatChanged{ChatChanged: &record.ChatChange{
			Kind: h.change.Kind, By: h.change.By, Users: []string{user}, Chat: h.change.Chat,
		}},
	}
}

func withRole(m *record.ChatMember, role record.ChatRole) *record.ChatMember {
	m = proto.CloneOf(m)
	m.Role = role
	return m
}
