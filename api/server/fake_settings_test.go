package server_test

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
)

// The fake tier keeps what was last set, whatever the fields that are named.

func (f *fakeTalk) Settings(_ context.Context, session talk.Session) (talk.Settings, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Settings", session.User)
	if err != nil {
		return talk.Settings{}, err
	}
	return talk.Settings{User: &user.settings, Device: &user.deviceSettings}, nil
}

func (f *fakeTalk) UpdateSettings(_ context.Context, session talk.Session, settings *record.Settings, _ []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("UpdateSettings", session.User)
	if err == nil {
		proto.Merge(&user.settings, settings)
	}
	return err
}

func (f *fakeTalk) UpdateDeviceSettings(_ context.Context, session talk.Session, settings *record.DeviceSettings, _ []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("UpdateDeviceSettings", session.User)
	if err == nil {
		proto.Merge(&user.deviceSettings, settings)
	}
	return err
}

func (f *fakeTalk) Profile(_ context.Context, _, id string) (*record.Profile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Profile", id)
	if err != nil {
		return nil, err
	}
	return &user.profile, nil
}

func (f *fakeTalk) UpdateProfile(_ context.Context, session talk.Session, profile *record.Profile, _ []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("UpdateProfile", session.User)
	if err == nil {
		proto.Merge(&user.profile, profile)
	}
	return err
}
