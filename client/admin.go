package client

import (
	"context"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Admin makes the calls of a server's admin listener, by which an application
// with users of its own makes them known here and signs them in.
type Admin struct {
	wire   wire
	token  string
	server string
}

// NewAdmin returns an Admin for the URL of an admin listener and the token in
// the data folder's admin.token. Sessions that it issues are for the server at
// that second URL.
func NewAdmin(admin, token, server string, opts ...Option) (*Admin, error) {
	w, err := newWire(options{http: collect(opts).http}, admin)
	return &Admin{wire: w, token: token, server: server}, err
}

// NewUser is a user to be made.
type NewUser struct{ ID, DisplayName string }

// CreateUsers makes at most 5,000 users without a password and returns the ids
// of those that existed. It may be repeated.
func (a *Admin) CreateUsers(ctx context.Context, users []NewUser) (existing []string, err error) {
	request := new(tegamiv1.CreateUsersRequest)
	for _, user := range users {
		request.Users = append(request.Users, &tegamiv1.NewUser{UserId: user.ID, DisplayName: user.DisplayName})
	}
	var response tegamiv1.CreateUsersResponse
	err = a.wire.call(ctx, time.Minute, "AdminService/CreateUsers", a.token, request, &response)
	return response.GetExisting(), err
}

// IssueToken signs a device of a user in. An empty device is given an id.
func (a *Admin) IssueToken(ctx context.Context, user, device string) (Session, error) {
	var response tegamiv1.IssueTokenResponse
	request := &tegamiv1.IssueTokenRequest{UserId: user, DeviceId: device}
	if err := a.wire.call(ctx, callTimeout, "AdminService/IssueToken", a.token, request, &response); err != nil {
		return Session{}, err
	}
	return signedIn(a.server, user, &response), nil
}
