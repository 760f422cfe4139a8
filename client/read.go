package client

import (
	"context"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Head returns the newest revision of the mailbox, 0 when it is empty, and the
// oldest that is kept.
func (c *Client) Head(ctx context.Context) (newest, oldest int64, err error) {
	var response tegamiv1.GetHeadResponse
	err = c.call(ctx, callTimeout, "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, &response)
	return response.GetRevision(), response.GetFirstRevision(), err
}

// Fetch returns a page of the operations after a revision, at once, for
// programs that keep no poll. limit is 0, for 100, to 1,000.
func (c *Client) Fetch(ctx context.Context, after int64, limit int32) (operations []*Operation, more bool, err error) {
	var response tegamiv1.FetchOpsResponse
	request := &tegamiv1.FetchOpsRequest{AfterRevision: after, Limit: limit}
	err = c.call(ctx, callTimeout, "TalkService/FetchOps", request, &response)
	return response.GetOps(), response.GetHasMore(), err
}

// Messages returns messages of the conversation with a peer below a revision,
// 0 for the newest, in the order newest first, as they were sent: what became
// of them comes as operations. limit is 0, for 100, to 1,000.
func (c *Client) Messages(ctx context.Context, peer string, before int64, limit int32) (messages []*Message, more bool, err error) {
	request := &tegamiv1.ListMessagesRequest{Peer: peer, Before: before, Limit: limit}
	for {
		var response tegamiv1.ListMessagesResponse
		err = c.call(ctx, callTimeout, "TalkService/ListMessages", request, &response)
		if err != nil || len(response.GetMessages()) > 0 || !response.GetHasMore() {
			return response.GetMessages(), response.GetHasMore(), err
		}
		request.Before = response.GetNextBefore() // a page of amendments only
	}
}

// Unsend withdraws a message of the caller's, by its revision in the caller's
// mailbox. CodeNotFound: there is none; CodePermissionDenied: it is the peer's;
// CodeFailedPrecondition: it is more than a day old.
func (c *Client) Unsend(ctx context.Context, peer string, revision int64) error {
	request := &tegamiv1.UnsendMessageRequest{Peer: peer, Revision: revision}
	return c.call(ctx, callTimeout, "TalkService/UnsendMessage", request, new(tegamiv1.UnsendMessageResponse))
}

// Edit gives a message of the caller's another text. Errors as of Unsend.
func (c *Client) Edit(ctx context.Context, peer string, revision int64, text string) error {
	request := &tegamiv1.EditMessageRequest{Peer: peer, Revision: revision, Text: text}
	return c.call(ctx, callTimeout, "TalkService/EditMessage", request, new(tegamiv1.EditMessageResponse))
}

// React puts a reaction to a message in place of an earlier one of the caller's;
// empty takes it away. CodeNotFound: there is no such message.
func (c *Client) React(ctx context.Context, peer string, revision int64, reaction string) error {
	request := &tegamiv1.ReactToMessageRequest{Peer: peer, Revision: revision, Reaction: reaction}
	return c.call(ctx, callTimeout, "TalkService/ReactToMessage", request, new(tegamiv1.ReactToMessageResponse))
}

// Device is one device of the user.
type Device = tegamiv1.Device

// Devices lists the devices that are signed in, newest first.
func (c *Client) Devices(ctx context.Context) ([]*Device, error) {
	var response tegamiv1.ListDevicesResponse
	err := c.call(ctx, callTimeout, "AuthService/ListDevices", &tegamiv1.ListDevicesRequest{}, &response)
	return response.GetDevices(), err
}

// RevokeDevice signs a device of the user out.
func (c *Client) RevokeDevice(ctx context.Context, device string) error {
	request := &tegamiv1.RevokeDeviceRequest{DeviceId: device}
	return c.call(ctx, callTimeout, "AuthService/RevokeDevice", request, new(tegamiv1.RevokeDeviceResponse))
}

// Logout signs this device out. The client is of no use afterwards.
func (c *Client) Logout(ctx context.Context) error {
	return c.call(ctx, callTimeout, "AuthService/Logout", &tegamiv1.LogoutRequest{}, new(tegamiv1.LogoutResponse))
}
