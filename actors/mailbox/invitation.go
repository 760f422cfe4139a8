package mailbox

import (
	"maps"
	"slices"
	"time"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

const (
	// MaxInvitations is how many codes of a user may be open.
	MaxInvitations = 20
	// InvitationLife is how long a code is good, in log time.
	InvitationLife = 7 * 24 * time.Hour
)

var createInvitationKind = kind{
	since:          2,
	command:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed:      func(r *record.Record) bool { return !isHash(r.GetCreateInvitation().GetHash()) },
	decide:         func(d *decision, r *record.Record) { d.createInvitation(r.GetCreateInvitation()) },
}

var redeemInvitationKind = kind{
	since:   2,
	command: true,
	follows: true,
	// Not that there is no such user: a code that is none tells nothing.
	withoutAccount: refusal.UnknownInvitation,
	malformed: func(r *record.Record) bool {
		return !isHash(r.GetRedeemInvitation().GetHash()) || r.GetRedeemInvitation().GetUserId() == ""
	},
	decide: func(d *decision, r *record.Record) { d.redeemInvitation(r.GetRedeemInvitation()) },
}

// createInvitation opens a code, in place of those that are too old.
func (d *decision) createInvitation(c *record.CreateInvitation) {
	open := 0
	for _, hash := range slices.Sorted(maps.Keys(d.parts.invitations)) {
		if d.parts.invitations[hash].ExpireTime <= d.time {
			d.changePart(invitationPart, hash, nil)
		} else {
			open++
		}
	}
	if open >= MaxInvitations {
		d.refuse(refusal.TooManyInvitations)
		return
	}
	d.changePart(invitationPart, string(c.Hash), &record.Invitation{ExpireTime: d.time + InvitationLife.Milliseconds()})
}

// redeemInvitation makes a friend of whoever has a code. Where the other's
// mailbox decides for the two, it is asked to.
func (d *decision) redeemInvitation(c *record.RedeemInvitation) {
	invitation := d.parts.invitations[string(c.Hash)]
	switch {
	case c.UserId == d.user:
		d.refuse(refusal.Yourself)
		return
	case invitation == nil || invitation.ExpireTime <= d.time:
		d.refuse(refusal.UnknownInvitation)
		return
	}
	d.changePart(invitationPart, string(c.Hash), nil)
	friendship := &record.Friendship{Relation: record.Relation_RELATION_FRIEND, OriginDevice: c.Device}
	if Home(d.user, c.UserId) == d.user {
		d.relate(c.UserId, record.Relation_RELATION_FRIEND, "", nil)
	} else {
		friendship.Confirm = true
	}
	d.tell(c.UserId, friendship)
}
