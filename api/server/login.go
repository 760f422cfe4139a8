package server

import (
	"context"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/auth/oidc"
	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

// ProviderOptions are about an OpenID provider whose ID tokens Login takes.
type ProviderOptions struct {
	// Tokens verifies them. Nil: there is no provider.
	Tokens *oidc.Provider
	// Register makes an account for whoever the provider vouches for and who has
	// none.
	Register bool
}

var (
	errBadCredentials = fault.Unauthenticated("bad_credentials", "no such user or a wrong password")

	errNoProvider = &fault.Fault{
		Code: connect.CodePermissionDenied, Reason: "no_provider", Field: "idToken",
		Text: "there is no OpenID provider whose tokens are taken here",
	}
	errNoAccount = &fault.Fault{
		Code: connect.CodePermissionDenied, Reason: "no_account", Field: "idToken",
		Text: "the user of the ID token has no account here",
	}
	errOtherUser = &fault.Fault{
		Code: connect.CodeUnauthenticated, Reason: "other_user", Field: "userId",
		Text: "the ID token is of another user",
	}
)

func (s authService) Login(ctx context.Context, request *tegamiv1.LoginRequest) (*tegamiv1.LoginResponse, error) {
	if err := validate.Login(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	user, err := s.proven(ctx, request)
	if err != nil {
		return nil, err
	}
	pair, err := s.signIn(ctx, user, request.GetDeviceId())
	if err != nil {
		return nil, err
	}
	return &tegamiv1.LoginResponse{
		AccessToken:  pair.access,
		RefreshToken: pair.refresh,
		ExpireTime:   timestamppb.New(pair.expires),
		DeviceId:     pair.device,
		UserId:       user,
	}, nil
}

// proven returns the user who has proven to be the one who signs in.
func (s authService) proven(ctx context.Context, request *tegamiv1.LoginRequest) (string, error) {
	if request.GetIdToken() != "" {
		return s.vouchedFor(ctx, request.GetIdToken(), request.GetUserId())
	}
	account, err := s.talk.Account(ctx, request.GetUserId())
	if err != nil && !refusedWith(err, refusal.UnknownRecipient) {
		return "", err
	}
	// An unknown user has no hash, which costs as much to compare with.
	right, err := s.passwords.Verify(ctx, request.GetPassword(), account.PasswordHash)
	if err != nil {
		return "", err
	}
	if !right {
		return "", errBadCredentials
	}
	return request.GetUserId(), nil
}

// vouchedFor returns the user of an ID token, who must be the expected one unless
// that is empty, and has an account, if need be from now on.
func (s authService) vouchedFor(ctx context.Context, token, expected string) (string, error) {
	provider := s.opts.Provider
	if provider.Tokens == nil {
		return "", errNoProvider
	}
	identity, err := provider.Tokens.Verify(ctx, token)
	if err != nil {
		return "", err
	}
	if expected != "" && expected != identity.User {
		return "", errOtherUser
	}
	_, err = s.talk.Account(ctx, identity.User)
	if err == nil || !refusedWith(err, refusal.UnknownRecipient) {
		return identity.User, err
	}
	if !provider.Register {
		return "", errNoAccount
	}
	// That another call has made it meanwhile is as good.
	_, err = s.talk.CreateAccounts(ctx, []talk.NewAccount{{User: identity.User, DisplayName: identity.DisplayName}})
	return identity.User, err
}
