package client

import (
	"context"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Contact is another user as the caller sees them.
type Contact = tegamiv1.Contact

// FindUser returns who has exactly this user id. CodeNotFound: nobody has.
func (c *Client) FindUser(ctx context.Context, user string) (displayName string, contact *Contact, err error) {
	var response tegamiv1.FindUserResponse
	err = c.call(ctx, callTimeout, "ContactService/FindUser", &tegamiv1.FindUserRequest{UserId: user}, &response)
	return response.GetDisplayName(), response.GetContact(), err
}

// RequestFriend asks a user for friendship, or accepts what they asked.
// CodeNotFound: no such user.
func (c *Client) RequestFriend(ctx context.Context, user string) (*Contact, error) {
	var response tegamiv1.RequestFriendResponse
	err := c.call(ctx, callTimeout, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: user}, &response)
	return response.GetContact(), err
}

// AcceptFriend makes friends with a user who asked. CodeNotFound: they did not,
// or no longer do.
func (c *Client) AcceptFriend(ctx context.Context, user string) error {
	return c.call(ctx, callTimeout, "ContactService/AcceptFriend", &tegamiv1.AcceptFriendRequest{UserId: user}, new(tegamiv1.AcceptFriendResponse))
}

// DeclineFriend declines what a user asked. CodeNotFound: they did not, or no
// longer do.
func (c *Client) DeclineFriend(ctx context.Context, user string) error {
	return c.call(ctx, callTimeout, "ContactService/DeclineFriend", &tegamiv1.DeclineFriendRequest{UserId: user}, new(tegamiv1.DeclineFriendResponse))
}

// RemoveFriend ends a friendship for both, or takes a request back.
func (c *Client) RemoveFriend(ctx context.Context, user string) error {
	return c.call(ctx, callTimeout, "ContactService/RemoveFriend", &tegamiv1.RemoveFriendRequest{UserId: user}, new(tegamiv1.RemoveFriendResponse))
}

// Contacts returns all contacts, in the order of user ids, and the revision to
// go on from with Run or Fetch: what changes later comes as an operation.
func (c *Client) Contacts(ctx context.Context) (contacts []*Contact, revision int64, err error) {
	request := &tegamiv1.ListContactsRequest{Limit: 1000}
	for first := true; first || request.PageToken != ""; first = false {
		var page tegamiv1.ListContactsResponse
		if err := c.call(ctx, callTimeout, "ContactService/ListContacts", request, &page); err != nil {
			return nil, 0, err
		}
		if first {
			revision = page.GetRevision()
		}
		contacts = append(contacts, page.GetContacts()...)
		request.PageToken = page.GetNextPageToken()
	}
	return contacts, revision, nil
}

// Block has nothing of a user's arrive any more, of which they do not learn.
func (c *Client) Block(ctx context.Context, user string) error {
	return c.call(ctx, callTimeout, "ContactService/Block", &tegamiv1.BlockRequest{UserId: user}, new(tegamiv1.BlockResponse))
}

// Unblock ends that.
func (c *Client) Unblock(ctx context.Context, user string) error {
	return c.call(ctx, callTimeout, "ContactService/Unblock", &tegamiv1.UnblockRequest{UserId: user}, new(tegamiv1.UnblockResponse))
}

// SetFavorite marks a user, or takes the mark away.
func (c *Client) SetFavorite(ctx context.Context, user string, favorite bool) error {
	request := &tegamiv1.SetFavoriteRequest{UserId: user, Favorite: favorite}
	return c.call(ctx, callTimeout, "ContactService/SetFavorite", request, new(tegamiv1.SetFavoriteResponse))
}

// SetAlias sets what the caller calls a user, at most 64 code points; empty
// takes it away.
func (c *Client) SetAlias(ctx context.Context, user, alias string) error {
	request := &tegamiv1.SetAliasRequest{UserId: user, Alias: alias}
	return c.call(ctx, callTimeout, "ContactService/SetAlias", request, new(tegamiv1.SetAliasResponse))
}

// CreateInvitation makes a code with which one user becomes a friend.
func (c *Client) CreateInvitation(ctx context.Context) (code string, expires time.Time, err error) {
	var response tegamiv1.CreateInvitationResponse
	err = c.call(ctx, callTimeout, "ContactService/CreateInvitation", &tegamiv1.CreateInvitationRequest{}, &response)
	return response.GetCode(), response.GetExpireTime().AsTime(), err
}

// RedeemInvitation makes the caller a friend of whoever made a code.
// CodeNotFound: it is none, was redeemed, or is too old.
func (c *Client) RedeemInvitation(ctx context.Context, code string) (*Contact, error) {
	var response tegamiv1.RedeemInvitationResponse
	err := c.call(ctx, callTimeout, "ContactService/RedeemInvitation", &tegamiv1.RedeemInvitationRequest{Code: code}, &response)
	return response.GetContact(), err
}
