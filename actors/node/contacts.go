package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// Befriend does something about the friendship of a user with another. How many
// contacts one may have is seen to here: what is under way may go beyond.
func (n *Node) Befriend(ctx context.Context, session talk.Session, peer string, action talk.FriendAction) error {
	if peer == session.User {
		return refusal.Of(refusal.Yourself)
	}
	if action == talk.RequestFriend {
		if err := n.mayRequest(ctx, session.User, peer); err != nil {
			return err
		}
	} else if _, err := n.key(ctx, peer); err != nil {
		return err
	}
	if action == talk.AcceptFriend {
		if err := n.mayAdd(ctx, session.User, peer); err != nil {
			return err
		}
	}
	r := n.newRecord(mailbox.Home(session.User, peer))
	r.Kind = &record.Record_Befriend{Befriend: &record.Befriend{
		Actor: session.User, ActorDevice: session.Device, Peer: peer, Action: action,
	}}
	_, err := n.do(ctx, r)
	return err
}

// mayRequest refuses a request of a user who has too many contacts, or for one
// who does not exist or has too many requests to answer.
func (n *Node) mayRequest(ctx context.Context, user, peer string) error {
	counts := &record.Query{About: &record.Query_Counts{Counts: true}}
	known, err := n.query(ctx, peer, counts)
	switch {
	case err != nil:
		return err
	case !known.Exists:
		return refusal.Of(refusal.UnknownRecipient)
	case known.GetRequestCount() >= mailbox.MaxRequests:
		return refusal.Of(refusal.TooManyContacts)
	}
	return n.mayAdd(ctx, user, peer)
}

// mayAdd refuses one contact more to a user who has too many. One that is there
// already is none.
func (n *Node) mayAdd(ctx context.Context, user, peer string) error {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Counts{Counts: true}})
	if err != nil || known.GetContactCount() < mailbox.MaxContacts {
		return err
	}
	contact, err := n.Contact(ctx, user, peer)
	switch {
	case err != nil:
		return err
	case contact.Relation == record.Relation_RELATION_FRIEND, contact.Relation == record.Relation_RELATION_REQUESTED:
		return nil
	default:
		return refusal.Of(refusal.TooManyContacts)
	}
}

// EditContact changes what a user alone decides about another.
func (n *Node) EditContact(ctx context.Context, session talk.Session, peer string, edit talk.ContactEdit) error {
	if _, err := n.key(ctx, peer); err != nil { // nobody is a contact who never was a user
		return err
	}
	c := &record.EditContact{UserId: peer, Device: session.Device}
	switch {
	case edit.Blocked != nil:
		c.Change = &record.EditContact_Blocked{Blocked: *edit.Blocked}
	case edit.Favorite != nil:
		c.Change = &record.EditContact_Favorite{Favorite: *edit.Favorite}
	case edit.Alias != nil:
		c.Change = &record.EditContact_Alias{Alias: *edit.Alias}
	}
	r := n.newRecord(session.User)
	r.Kind = &record.Record_EditContact{EditContact: c}
	_, err := n.do(ctx, r)
	return err
}

// Contact returns what another user is to a user.
func (n *Node) Contact(ctx context.Context, user, peer string) (*record.Contact, error) {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Contact{Contact: peer}})
	if err != nil || len(known.GetContacts()) != 1 {
		return nil, orNotReady(err)
	}
	return known.GetContacts()[0].GetContact(), nil
}

// Contacts returns a page of a user's contacts.
func (n *Node) Contacts(ctx context.Context, user string, page *record.ContactsQuery) (talk.Contacts, error) {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Contacts{Contacts: page}})
	return talk.Contacts{Contacts: known.GetContacts(), HasMore: known.GetHasMore(), Revision: known.Head}, err
}

const (
	secretSize = 16
	codeSize   = secretSize + 64 // with the longest user id
)

// Invite makes a code with which another user becomes a user's friend: the
// secret, then the user id.
func (n *Node) Invite(ctx context.Context, session talk.Session) (talk.Invitation, error) {
	secret := make([]byte, secretSize, codeSize)
	_, _ = rand.Read(secret) // crypto/rand never fails: it ends the program instead
	if err := n.mayAdd(ctx, session.User, session.User); err != nil {
		return talk.Invitation{}, err
	}
	hash := sha256.Sum256(secret)
	r := n.newRecord(session.User)
	r.Kind = &record.Record_CreateInvitation{CreateInvitation: &record.CreateInvitation{Hash: hash[:]}}
	answer, err := n.do(ctx, r)
	if err != nil {
		return talk.Invitation{}, err
	}
	return talk.Invitation{
		Code:       base64.RawURLEncoding.EncodeToString(append(secret, session.User...)),
		ExpireTime: time.UnixMilli(answer.Time).Add(mailbox.InvitationLife),
	}, nil
}

// Redeem makes a user a friend of whoever made a code, and returns who that is.
// Whatever is wrong with a code is one and the same refusal.
func (n *Node) Redeem(ctx context.Context, session talk.Session, code string) (owner string, err error) {
	decoded, err := base64.RawURLEncoding.DecodeString(code)
	if err != nil || len(decoded) <= secretSize || len(decoded) > codeSize {
		return "", refusal.Of(refusal.UnknownInvitation)
	}
	owner = string(decoded[secretSize:])
	switch _, err := n.key(ctx, owner); {
	case reasonIs(err, refusal.UnknownRecipient):
		return "", refusal.Of(refusal.UnknownInvitation)
	case err != nil:
		return "", err
	}
	if err := n.mayAdd(ctx, session.User, owner); err != nil {
		return "", err
	}
	hash := sha256.Sum256(decoded[:secretSize])
	r := n.newRecord(owner)
	r.Kind = &record.Record_RedeemInvitation{RedeemInvitation: &record.RedeemInvitation{
		Hash: hash[:], UserId: session.User, Device: session.Device,
	}}
	_, err = n.do(ctx, r)
	if !reasonIs(err, refusal.UnknownInvitation) {
		return owner, err
	}
	// The answer to an earlier attempt may have been lost.
	contact, failed := n.Contact(ctx, session.User, owner)
	if failed == nil && contact.Relation == record.Relation_RELATION_FRIEND {
		return owner, nil
	}
	return "", err
}
