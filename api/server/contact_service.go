package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

// contactService is ContactService as Connect's handlers call it.
type contactService struct{ *Server }

// contactFields are the fields that refusals about another user are about.
var contactFields = fieldNames{
	refusal.UnknownRecipient: "userId", refusal.Yourself: "userId", refusal.NoRequest: "userId",
	refusal.CursorAhead: "sinceRevision", refusal.CursorTooOld: "sinceRevision",
}

func (s contactService) FindUser(ctx context.Context, request *tegamiv1.FindUserRequest) (*tegamiv1.FindUserResponse, error) {
	if err := validate.UserID("userId", request.GetUserId()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	profile, err := s.talk.Profile(ctx, callerOf(ctx).User, request.GetUserId())
	if err != nil {
		return nil, naming(err, contactFields)
	}
	contact, err := s.contact(ctx, request.GetUserId())
	if err != nil {
		return nil, err
	}
	return &tegamiv1.FindUserResponse{UserId: request.GetUserId(), DisplayName: profile.GetDisplayName(), Contact: contact}, nil
}

// contact returns what a user is to the caller.
func (s contactService) contact(ctx context.Context, user string) (*tegamiv1.Contact, error) {
	contact, err := s.talk.Contact(ctx, callerOf(ctx).User, user)
	if err != nil {
		return nil, err
	}
	return contactOf(user, contact), nil
}

func (s contactService) RequestFriend(ctx context.Context, request *tegamiv1.RequestFriendRequest) (*tegamiv1.RequestFriendResponse, error) {
	if err := s.befriend(ctx, request.GetUserId(), talk.RequestFriend); err != nil {
		return nil, err
	}
	contact, err := s.contact(ctx, request.GetUserId())
	if err != nil {
		return nil, err
	}
	return &tegamiv1.RequestFriendResponse{Contact: contact}, nil
}

func (s contactService) AcceptFriend(ctx context.Context, request *tegamiv1.AcceptFriendRequest) (*tegamiv1.AcceptFriendResponse, error) {
	return &tegamiv1.AcceptFriendResponse{}, s.befriend(ctx, request.GetUserId(), talk.AcceptFriend)
}

func (s contactService) DeclineFriend(ctx context.Context, request *tegamiv1.DeclineFriendRequest) (*tegamiv1.DeclineFriendResponse, error) {
	return &tegamiv1.DeclineFriendResponse{}, s.befriend(ctx, request.GetUserId(), talk.DeclineFriend)
}

func (s contactService) RemoveFriend(ctx context.Context, request *tegamiv1.RemoveFriendRequest) (*tegamiv1.RemoveFriendResponse, error) {
	return &tegamiv1.RemoveFriendResponse{}, s.befriend(ctx, request.GetUserId(), talk.RemoveFriend)
}

func (s contactService) befriend(ctx context.Context, user string, action talk.FriendAction) error {
	if err := validate.UserID("userId", user); err != nil {
		return err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return naming(s.talk.Befriend(ctx, callerOf(ctx), user, action), contactFields)
}

func (s contactService) Block(ctx context.Context, request *tegamiv1.BlockRequest) (*tegamiv1.BlockResponse, error) {
	return &tegamiv1.BlockResponse{}, s.edit(ctx, request.GetUserId(), talk.ContactEdit{Blocked: new(true)})
}

func (s contactService) Unblock(ctx context.Context, request *tegamiv1.UnblockRequest) (*tegamiv1.UnblockResponse, error) {
	return &tegamiv1.UnblockResponse{}, s.edit(ctx, request.GetUserId(), talk.ContactEdit{Blocked: new(false)})
}

func (s contactService) SetFavorite(ctx context.Context, request *tegamiv1.SetFavoriteRequest) (*tegamiv1.SetFavoriteResponse, error) {
	return &tegamiv1.SetFavoriteResponse{}, s.edit(ctx, request.GetUserId(), talk.ContactEdit{Favorite: new(request.GetFavorite())})
}

func (s contactService) SetAlias(ctx context.Context, request *tegamiv1.SetAliasRequest) (*tegamiv1.SetAliasResponse, error) {
	if err := validate.Alias("alias", request.GetAlias()); err != nil {
		return nil, err
	}
	return &tegamiv1.SetAliasResponse{}, s.edit(ctx, request.GetUserId(), talk.ContactEdit{Alias: new(request.GetAlias())})
}

func (s contactService) edit(ctx context.Context, user string, edit talk.ContactEdit) error {
	if err := validate.UserID("userId", user); err != nil {
		return err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return naming(s.talk.EditContact(ctx, callerOf(ctx), user, edit), contactFields)
}

func (s contactService) ListContacts(ctx context.Context, request *tegamiv1.ListContactsRequest) (*tegamiv1.ListContactsResponse, error) {
	if err := validate.ListContacts(request); err != nil {
		return nil, err
	}
	list, err := s.contacts(ctx, &record.ContactsQuery{
		Since: request.GetSinceRevision(), After: request.GetPageToken(), Limit: int32(validate.PageSize(request.GetLimit())),
	})
	if err != nil {
		return nil, err
	}
	page, next := contactPage(list)
	return &tegamiv1.ListContactsResponse{Contacts: page, NextPageToken: next, Revision: list.Revision}, nil
}

func (s contactService) ListBlocked(ctx context.Context, request *tegamiv1.ListBlockedRequest) (*tegamiv1.ListBlockedResponse, error) {
	if err := validate.ListBlocked(request); err != nil {
		return nil, err
	}
	list, err := s.contacts(ctx, &record.ContactsQuery{
		Blocked: true, After: request.GetPageToken(), Limit: int32(validate.PageSize(request.GetLimit())),
	})
	if err != nil {
		return nil, err
	}
	page, next := contactPage(list)
	return &tegamiv1.ListBlockedResponse{Contacts: page, NextPageToken: next}, nil
}

func (s contactService) contacts(ctx context.Context, page *record.ContactsQuery) (talk.Contacts, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	list, err := s.talk.Contacts(ctx, callerOf(ctx).User, page)
	return list, naming(err, contactFields)
}

// contactPage returns a page of contacts in the form that clients get, and the
// user id that it ends with, unless it is the last.
func contactPage(list talk.Contacts) (page []*tegamiv1.Contact, next string) {
	page = make([]*tegamiv1.Contact, len(list.Contacts))
	for i, c := range list.Contacts {
		page[i] = contactOf(c.GetUserId(), c.GetContact())
	}
	if n := len(page); list.HasMore && n > 0 {
		next = page[n-1].GetUserId()
	}
	return page, next
}

var relations = map[record.Relation]tegamiv1.Contact_Relation{
	record.Relation_RELATION_NONE:      tegamiv1.Contact_NONE,
	record.Relation_RELATION_REQUESTED: tegamiv1.Contact_REQUESTED,
	record.Relation_RELATION_RECEIVED:  tegamiv1.Contact_RECEIVED,
	record.Relation_RELATION_FRIEND:    tegamiv1.Contact_FRIEND,
}

// contactOf returns a contact in the form that clients get.
func contactOf(user string, c *record.Contact) *tegamiv1.Contact {
	return &tegamiv1.Contact{
		UserId:   user,
		Relation: relations[c.GetRelation()],
		Blocked:  c.GetBlocked(),
		Favorite: c.GetFavorite(),
		Alias:    c.GetAlias(),
		Revision: c.GetRevision(),
		Profile:  profileOf(c.GetProfile()),
	}
}

func (s contactService) CreateInvitation(ctx context.Context, _ *tegamiv1.CreateInvitationRequest) (*tegamiv1.CreateInvitationResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	invitation, err := s.talk.Invite(ctx, callerOf(ctx))
	if err != nil {
		return nil, err
	}
	return &tegamiv1.CreateInvitationResponse{Code: invitation.Code, ExpireTime: timestamppb.New(invitation.ExpireTime)}, nil
}

func (s contactService) RedeemInvitation(ctx context.Context, request *tegamiv1.RedeemInvitationRequest) (*tegamiv1.RedeemInvitationResponse, error) {
	if err := validate.Code("code", request.GetCode()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	owner, err := s.talk.Redeem(ctx, callerOf(ctx), request.GetCode())
	if err != nil {
		return nil, naming(err, fieldNames{refusal.UnknownInvitation: "code", refusal.Yourself: "code"})
	}
	contact, err := s.contact(ctx, owner)
	if err != nil {
		return nil, err
	}
	return &tegamiv1.RedeemInvitationResponse{Contact: contact}, nil
}
