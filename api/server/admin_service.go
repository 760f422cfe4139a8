package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

// adminService is AdminService as Connect's handlers call it.
type adminService struct{ *Server }

func (s adminService) CreateUsers(ctx context.Context, request *tegamiv1.CreateUsersRequest) (*tegamiv1.CreateUsersResponse, error) {
	if err := validate.CreateUsers(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	accounts := newAccounts(request.GetUsers())
	taken, err := s.talk.CreateAccounts(ctx, accounts)
	if err != nil {
		return nil, err
	}
	response := &tegamiv1.CreateUsersResponse{}
	for i, account := range accounts {
		if i < len(taken) && taken[i] {
			response.Existing = append(response.Existing, account.User)
		} else {
			response.Created++
		}
	}
	return response, nil
}

// newAccounts returns the accounts to make. A user who is listed twice is made
// once, as first told.
func newAccounts(users []*tegamiv1.NewUser) []talk.NewAccount {
	accounts := make([]talk.NewAccount, 0, len(users))
	listed := make(map[string]bool, len(users))
	for _, user := range users {
		if id := user.GetUserId(); !listed[id] {
			listed[id] = true
			accounts = append(accounts, talk.NewAccount{User: id, DisplayName: user.GetDisplayName()})
		}
	}
	return accounts
}

func (s adminService) IssueToken(ctx context.Context, request *tegamiv1.IssueTokenRequest) (*tegamiv1.IssueTokenResponse, error) {
	if err := validate.IssueToken(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	pair, err := s.signIn(ctx, request.GetUserId(), request.GetDeviceId())
	if err != nil {
		return nil, naming(err, fieldNames{refusal.UnknownRecipient: "userId"})
	}
	return &tegamiv1.IssueTokenResponse{
		AccessToken:  pair.access,
		RefreshToken: pair.refresh,
		ExpireTime:   timestamppb.New(pair.expires),
		DeviceId:     pair.device,
	}, nil
}
