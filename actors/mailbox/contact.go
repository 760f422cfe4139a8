package mailbox

import (
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

const (
	// MaxContacts is how many users one may be friends with, have asked, have
	// blocked or marked.
	MaxContacts = 5_000
	// MaxRequests is how many requests for friendship of others may wait for a
	// user's answer.
	MaxRequests = 1_000
	// MaxRemovedContacts is how many contacts that are no more a mailbox
	// remembers, to tell those who ask what changed.
	MaxRemovedContacts = 1_000
)

var befriendKind = kind{
	since:          2,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		c := r.GetBefriend()
		return c.GetActor() == "" || c.GetPeer() == "" ||
			c.GetAction() < record.Befriend_REQUEST || c.GetAction() > record.Befriend_REMOVE
	},
	decide: func(d *decision, r *record.Record) { d.befriend(r.GetBefriend()) },
}

var friendshipKind = kind{
	since:  2,
	source: recordSource,
	malformed: func(r *record.Record) bool {
		_, known := record.Relation_name[int32(r.GetFriendship().GetRelation())]
		return !known
	},
	decide: func(d *decision, r *record.Record) { d.friendship(r.GetFriendship(), r.GetSource().GetMailbox()) },
}

var editContactKind = kind{
	since:          2,
	command:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		return r.GetEditContact().GetUserId() == "" || r.GetEditContact().GetChange() == nil
	},
	decide: func(d *decision, r *record.Record) { d.editContact(r.GetEditContact()) },
}

// Home returns in whose mailbox it is decided what two users are to each
// other.
func Home(user, other string) string { return min(user, other) }

// befriend decides, in the home of two users, what they are to each other, and
// lets the other's mailbox know.
func (d *decision) befriend(c *record.Befriend) {
	other := c.Peer
	if other == d.user {
		other = c.Actor
	}
	if c.Actor == c.Peer {
		d.refuse(refusal.Yourself)
		return
	}
	if Home(c.Actor, c.Peer) != d.user {
		d.fail("friendship is decided in another mailbox")
		return
	}
	before := d.parts.contact(other).GetRelation()
	after, reason := transition(c.Action, before, c.Actor == d.user)
	if reason != refusal.None {
		d.refuse(reason)
		return
	}
	if after != before {
		d.relate(other, after, deviceOf(d.user, c), nil)
		d.tell(other, &record.Friendship{Relation: mirror(after), OriginDevice: deviceOf(other, c)})
	}
}

// tell has another mailbox take over, or decide, what the two are to each
// other. Friends learn the profile with it.
func (d *decision) tell(other string, c *record.Friendship) {
	if c.Relation == record.Relation_RELATION_FRIEND && d.version >= profileVersion {
		c.Profile = d.shown()
	}
	d.follow(other, &record.Record{Kind: &record.Record_Friendship{Friendship: c}})
}

// profileVersion is the version of Apply since which friends have each other's
// profile.
const profileVersion = 3

// deviceOf returns the device of a user that caused a Befriend; empty when it
// was caused by the other.
func deviceOf(user string, c *record.Befriend) string {
	if c.Actor == user {
		return c.ActorDevice
	}
	return ""
}

// transition returns what the peer is to the owner after an action, by the
// owner or by the peer. What is so already is no error: the answer to an
// earlier attempt may have been lost.
func transition(action record.Befriend_Action, before record.Relation, byOwner bool) (record.Relation, refusal.Reason) {
	// As the actor sees it.
	if !byOwner {
		before = mirror(before)
	}
	after := before
	switch action {
	case record.Befriend_REQUEST:
		switch before {
		case record.Relation_RELATION_NONE:
			after = record.Relation_RELATION_REQUESTED
		case record.Relation_RELATION_RECEIVED:
			after = record.Relation_RELATION_FRIEND
		default:
		}
	case record.Befriend_ACCEPT:
		if before != record.Relation_RELATION_RECEIVED && before != record.Relation_RELATION_FRIEND {
			return before, refusal.NoRequest
		}
		after = record.Relation_RELATION_FRIEND
	case record.Befriend_DECLINE:
		if before != record.Relation_RELATION_RECEIVED {
			return before, refusal.NoRequest
		}
		after = record.Relation_RELATION_NONE
	default: // REMOVE
		after = record.Relation_RELATION_NONE
	}
	if !byOwner {
		after = mirror(after)
	}
	return after, refusal.None
}

// mirror returns a relation as the other of the two sees it.
func mirror(r record.Relation) record.Relation {
	switch r {
	case record.Relation_RELATION_REQUESTED:
		return record.Relation_RELATION_RECEIVED
	case record.Relation_RELATION_RECEIVED:
		return record.Relation_RELATION_REQUESTED
	default:
		return r
	}
}

// friendship takes in what the home of the two decided, or decides, as the
// home, that they are friends. Those who came to be friends have each other's
// profile: the answer to one that came with it is the own.
func (d *decision) friendship(c *record.Friendship, other string) {
	before := d.parts.contact(other).GetRelation()
	if c.Confirm && before == record.Relation_RELATION_FRIEND {
		return
	}
	d.relate(other, c.Relation, c.OriginDevice, c.Profile)
	switch {
	case c.Confirm:
		d.tell(other, &record.Friendship{Relation: c.Relation})
	case c.Profile != nil && c.Relation != before:
		d.follow(other, &record.Record{Kind: &record.Record_ProfileCopy{ProfileCopy: &record.ProfileCopy{Profile: d.shown()}}})
	}
}

// relate sets what another user is to the owner. Marks and profile go with the
// friendship.
func (d *decision) relate(other string, relation record.Relation, origin string, profile *record.Profile) {
	c := copyOf(d.parts.contact(other))
	if c.Relation == record.Relation_RELATION_FRIEND && relation == record.Relation_RELATION_NONE {
		c.Favorite, c.Alias = false, ""
	}
	c.Relation = relation
	switch {
	case relation != record.Relation_RELATION_FRIEND:
		c.Profile = nil
	case profile != nil:
		c.Profile = profile
	}
	d.setContact(other, c, origin)
}

// editContact changes what the owner alone decides.
func (d *decision) editContact(c *record.EditContact) {
	if c.UserId == d.user {
		d.refuse(refusal.Yourself)
		return
	}
	old := d.parts.contact(c.UserId)
	edited := copyOf(old)
	switch change := c.Change.(type) {
	case *record.EditContact_Blocked:
		edited.Blocked = change.Blocked
	case *record.EditContact_Favorite:
		edited.Favorite = change.Favorite
	case *record.EditContact_Alias:
		edited.Alias = change.Alias
	}
	if !isLive(old) && isLive(edited) && d.parts.liveContacts() >= MaxContacts {
		d.refuse(refusal.TooManyContacts)
		return
	}
	d.setContact(c.UserId, edited, c.Device)
}

// setContact makes the contact with a user what is given, with an operation if
// that can be seen, and returns without any if nothing changed.
func (d *decision) setContact(user string, c *record.Contact, origin string) {
	old := d.parts.contact(user)
	c.Revision = old.GetRevision()
	if sameContact(old, c) {
		return
	}
	if shown := visible(c); !sameContact(visible(old), shown) {
		shown = copyOf(shown)
		if !d.operate(&record.Operation{
			OriginDevice: origin,
			Kind:         &record.Operation_ContactUpdated{ContactUpdated: &record.ContactUpdate{UserId: user, Contact: shown}},
		}) {
			return
		}
		c.Revision, shown.Revision = d.head, d.head
	}
	if !isLive(c) && c.Revision == 0 { // nobody saw it
		d.changePart(contactPart, user, nil)
		return
	}
	d.changePart(contactPart, user, c)
	if !isLive(c) && isLive(old) {
		d.forgetContact()
	}
}

// forgetContact forgets the contact that was removed the longest ago, when
// there are too many.
func (d *decision) forgetContact() {
	if len(d.parts.contacts)-d.parts.liveContacts() < MaxRemovedContacts {
		return
	}
	oldest, revision := "", int64(maxRevision)
	for user, c := range d.parts.contacts {
		if !isLive(c) && c.Revision < revision {
			oldest, revision = user, c.Revision
		}
	}
	d.changePart(contactPart, oldest, nil)
	d.contactsSince = max(d.contactsSince, revision)
	d.accountChanged = true
}

// isLive reports whether a contact says anything: one that does not was
// removed.
func isLive(c *record.Contact) bool {
	return c.GetRelation() != record.Relation_RELATION_NONE || c.GetBlocked() || c.GetFavorite() || c.GetAlias() != ""
}

// visible returns a contact as the owner sees it: what a blocked user asks for
// is not seen while the user is blocked.
func visible(c *record.Contact) *record.Contact {
	if !c.GetBlocked() || c.GetRelation() != record.Relation_RELATION_RECEIVED {
		return c
	}
	shown := copyOf(c)
	shown.Relation = record.Relation_RELATION_NONE
	return shown
}

func sameContact(a, b *record.Contact) bool {
	return a.GetRelation() == b.GetRelation() && a.GetBlocked() == b.GetBlocked() && a.GetFavorite() == b.GetFavorite() &&
		a.GetAlias() == b.GetAlias() && proto.Equal(a.GetProfile(), b.GetProfile())
}

func copyOf(c *record.Contact) *record.Contact {
	return &record.Contact{
		Relation: c.GetRelation(), Blocked: c.GetBlocked(), Favorite: c.GetFavorite(), Alias: c.GetAlias(), Revision: c.GetRevision(),
		Profile: c.GetProfile(),
	}
}

// Contact returns what is known of another user, never nil. It is shared.
func (s *State) Contact(user string) *record.Contact {
	if c := visible(s.parts.contact(user)); c != nil {
		return c
	}
	return new(record.Contact)
}

// ContactCounts returns how many contacts there are, and how many of them are
// requests that wait for an answer.
func (s *State) ContactCounts() (contacts, requests int) {
	for _, c := range s.parts.contacts {
		if c.Relation == record.Relation_RELATION_RECEIVED {
			requests++
		} else if isLive(c) {
			contacts++
		}
	}
	return contacts, requests
}

// recordSource is the source of the follow-ups that say it in the record.
func recordSource(r *record.Record) persistence.Source {
	s := r.GetSource()
	return persistence.Source{
		Mailbox:  s.GetMailbox(),
		Position: persistence.Position{Generation: s.GetGeneration(), Offset: s.GetOffset()},
	}
}
