package server

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

// settingsService is SettingsService as Connect's handlers call it.
type settingsService struct{ *Server }

func (s settingsService) GetSettings(ctx context.Context, _ *tegamiv1.GetSettingsRequest) (*tegamiv1.GetSettingsResponse, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	settings, err := s.talk.Settings(ctx, callerOf(ctx))
	if err != nil {
		return nil, err
	}
	return &tegamiv1.GetSettingsResponse{
		Settings:       settingsOf(settings.User),
		DeviceSettings: deviceSettingsOf(settings.Device),
	}, nil
}

func (s settingsService) UpdateSettings(ctx context.Context, request *tegamiv1.UpdateSettingsRequest) (*tegamiv1.UpdateSettingsResponse, error) {
	changes := orEmpty(request.GetSettings())
	if err := validate.Settings("settings", changes); err != nil {
		return nil, err
	}
	fields, err := validate.Fields(changes, request.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	caller := callerOf(ctx)
	if err := s.talk.UpdateSettings(ctx, caller, recoded(changes, new(record.Settings)), fields); err != nil {
		return nil, err
	}
	settings, err := s.talk.Settings(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &tegamiv1.UpdateSettingsResponse{Settings: settingsOf(settings.User)}, nil
}

func (s settingsService) UpdateDeviceSettings(ctx context.Context, request *tegamiv1.UpdateDeviceSettingsRequest) (*tegamiv1.UpdateDeviceSettingsResponse, error) {
	changes := orEmpty(request.GetSettings())
	if err := validate.DeviceSettings("settings", changes); err != nil {
		return nil, err
	}
	fields, err := validate.Fields(changes, request.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	caller := callerOf(ctx)
	if err := s.talk.UpdateDeviceSettings(ctx, caller, recoded(changes, new(record.DeviceSettings)), fields); err != nil {
		return nil, err
	}
	settings, err := s.talk.Settings(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &tegamiv1.UpdateDeviceSettingsResponse{Settings: deviceSettingsOf(settings.Device)}, nil
}

// settingsOf returns settings in the form that clients get, defaults included.
func settingsOf(stored *record.Settings) *tegamiv1.Settings {
	s := recoded(stored, new(tegamiv1.Settings))
	setDefault(&s.MayWrite, tegamiv1.Audience_EVERYONE)
	setDefault(&s.ReadReceipts, true)
	setDefault(&s.Language, "")
	setDefault(&s.SeesStatusMessage, tegamiv1.Audience_EVERYONE)
	setDefault(&s.SeesAvatar, tegamiv1.Audience_EVERYONE)
	return s
}

func deviceSettingsOf(stored *record.DeviceSettings) *tegamiv1.DeviceSettings {
	s := recoded(stored, new(tegamiv1.DeviceSettings))
	setDefault(&s.Notifications, true)
	setDefault(&s.Previews, true)
	return s
}

func settingsUpdateOf(stored *record.SettingsUpdate) *tegamiv1.SettingsUpdate {
	update := &tegamiv1.SettingsUpdate{DeviceId: stored.GetDeviceId()}
	switch scope := stored.GetScope().(type) {
	case *record.SettingsUpdate_Settings:
		update.Scope = &tegamiv1.SettingsUpdate_Settings{Settings: settingsOf(scope.Settings)}
	case *record.SettingsUpdate_DeviceSettings:
		update.Scope = &tegamiv1.SettingsUpdate_DeviceSettings{DeviceSettings: deviceSettingsOf(scope.DeviceSettings)}
	}
	return update
}

func setDefault[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func orEmpty[T any](message *T) *T {
	if message == nil {
		return new(T)
	}
	return message
}

// recoded makes a stored message one of the API, or the other way round: where
// both have the same fields, their encoding is the same. Fields that neither
// knows are left out.
func recoded[M proto.Message](from proto.Message, to M) M {
	encoded, err := proto.Marshal(from)
	if err == nil {
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(encoded, to)
	}
	if err != nil {
		panic(fmt.Errorf("%T as %T: %w", from, to, err)) //nolint:forbidigo // texts were checked, and the fields are the same: a test sees to that
	}
	return to
}

// profileService is ProfileService as Connect's handlers call it.
type profileService struct{ *Server }

func (s profileService) GetProfile(ctx context.Context, request *tegamiv1.GetProfileRequest) (*tegamiv1.GetProfileResponse, error) {
	if err := validate.UserID("userId", request.GetUserId()); err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	profile, err := s.talk.Profile(ctx, callerOf(ctx).User, request.GetUserId())
	if err != nil {
		return nil, naming(err, fieldNames{refusal.UnknownRecipient: "userId"})
	}
	return &tegamiv1.GetProfileResponse{Profile: profileOf(profile)}, nil
}

func (s profileService) UpdateProfile(ctx context.Context, request *tegamiv1.UpdateProfileRequest) (*tegamiv1.UpdateProfileResponse, error) {
	changes := orEmpty(request.GetProfile())
	if err := validate.Profile("profile", changes); err != nil {
		return nil, err
	}
	fields, err := validate.Fields(changes, request.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	caller := callerOf(ctx)
	if err := s.talk.UpdateProfile(ctx, caller, recoded(changes, new(record.Profile)), fields); err != nil {
		return nil, err
	}
	profile, err := s.talk.Profile(ctx, caller.User, caller.User)
	if err != nil {
		return nil, err
	}
	return &tegamiv1.UpdateProfileResponse{Profile: profileOf(profile)}, nil
}

// profileOf returns a profile in the form that clients get; nil for none.
func profileOf(stored *record.Profile) *tegamiv1.Profile {
	if stored == nil {
		return nil
	}
	return &tegamiv1.Profile{
		DisplayName:   new(stored.GetDisplayName()),
		StatusMessage: new(stored.GetStatusMessage()),
		Avatar:        new(stored.GetAvatar()),
	}
}
