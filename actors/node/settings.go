package node

import (
	"context"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
)

// Settings returns what settings a user and a device have made.
func (n *Node) Settings(ctx context.Context, session talk.Session) (talk.Settings, error) {
	known, err := n.query(ctx, session.User, &record.Query{About: &record.Query_SettingsOfDevice{SettingsOfDevice: session.Device}})
	return talk.Settings{User: known.GetSettings(), Device: known.GetDeviceSettings()}, err
}

// UpdateSettings changes those of a user's settings that are named.
func (n *Node) UpdateSettings(ctx context.Context, session talk.Session, settings *record.Settings, fields []string) error {
	return n.updateSettings(ctx, session.User, &record.UpdateSettings{
		OriginDevice: session.Device, Fields: fields, Scope: &record.UpdateSettings_Settings{Settings: settings},
	})
}

// UpdateDeviceSettings changes those of a device's settings that are named.
func (n *Node) UpdateDeviceSettings(ctx context.Context, session talk.Session, settings *record.DeviceSettings, fields []string) error {
	return n.updateSettings(ctx, session.User, &record.UpdateSettings{
		OriginDevice: session.Device, DeviceId: session.Device, Fields: fields,
		Scope: &record.UpdateSettings_DeviceSettings{DeviceSettings: settings},
	})
}

func (n *Node) updateSettings(ctx context.Context, user string, update *record.UpdateSettings) error {
	r := n.newRecord(user)
	r.Kind = &record.Record_UpdateSettings{UpdateSettings: update}
	_, err := n.do(ctx, r)
	return err
}

// Profile returns what a viewer may see of a user's profile.
func (n *Node) Profile(ctx context.Context, viewer, user string) (*record.Profile, error) {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_ProfileFor{ProfileFor: viewer}})
	return known.GetProfile(), err
}

// UpdateProfile changes those parts of a user's profile that are named.
func (n *Node) UpdateProfile(ctx context.Context, session talk.Session, profile *record.Profile, fields []string) error {
	r := n.newRecord(session.User)
	r.Kind = &record.Record_UpdateProfile{UpdateProfile: &record.UpdateProfile{
		OriginDevice: session.Device, Profile: profile, Fields: fields,
	}}
	_, err := n.do(ctx, r)
	return err
}
