package mailbox

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

var updateSettingsKind = kind{
	since:          3,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		switch scope := r.GetUpdateSettings().GetScope().(type) {
		case *record.UpdateSettings_Settings:
			return r.GetUpdateSettings().DeviceId != "" || !hasFields(scope.Settings, r.GetUpdateSettings().Fields)
		case *record.UpdateSettings_DeviceSettings:
			return r.GetUpdateSettings().DeviceId == "" || !hasFields(scope.DeviceSettings, r.GetUpdateSettings().Fields)
		}
		return true
	},
	decide: func(d *decision, r *record.Record) { d.updateSettings(r.GetUpdateSettings()) },
}

// updateSettings changes settings of the user or of a device. What friends may
// see of the profile may change with them.
func (d *decision) updateSettings(c *record.UpdateSettings) {
	if c.DeviceId != "" {
		d.updateDeviceSettings(c)
		return
	}
	old := d.parts.settings
	settings := merged(old, c.GetSettings(), c.Fields)
	if proto.Equal(old, settings) || old == nil && proto.Size(settings) == 0 {
		return
	}
	if !d.operate(&record.Operation{
		OriginDevice: c.OriginDevice,
		Kind: &record.Operation_SettingsUpdated{SettingsUpdated: &record.SettingsUpdate{
			Scope: &record.SettingsUpdate_Settings{Settings: settings},
		}},
	}) {
		return
	}
	d.changePart(settingsPart, "", settings)
	d.tellFriends(d.profile(), settings)
}

func (d *decision) updateDeviceSettings(c *record.UpdateSettings) {
	if d.device(c.DeviceId) == nil {
		d.refuse(refusal.UnknownDevice)
		return
	}
	old := d.parts.devices[c.DeviceId]
	settings := merged(old, c.GetDeviceSettings(), c.Fields)
	if proto.Equal(old, settings) || old == nil && proto.Size(settings) == 0 {
		return
	}
	if !d.operate(&record.Operation{
		OriginDevice: c.OriginDevice,
		Kind: &record.Operation_SettingsUpdated{SettingsUpdated: &record.SettingsUpdate{
			DeviceId: c.DeviceId, Scope: &record.SettingsUpdate_DeviceSettings{DeviceSettings: settings},
		}},
	}) {
		return
	}
	d.changePart(settingsPart, c.DeviceId, settings)
	for _, device := range sortedKeys(d.parts.devices) {
		if d.device(device) == nil { // signed out since
			d.changePart(settingsPart, device, nil)
		}
	}
}

// mayWrite reports whether the owner takes messages of a user.
func (d *decision) mayWrite(user string) bool {
	return user == d.user || d.parts.settings.GetMayWrite() != record.Audience_AUDIENCE_FRIENDS ||
		d.parts.contact(user).GetRelation() == record.Relation_RELATION_FRIEND
}

// Settings returns the settings that the owner made, and those made for a
// device; what was not made is not set. They are shared, and never nil.
func (s *State) Settings(device string) (*record.Settings, *record.DeviceSettings) {
	settings, deviceSettings := s.parts.settings, s.parts.devices[device]
	if settings == nil {
		settings = new(record.Settings)
	}
	if deviceSettings == nil {
		deviceSettings = new(record.DeviceSettings)
	}
	return settings, deviceSettings
}

// hasFields reports whether a message has fields of all these names.
func hasFields(m proto.Message, names []string) bool {
	fields := m.ProtoReflect().Descriptor().Fields()
	for _, name := range names {
		if fields.ByName(protoreflect.Name(name)) == nil {
			return false
		}
	}
	return true
}

// merged returns a message like old, which may be nil, with the fields of these
// names as they are in changes.
func merged[M proto.Message](old, changes M, names []string) M {
	result := proto.Clone(changes).ProtoReflect().New()
	if old.ProtoReflect().IsValid() {
		result = proto.Clone(old).ProtoReflect()
	}
	from := changes.ProtoReflect()
	for _, name := range names {
		field := result.Descriptor().Fields().ByName(protoreflect.Name(name))
		if from.Has(field) {
			result.Set(field, from.Get(field))
		} else {
			result.Clear(field)
		}
	}
	return result.Interface().(M)
}
