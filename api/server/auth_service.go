package server

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/auth"
	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

var errRegistrationClosed = fault.New(connect.CodePermissionDenied, "registration_closed", "registration is closed")

// authService is AuthService as Connect's handlers call it.
type authService struct{ *Server }

func (s authService) Register(ctx context.Context, request *tegamiv1.RegisterRequest) (*tegamiv1.RegisterResponse, error) {
	if !s.registrationOpen {
		return nil, errRegistrationClosed
	}
	if err := validate.Register(request); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	hash, err := s.passwords.Hash(ctx, request.GetPassword())
	if err != nil {
		return nil, err
	}
	taken, err := s.talk.CreateAccounts(ctx, []talk.NewAccount{{
		User:         request.GetUserId(),
		DisplayName:  request.GetDisplayName(),
		PasswordHash: hash,
	}})
	if err != nil {
		return nil, err
	}
	if len(taken) > 0 && taken[0] {
		return nil, &refusal.Refusal{Reason: refusal.UserExists, Field: "userId"}
	}
	return &tegamiv1.RegisterResponse{UserId: request.GetUserId()}, nil
}

func (s authService) Refresh(ctx context.Context, request *tegamiv1.RefreshRequest) (*tegamiv1.RefreshResponse, error) {
	session, presented, err := s.tokens.VerifyRefresh(request.GetRefreshToken())
	if err != nil {
		return nil, inField("refreshToken", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	secret, next := auth.NewRefreshSecret()
	if err := s.talk.Refresh(ctx, session, presented.Hash(), next); err != nil {
		return nil, err
	}
	pair, err := s.issue(session, secret)
	if err != nil {
		return nil, err
	}
	return &tegamiv1.RefreshResponse{
		AccessToken:  pair.access,
		RefreshToken: pair.refresh,
		ExpireTime:   timestamppb.New(pair.expires),
		DeviceId:     pair.device,
	}, nil
}

func (s authService) Logout(ctx context.Context, _ *tegamiv1.LogoutRequest) (*tegamiv1.LogoutResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	caller := callerOf(ctx)
	// One that was signed out meanwhile is where it wanted to be.
	if err := s.talk.SignOut(ctx, caller); err != nil && !refusedWith(err, refusal.UnknownDevice) {
		return nil, err
	}
	s.admission.sessions.End(caller)
	return &tegamiv1.LogoutResponse{}, nil
}

func (s authService) ListDevices(ctx context.Context, _ *tegamiv1.ListDevicesRequest) (*tegamiv1.ListDevicesResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	caller := callerOf(ctx)
	devices, err := s.talk.Devices(ctx, caller.User)
	if err != nil {
		return nil, err
	}
	response := &tegamiv1.ListDevicesResponse{Devices: make([]*tegamiv1.Device, len(devices))}
	for i, device := range devices {
		response.Devices[i] = &tegamiv1.Device{
			DeviceId:     device.ID,
			CreateTime:   timestamppb.New(device.CreateTime),
			LastSeenTime: timestamppb.New(device.SeenTime),
			Current:      device.ID == caller.Device && device.Epoch == caller.Epoch,
		}
	}
	return response, nil
}

func (s authService) RevokeDevice(ctx context.Context, request *tegamiv1.RevokeDeviceRequest) (*tegamiv1.RevokeDeviceResponse, error) {
	if err := validate.DeviceID("deviceId", request.GetDeviceId()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	user := callerOf(ctx).User
	err := s.talk.SignOut(ctx, talk.Session{User: user, Device: request.GetDeviceId()})
	if refusedWith(err, refusal.UnknownDevice) {
		return nil, &fault.Fault{
			Code:   connect.CodeNotFound,
			Reason: refusal.UnknownDevice.String(),
			Text:   "no such device is signed in",
			Field:  "deviceId",
		}
	}
	if err != nil {
		return nil, err
	}
	s.admission.sessions.Doubt(user, request.GetDeviceId())
	return &tegamiv1.RevokeDeviceResponse{}, nil
}

// tokenPair is what a device gets when it signs in.
type tokenPair struct {
	access, refresh string
	expires         time.Time
	device          string
}

// signIn gives a device of a user a session and its tokens. A device without a
// name gets one.
func (s *Server) signIn(ctx context.Context, user, device string) (tokenPair, error) {
	if device == "" {
		made, err := uuid.NewV7()
		if err != nil {
			return tokenPair{}, err
		}
		device = made.String()
	}
	secret, hash := auth.NewRefreshSecret()
	session, err := s.talk.SignIn(ctx, user, device, hash)
	if err != nil {
		return tokenPair{}, err
	}
	return s.issue(session, secret)
}

// issue makes the tokens of a session that the talk tier has just confirmed.
func (s *Server) issue(session talk.Session, secret auth.RefreshSecret) (tokenPair, error) {
	s.admission.sessions.Confirm(session)
	access, expires, err := s.tokens.IssueAccess(session)
	if err != nil {
		return tokenPair{}, err
	}
	return tokenPair{
		access:  access,
		refresh: s.tokens.IssueRefresh(session, secret),
		expires: expires,
		device:  session.Device,
	}, nil
}

func refusedWith(err error, reason refusal.Reason) bool {
	refused, ok := errors.AsType[*refusal.Refusal](err)
	return ok && refused.Reason == reason
}

// inField returns the fault of err with the field that it is about.
func inField(field string, err error) error {
	f := *fault.From(err)
	f.Field = field
	return &f
}
