package e2e

import (
	"testing"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Settings are the user's or a device's; every device hears of a change, and
// they are there after a crash.
func TestSettings(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	alice.JSON = true
	tablet := device(t, server, "alice", "tablet")

	get := func(u user) *tegamiv1.GetSettingsResponse {
		t.Helper()
		return call(u, "SettingsService/GetSettings", &tegamiv1.GetSettingsRequest{}, new(tegamiv1.GetSettingsResponse))
	}
	if got := get(alice); !got.Settings.GetReadReceipts() || got.Settings.GetMayWrite() != tegamiv1.Audience_EVERYONE || !got.DeviceSettings.GetNotifications() {
		t.Errorf("defaults are %v", got)
	}
	call(alice, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{
		Settings: &tegamiv1.Settings{ReadReceipts: new(false), Language: new("pt-BR")},
	}, new(tegamiv1.UpdateSettingsResponse))
	call(tablet, "SettingsService/UpdateDeviceSettings", &tegamiv1.UpdateDeviceSettingsRequest{
		Settings: &tegamiv1.DeviceSettings{QuietHours: &tegamiv1.QuietHours{StartMinute: 1320, EndMinute: 420, TimeZone: "Asia/Tokyo"}},
	}, new(tegamiv1.UpdateDeviceSettingsResponse))
	updated := call(alice, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"language"}},
	}, new(tegamiv1.UpdateSettingsResponse))
	if updated.Settings.GetReadReceipts() || updated.Settings.GetLanguage() != "" {
		t.Errorf("settings are %v", updated)
	}
	want(t, refused(alice, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"colour"}},
	}), "invalid_argument", "unknown_field")
	for range 2 {
		ops := tablet.fetch(0).GetOps()
		if len(ops) != 3 || ops[0].GetSettingsUpdated().GetSettings().GetLanguage() != "pt-BR" ||
			ops[1].GetSettingsUpdated().GetDeviceId() != "tablet" || ops[1].GetSettingsUpdated().GetDeviceSettings().GetQuietHours().GetTimeZone() != "Asia/Tokyo" ||
			ops[2].GetSettingsUpdated().GetSettings().GetReadReceipts() {
			t.Errorf("operations %v", ops)
		}
		if got := get(alice); got.Settings.GetReadReceipts() || got.DeviceSettings.QuietHours != nil {
			t.Errorf("alice's settings are %v", got)
		}
		if got := get(tablet); got.Settings.GetReadReceipts() || got.DeviceSettings.QuietHours.GetStartMinute() != 1320 || !got.DeviceSettings.GetPreviews() {
			t.Errorf("the tablet's settings are %v", got)
		}
		server.Kill()
		server.Start()
	}
}

// A profile is shown to those whom its owner lets see it, and friends have it.
func TestProfiles(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	call(alice, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: "bob"}, new(tegamiv1.RequestFriendResponse))
	call(bob, "ContactService/AcceptFriend", &tegamiv1.AcceptFriendRequest{UserId: "alice"}, new(tegamiv1.AcceptFriendResponse))
	call(bob, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{
		Settings: &tegamiv1.Settings{SeesStatusMessage: tegamiv1.Audience_FRIENDS.Enum()},
	}, new(tegamiv1.UpdateSettingsResponse))
	before := alice.head()
	call(bob, "ProfileService/UpdateProfile", &tegamiv1.UpdateProfileRequest{
		Profile: &tegamiv1.Profile{DisplayName: new("Bobby"), StatusMessage: new("眠い"), Avatar: new("pictures/7")},
	}, new(tegamiv1.UpdateProfileResponse))

	ops := alice.fetch(before).GetOps()
	if len(ops) != 1 || ops[0].GetContactUpdated().GetProfile().GetStatusMessage() != "眠い" {
		t.Errorf("alice hears %v", ops)
	}
	for _, viewer := range []struct {
		user
		status string
	}{{bob, "眠い"}, {alice, "眠い"}, {carol, ""}} {
		got := call(viewer.user, "ProfileService/GetProfile", &tegamiv1.GetProfileRequest{UserId: "bob"}, new(tegamiv1.GetProfileResponse)).Profile
		if got.GetDisplayName() != "Bobby" || got.GetStatusMessage() != viewer.status || got.GetAvatar() != "pictures/7" {
			t.Errorf("%s sees %v", viewer.name, got)
		}
	}
	found := call(carol, "ContactService/FindUser", &tegamiv1.FindUserRequest{UserId: "bob"}, new(tegamiv1.FindUserResponse))
	if found.DisplayName != "Bobby" {
		t.Errorf("carol finds %v", found)
	}
	want(t, refused(carol, "ProfileService/GetProfile", &tegamiv1.GetProfileRequest{UserId: "nobody"}), "not_found", "unknown_recipient")
}

func TestMessagesOfFriendsAlone(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	call(bob, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{
		Settings: &tegamiv1.Settings{MayWrite: tegamiv1.Audience_FRIENDS.Enum()},
	}, new(tegamiv1.UpdateSettingsResponse))
	want(t, refused(alice, "TalkService/SendMessage", text("bob", "hello")), "permission_denied", "not_friends")
	if head := alice.head(); head != 0 {
		t.Errorf("alice has %d operations", head)
	}
}
