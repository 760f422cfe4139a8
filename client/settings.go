package client

import (
	"context"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

type (
	// Settings are those of a user, alike on all devices.
	Settings = tegamiv1.Settings
	// DeviceSettings are those of one device.
	DeviceSettings = tegamiv1.DeviceSettings
	// Profile is what a user shows to others.
	Profile = tegamiv1.Profile
)

// Settings returns the caller's settings and those of this device.
func (c *Client) Settings(ctx context.Context) (*Settings, *DeviceSettings, error) {
	var response tegamiv1.GetSettingsResponse
	err := c.call(ctx, callTimeout, "SettingsService/GetSettings", &tegamiv1.GetSettingsRequest{}, &response)
	return response.GetSettings(), response.GetDeviceSettings(), err
}

// UpdateSettings changes those of the caller's settings that are set.
func (c *Client) UpdateSettings(ctx context.Context, settings *Settings) error {
	request := &tegamiv1.UpdateSettingsRequest{Settings: settings}
	return c.call(ctx, callTimeout, "SettingsService/UpdateSettings", request, new(tegamiv1.UpdateSettingsResponse))
}

// UpdateDeviceSettings changes those of this device's settings that are set.
func (c *Client) UpdateDeviceSettings(ctx context.Context, settings *DeviceSettings) error {
	request := &tegamiv1.UpdateDeviceSettingsRequest{Settings: settings}
	return c.call(ctx, callTimeout, "SettingsService/UpdateDeviceSettings", request, new(tegamiv1.UpdateDeviceSettingsResponse))
}

// Profile returns what the caller may see of a user's profile. CodeNotFound: no
// such user.
func (c *Client) Profile(ctx context.Context, user string) (*Profile, error) {
	var response tegamiv1.GetProfileResponse
	err := c.call(ctx, callTimeout, "ProfileService/GetProfile", &tegamiv1.GetProfileRequest{UserId: user}, &response)
	return response.GetProfile(), err
}

// UpdateProfile changes those parts of the caller's profile that are set.
func (c *Client) UpdateProfile(ctx context.Context, profile *Profile) error {
	request := &tegamiv1.UpdateProfileRequest{Profile: profile}
	return c.call(ctx, callTimeout, "ProfileService/UpdateProfile", request, new(tegamiv1.UpdateProfileResponse))
}
