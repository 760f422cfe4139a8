package server_test

import (
	"context"
	"fmt"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// contactsOf returns the contacts of a user, and an error when a method is to
// fail or one of the users does not exist.
func (f *fakeTalk) contactsOf(method, id, peer string) (map[string]*record.Contact, error) {
	user, err := f.user(method, id)
	if err != nil {
		return nil, err
	}
	if _, err := f.user(method, peer); err != nil {
		return nil, err
	}
	if user.contacts == nil {
		user.contacts = make(map[string]*record.Contact)
	}
	if user.contacts[peer] == nil {
		user.contacts[peer] = new(record.Contact)
	}
	return user.contacts, nil
}

func (f *fakeTalk) changeContact(user, peer string, change func(*record.Contact)) {
	contact := f.users[user].contacts[peer]
	change(contact)
	contact.Revision = int64(len(f.users[user].ops)) + 1
	f.users[user].append(&record.Operation{
		Time: time.Now().UnixMilli(),
		Kind: &record.Operation_ContactUpdated{ContactUpdated: &record.ContactUpdate{UserId: peer, Contact: contact}},
	})
}

func (f *fakeTalk) Befriend(_ context.Context, session talk.Session, peer string, action talk.FriendAction) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if session.User == peer {
		return refusal.Of(refusal.Yourself)
	}
	mine, err := f.contactsOf("Befriend", session.User, peer)
	if err != nil {
		return err
	}
	theirs, err := f.contactsOf("Befriend", peer, session.User)
	if err != nil {
		return err
	}
	own, other := mine[peer].GetRelation(), theirs[session.User].GetRelation()
	switch asked := own == record.Relation_RELATION_RECEIVED; {
	case action == talk.RequestFriend && own == record.Relation_RELATION_NONE:
		own, other = record.Relation_RELATION_REQUESTED, record.Relation_RELATION_RECEIVED
	case (action == talk.RequestFriend || action == talk.AcceptFriend) && asked:
		own, other = record.Relation_RELATION_FRIEND, record.Relation_RELATION_FRIEND
	case action == talk.RemoveFriend || action == talk.DeclineFriend && asked:
		own, other = record.Relation_RELATION_NONE, record.Relation_RELATION_NONE
	case action != talk.RequestFriend && !asked:
		return refusal.Of(refusal.NoRequest)
	}
	f.changeContact(session.User, peer, func(c *record.Contact) { c.Relation = own })
	f.changeContact(peer, session.User, func(c *record.Contact) { c.Relation = other })
	return nil
}

func (f *fakeTalk) EditContact(_ context.Context, session talk.Session, peer string, edit talk.ContactEdit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if session.User == peer {
		return refusal.Of(refusal.Yourself)
	}
	if _, err := f.contactsOf("EditContact", session.User, peer); err != nil {
		return err
	}
	f.changeContact(session.User, peer, func(c *record.Contact) {
		switch {
		case edit.Blocked != nil:
			c.Blocked = *edit.Blocked
		case edit.Favorite != nil:
			c.Favorite = *edit.Favorite
		case edit.Alias != nil:
			c.Alias = *edit.Alias
		}
	})
	return nil
}

func (f *fakeTalk) Contact(_ context.Context, id, peer string) (*record.Contact, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	contacts, err := f.contactsOf("Contact", id, peer)
	if err != nil {
		return nil, err
	}
	return contacts[peer], nil
}

func (f *fakeTalk) Contacts(_ context.Context, id string, page *record.ContactsQuery) (talk.Contacts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Contacts", id)
	if err != nil {
		return talk.Contacts{}, err
	}
	list := talk.Contacts{Revision: int64(len(user.ops))}
	if page.Since > list.Revision {
		return list, &refusal.Refusal{Reason: refusal.CursorAhead, ResumeRevision: list.Revision}
	}
	for peer, contact := range user.contacts {
		if contact.Revision > page.Since && peer > page.After {
			list.Contacts = append(list.Contacts, &record.ContactUpdate{UserId: peer, Contact: contact})
		}
	}
	return list, nil
}

// A code of the fake tier is the word and the user id.
const fakeCode = "code-of-"

func (f *fakeTalk) Invite(_ context.Context, session talk.Session) (talk.Invitation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.user("Invite", session.User); err != nil {
		return talk.Invitation{}, err
	}
	return talk.Invitation{Code: fakeCode + session.User, ExpireTime: time.Now().Add(mailbox.InvitationLife)}, nil
}

func (f *fakeTalk) Redeem(_ context.Context, session talk.Session, code string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var owner string
	if n, _ := fmt.Sscanf(code, fakeCode+"%s", &owner); n != 1 || f.users[owner] == nil {
		return "", refusal.Of(refusal.UnknownInvitation)
	}
	if owner == session.User {
		return "", refusal.Of(refusal.Yourself)
	}
	if _, err := f.contactsOf("Redeem", session.User, owner); err != nil {
		return "", err
	}
	f.changeContact(session.User, owner, func(c *record.Contact) { c.Relation = record.Relation_RELATION_FRIEND })
	return owner, nil
}
