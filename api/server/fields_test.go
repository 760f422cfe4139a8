package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
)

func textTo(to, text string) *tegamiv1.SendMessageRequest {
	return &tegamiv1.SendMessageRequest{To: to, Body: &tegamiv1.SendMessageRequest_Text{Text: text}}
}

func contentTo(to, mimeType string, data []byte) *tegamiv1.SendMessageRequest {
	return &tegamiv1.SendMessageRequest{To: to, Body: &tegamiv1.SendMessageRequest_Content{
		Content: &tegamiv1.Content{MimeType: mimeType, Data: data},
	}}
}

func withID(id string) *tegamiv1.SendMessageRequest {
	request := textTo("bob", "hi")
	request.ClientMessageId = id
	return request
}

// referring returns a request with references, and a text of two code points.
func referring(replyTo string, mentions ...*tegamiv1.Mention) *tegamiv1.SendMessageRequest {
	request := textTo("bob", "紙紙")
	request.ReplyTo, request.Mentions = replyTo, mentions
	for i := range mentions {
		if mentions[i] == nil {
			mentions[i] = &tegamiv1.Mention{UserId: "bob", Length: 1}
		}
	}
	return request
}

// users returns n users of which the last is the given one.
func users(n int, last *tegamiv1.NewUser) *tegamiv1.CreateUsersRequest {
	request := &tegamiv1.CreateUsersRequest{}
	for i := range n - 1 {
		request.Users = append(request.Users, &tegamiv1.NewUser{UserId: fmt.Sprintf("many-%d", i)})
	}
	request.Users = append(request.Users, last)
	return request
}

var (
	long64  = strings.Repeat("a", 64)
	long65  = strings.Repeat("a", 65)
	ideo10k = strings.Repeat("紙", 10_000) // code points count, not bytes
)

// badFields has a request for each rule about a field, one beyond it.
var badFields = []struct {
	procedure string
	request   proto.Message
	field     string
	reason    string
}{
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{}, "userId", "required"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "ab", Password: "12345678"}, "userId", "too_short"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: long65, Password: "12345678"}, "userId", "too_long"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "1abc", Password: "12345678"}, "userId", "bad_character"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "Alice", Password: "12345678"}, "userId", "bad_character"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "al ice", Password: "12345678"}, "userId", "bad_character"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "alicé", Password: "12345678"}, "userId", "bad_character"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "newcomer"}, "password", "required"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "newcomer", Password: "1234567"}, "password", "too_short"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "newcomer", Password: strings.Repeat("p", 257)}, "password", "too_long"},
	{tegamiv1connect.AuthServiceRegisterProcedure, &tegamiv1.RegisterRequest{UserId: "newcomer", Password: "12345678", DisplayName: strings.Repeat("名", 257)}, "displayName", "too_long"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{Password: "12345678"}, "userId", "required"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{UserId: "NOBODY", Password: "12345678"}, "userId", "bad_character"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{UserId: "nobody"}, "password", "required"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{UserId: "nobody", Password: strings.Repeat("p", 257)}, "password", "too_long"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{UserId: "nobody", Password: "12345678", DeviceId: long65}, "deviceId", "too_long"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{UserId: "nobody", Password: "12345678", DeviceId: "my phone"}, "deviceId", "bad_character"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{}, "userId", "required"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{UserId: "nobody", Password: "12345678", IdToken: "a.b.c"}, "idToken", "ambiguous"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{IdToken: strings.Repeat("a", 16<<10+1)}, "idToken", "too_long"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{IdToken: "a.b.c\n"}, "idToken", "bad_character"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{UserId: "NOBODY", IdToken: "a.b.c"}, "userId", "bad_character"},
	{tegamiv1connect.AuthServiceLoginProcedure, &tegamiv1.LoginRequest{IdToken: "a.b.c", DeviceId: long65}, "deviceId", "too_long"},
	{tegamiv1connect.AuthServiceRevokeDeviceProcedure, &tegamiv1.RevokeDeviceRequest{}, "deviceId", "required"},
	{tegamiv1connect.AuthServiceRevokeDeviceProcedure, &tegamiv1.RevokeDeviceRequest{DeviceId: "a/b"}, "deviceId", "bad_character"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, &tegamiv1.SendMessageRequest{}, "to", "required"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, textTo("Bob", "hi"), "to", "bad_character"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, &tegamiv1.SendMessageRequest{To: "bob"}, "text", "required"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, textTo("bob", ""), "text", "required"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, textTo("bob", ideo10k+"紙"), "text", "too_long"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, contentTo("bob", "", []byte("x")), "content.mimeType", "required"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, contentTo("bob", strings.Repeat("m", 256), nil), "content.mimeType", "too_long"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, contentTo("bob", "image/é", nil), "content.mimeType", "bad_character"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, contentTo("bob", "image/webp", make([]byte, 64<<10+1)), "content.data", "too_large"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, withID(long65), "clientMessageId", "too_long"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, withID("a\nb"), "clientMessageId", "bad_character"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, withID("é"), "clientMessageId", "bad_character"},
	{tegamiv1connect.TalkServiceFetchOpsProcedure, &tegamiv1.FetchOpsRequest{AfterRevision: -1}, "afterRevision", "out_of_bounds"},
	{tegamiv1connect.TalkServiceFetchOpsProcedure, &tegamiv1.FetchOpsRequest{Limit: -1}, "limit", "out_of_bounds"},
	{tegamiv1connect.TalkServiceFetchOpsProcedure, &tegamiv1.FetchOpsRequest{Limit: 1001}, "limit", "out_of_bounds"},
	{tegamiv1connect.TalkServiceFetchOpsProcedure, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(-1)}, "timeout", "out_of_bounds"},
	{tegamiv1connect.TalkServiceFetchOpsProcedure, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(120*time.Second + 1)}, "timeout", "out_of_bounds"},
	{tegamiv1connect.TalkServiceListMessagesProcedure, &tegamiv1.ListMessagesRequest{}, "peer", "required"},
	{tegamiv1connect.TalkServiceListMessagesProcedure, &tegamiv1.ListMessagesRequest{Peer: "a"}, "peer", "too_short"},
	{tegamiv1connect.TalkServiceListMessagesProcedure, &tegamiv1.ListMessagesRequest{Peer: "bob", Before: -1}, "before", "out_of_bounds"},
	{tegamiv1connect.TalkServiceListMessagesProcedure, &tegamiv1.ListMessagesRequest{Peer: "bob", Limit: -5}, "limit", "out_of_bounds"},
	{tegamiv1connect.TalkServiceListMessagesProcedure, &tegamiv1.ListMessagesRequest{Peer: "bob", Limit: 1001}, "limit", "out_of_bounds"},
	{tegamiv1connect.ContactServiceFindUserProcedure, &tegamiv1.FindUserRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceRequestFriendProcedure, &tegamiv1.RequestFriendRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceAcceptFriendProcedure, &tegamiv1.AcceptFriendRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceDeclineFriendProcedure, &tegamiv1.DeclineFriendRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceRemoveFriendProcedure, &tegamiv1.RemoveFriendRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceBlockProcedure, &tegamiv1.BlockRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceUnblockProcedure, &tegamiv1.UnblockRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceSetFavoriteProcedure, &tegamiv1.SetFavoriteRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceSetAliasProcedure, &tegamiv1.SetAliasRequest{}, "userId", "required"},
	{tegamiv1connect.ContactServiceRequestFriendProcedure, &tegamiv1.RequestFriendRequest{UserId: "alice"}, "userId", "yourself"},
	{tegamiv1connect.ContactServiceBlockProcedure, &tegamiv1.BlockRequest{UserId: "alice"}, "userId", "yourself"},
	{tegamiv1connect.ContactServiceSetAliasProcedure, &tegamiv1.SetAliasRequest{UserId: "bob", Alias: strings.Repeat("名", 65)}, "alias", "too_long"},
	{tegamiv1connect.ContactServiceListContactsProcedure, &tegamiv1.ListContactsRequest{Limit: 1001}, "limit", "out_of_bounds"},
	{tegamiv1connect.ContactServiceListContactsProcedure, &tegamiv1.ListContactsRequest{SinceRevision: -1}, "sinceRevision", "out_of_bounds"},
	{tegamiv1connect.ContactServiceListContactsProcedure, &tegamiv1.ListContactsRequest{PageToken: "?"}, "pageToken", "too_short"},
	{tegamiv1connect.ContactServiceListBlockedProcedure, &tegamiv1.ListBlockedRequest{Limit: -1}, "limit", "out_of_bounds"},
	{tegamiv1connect.ContactServiceRedeemInvitationProcedure, &tegamiv1.RedeemInvitationRequest{}, "code", "required"},
	{tegamiv1connect.ContactServiceRedeemInvitationProcedure, &tegamiv1.RedeemInvitationRequest{Code: strings.Repeat("c", 129)}, "code", "too_long"},
	{tegamiv1connect.ContactServiceRedeemInvitationProcedure, &tegamiv1.RedeemInvitationRequest{Code: fakeCode + "alice"}, "code", "yourself"},
	{tegamiv1connect.SettingsServiceUpdateSettingsProcedure, &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{MayWrite: tegamiv1.Audience_NOBODY.Enum()}}, "settings.mayWrite", "out_of_bounds"},
	{tegamiv1connect.SettingsServiceUpdateSettingsProcedure, &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{SeesAvatar: tegamiv1.Audience(9).Enum()}}, "settings.seesAvatar", "out_of_bounds"},
	{tegamiv1connect.SettingsServiceUpdateSettingsProcedure, &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{SeesStatusMessage: tegamiv1.Audience(0).Enum()}}, "settings.seesStatusMessage", "out_of_bounds"},
	{tegamiv1connect.SettingsServiceUpdateSettingsProcedure, &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{Language: new(long64)}}, "settings.language", "too_long"},
	{tegamiv1connect.SettingsServiceUpdateSettingsProcedure, &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{Language: new("日本語")}}, "settings.language", "bad_character"},
	{tegamiv1connect.SettingsServiceUpdateSettingsProcedure, &tegamiv1.UpdateSettingsRequest{UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"colour"}}}, "updateMask", "unknown_field"},
	{tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure, &tegamiv1.UpdateDeviceSettingsRequest{Settings: &tegamiv1.DeviceSettings{QuietHours: &tegamiv1.QuietHours{StartMinute: -1}}}, "settings.quietHours.startMinute", "out_of_bounds"},
	{tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure, &tegamiv1.UpdateDeviceSettingsRequest{Settings: &tegamiv1.DeviceSettings{QuietHours: &tegamiv1.QuietHours{EndMinute: 1440}}}, "settings.quietHours.endMinute", "out_of_bounds"},
	{tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure, &tegamiv1.UpdateDeviceSettingsRequest{Settings: &tegamiv1.DeviceSettings{QuietHours: &tegamiv1.QuietHours{}}}, "settings.quietHours.timeZone", "required"},
	{tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure, &tegamiv1.UpdateDeviceSettingsRequest{Settings: &tegamiv1.DeviceSettings{QuietHours: &tegamiv1.QuietHours{TimeZone: "Asia Tokyo"}}}, "settings.quietHours.timeZone", "bad_character"},
	{tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure, &tegamiv1.UpdateDeviceSettingsRequest{Settings: &tegamiv1.DeviceSettings{QuietHours: &tegamiv1.QuietHours{TimeZone: long65}}}, "settings.quietHours.timeZone", "too_long"},
	{tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure, &tegamiv1.UpdateDeviceSettingsRequest{UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"language"}}}, "updateMask", "unknown_field"},
	{tegamiv1connect.ProfileServiceGetProfileProcedure, &tegamiv1.GetProfileRequest{}, "userId", "required"},
	{tegamiv1connect.ProfileServiceUpdateProfileProcedure, &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{DisplayName: new(strings.Repeat("名", 257))}}, "profile.displayName", "too_long"},
	{tegamiv1connect.ProfileServiceUpdateProfileProcedure, &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{StatusMessage: new(strings.Repeat("名", 501))}}, "profile.statusMessage", "too_long"},
	{tegamiv1connect.ProfileServiceUpdateProfileProcedure, &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{Avatar: new(strings.Repeat("a", 513))}}, "profile.avatar", "too_long"},
	{tegamiv1connect.ProfileServiceUpdateProfileProcedure, &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{Avatar: new("é")}}, "profile.avatar", "bad_character"},
	{tegamiv1connect.TalkServiceMarkReadProcedure, &tegamiv1.MarkReadRequest{Revision: 1}, "peer", "required"},
	{tegamiv1connect.TalkServiceMarkReadProcedure, &tegamiv1.MarkReadRequest{Peer: "bob"}, "revision", "out_of_bounds"},
	{tegamiv1connect.TalkServiceUpdateConversationProcedure, &tegamiv1.UpdateConversationRequest{}, "peer", "required"},
	{tegamiv1connect.TalkServiceListConversationsProcedure, &tegamiv1.ListConversationsRequest{Limit: 1001}, "limit", "out_of_bounds"},
	{tegamiv1connect.TalkServiceListConversationsProcedure, &tegamiv1.ListConversationsRequest{SinceRevision: -1}, "sinceRevision", "out_of_bounds"},
	{tegamiv1connect.TalkServiceListConversationsProcedure, &tegamiv1.ListConversationsRequest{PageToken: "bob"}, "pageToken", "bad_character"},
	{tegamiv1connect.TalkServiceUnsendMessageProcedure, &tegamiv1.UnsendMessageRequest{Revision: 1}, "peer", "required"},
	{tegamiv1connect.TalkServiceUnsendMessageProcedure, &tegamiv1.UnsendMessageRequest{Peer: "bob"}, "revision", "out_of_bounds"},
	{tegamiv1connect.TalkServiceEditMessageProcedure, &tegamiv1.EditMessageRequest{Peer: "bob", Revision: 1}, "text", "required"},
	{tegamiv1connect.TalkServiceEditMessageProcedure, &tegamiv1.EditMessageRequest{Peer: "bob", Revision: 1, Text: ideo10k + "紙"}, "text", "too_long"},
	{tegamiv1connect.TalkServiceEditMessageProcedure, &tegamiv1.EditMessageRequest{Revision: 1, Text: "x"}, "peer", "required"},
	{tegamiv1connect.TalkServiceReactToMessageProcedure, &tegamiv1.ReactToMessageRequest{Peer: "bob"}, "revision", "out_of_bounds"},
	{tegamiv1connect.TalkServiceReactToMessageProcedure, &tegamiv1.ReactToMessageRequest{Peer: "bob", Revision: 1, Reaction: strings.Repeat("r", 33)}, "reaction", "too_long"},
	{tegamiv1connect.TalkServiceForwardMessageProcedure, &tegamiv1.ForwardMessageRequest{Revision: 1, To: "bob"}, "peer", "required"},
	{tegamiv1connect.TalkServiceForwardMessageProcedure, &tegamiv1.ForwardMessageRequest{Peer: "bob", To: "bob"}, "revision", "out_of_bounds"},
	{tegamiv1connect.TalkServiceForwardMessageProcedure, &tegamiv1.ForwardMessageRequest{Peer: "bob", Revision: 1}, "to", "required"},
	{tegamiv1connect.TalkServiceForwardMessageProcedure, &tegamiv1.ForwardMessageRequest{Peer: "bob", Revision: 1, To: "bob", ClientMessageId: long65}, "clientMessageId", "too_long"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, referring("urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"), "replyTo", "bad_character"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, referring("x"), "replyTo", "bad_character"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, referring("", &tegamiv1.Mention{Length: 1}), "mentions[0].userId", "required"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, referring("", &tegamiv1.Mention{UserId: "bob", Length: 2}, &tegamiv1.Mention{UserId: "bob", Start: 1, Length: 2}), "mentions[1]", "out_of_bounds"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, referring("", &tegamiv1.Mention{UserId: "bob"}), "mentions[0]", "out_of_bounds"},
	{tegamiv1connect.TalkServiceSendMessageProcedure, referring("", make([]*tegamiv1.Mention, 21)...), "mentions", "too_many"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{Limit: 2}, "limit", "out_of_bounds"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{Limit: 1001}, "limit", "out_of_bounds"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{Categories: []tegamiv1.SyncCategory{1, 9}}, "categories[1]", "out_of_bounds"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{PageToken: "?"}, "pageToken", "bad_character"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{PageToken: "3"}, "pageToken", "bad_character"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{PageToken: "9.x"}, "pageToken", "bad_character"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{PageToken: "1.x"}, "pageToken", "bad_character"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{PageToken: "3.?"}, "pageToken", "bad_character"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{PageToken: "4.BOB"}, "pageToken", "bad_character"},
	{tegamiv1connect.TalkServiceSyncProcedure, &tegamiv1.SyncRequest{PageToken: "4.-1"}, "pageToken", "bad_character"},
	{tegamiv1connect.AdminServiceCreateUsersProcedure, users(5001, &tegamiv1.NewUser{UserId: "bob"}), "users", "too_many"},
	{tegamiv1connect.AdminServiceCreateUsersProcedure, users(4, &tegamiv1.NewUser{}), "users[3].userId", "required"},
	{tegamiv1connect.AdminServiceCreateUsersProcedure, users(1, &tegamiv1.NewUser{UserId: "bob", DisplayName: strings.Repeat("n", 257)}), "users[0].displayName", "too_long"},
	{tegamiv1connect.AdminServiceIssueTokenProcedure, &tegamiv1.IssueTokenRequest{}, "userId", "required"},
	{tegamiv1connect.AdminServiceIssueTokenProcedure, &tegamiv1.IssueTokenRequest{UserId: "bob", DeviceId: "a b"}, "deviceId", "bad_character"},
}

func TestFieldsBeyondTheirRules(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice", "bob")[0]
	byProcedure := map[string]route{}
	for _, r := range routes(t) {
		byProcedure[r.procedure] = r
	}
	for _, c := range e.clients(t) {
		for _, b := range badFields {
			r := byProcedure[b.procedure]
			t.Run(c.name+"/"+r.name()+"/"+b.field+"/"+b.reason, func(t *testing.T) {
				err := c.call(within(t), b.procedure, r.token(alice), b.request, r.response())
				f := failureOf(t, err)
				if f.code != "invalid_argument" || f.detail.GetField() != b.field || f.detail.GetReason() != b.reason {
					t.Errorf("got %v, want invalid_argument, field %s, reason %s", f, b.field, b.reason)
				}
			})
		}
	}
	if _, err := e.talk.Head(t.Context(), "newcomer"); err == nil {
		t.Error("a user was made by a request that was refused")
	}
}

// What lies exactly on a rule is accepted and comes back as it was.
func TestFieldsAtTheirRules(t *testing.T) {
	e := start(t, nil)
	devices := e.signIn(t, "abc", long64)
	short, long := devices[0], devices[1]
	for n, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			bodies := []*tegamiv1.SendMessageRequest{
				textTo(long64, ideo10k),
				textTo(long64, " "),
				textTo(long64, "\x00 not trimmed, \u200d not normalised: e\u0301 \n"),
				textTo(long64, "\U0010ffff\ufffd\ufeff"),
				contentTo(long64, strings.Repeat("m", 255), bytes.Repeat([]byte{0xff}, 64<<10)),
				contentTo(long64, "a", nil),
			}
			ids := []string{fmt.Sprintf("%064d", n), fmt.Sprintf(" ~%d ", n)}
			for i, request := range bodies {
				if i < len(ids) {
					request.ClientMessageId = ids[i]
				}
				var sent tegamiv1.SendMessageResponse
				if err := c.call(ctx, tegamiv1connect.TalkServiceSendMessageProcedure, short.access, request, &sent); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				var page tegamiv1.ListMessagesResponse
				if err := c.call(ctx, tegamiv1connect.TalkServiceListMessagesProcedure, long.access,
					&tegamiv1.ListMessagesRequest{Peer: "abc", Limit: 1}, &page); err != nil {
					t.Fatal(err)
				}
				got := page.GetMessages()[0]
				if got.GetText() != request.GetText() || !proto.Equal(got.GetContent(), request.GetContent()) {
					t.Errorf("message %d came back different", i)
				}
				if request.GetClientMessageId() != "" && got.GetClientMessageId() != request.GetClientMessageId() || got.GetClientMessageId() == "" {
					t.Errorf("message %d has the client message id %q", i, got.GetClientMessageId())
				}
			}
			for _, request := range []*tegamiv1.FetchOpsRequest{{Limit: 1000}, {Limit: 1}, {Timeout: durationpb.New(120 * time.Second)}} {
				err := c.call(ctx, tegamiv1connect.TalkServiceFetchOpsProcedure, long.access, request, &tegamiv1.FetchOpsResponse{})
				if refused, ok := errors.AsType[*failed](err); ok && refused.detail.GetReason() == "poll_too_often" {
					// The large page before it, on another connection, is here whole, and not over there.
					<-time.After(time.Second)
					err = c.call(ctx, tegamiv1connect.TalkServiceFetchOpsProcedure, long.access, request, &tegamiv1.FetchOpsResponse{})
				}
				if err != nil {
					t.Errorf("%v: %v", request, err)
				}
			}
		})
	}
}

// Strings that are not UTF-8 cannot come from a proper client.
func TestStringsThatAreNotUTF8(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice", "bob")[0]
	bytesField := func(n protowire.Number, content string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), content)
	}
	cases := []struct{ procedure, json, field string }{
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"to": "bob", "text": "` + "a\xffb" + `"}`, ""},
		{tegamiv1connect.AuthServiceRegisterProcedure, `{"displayName": "` + "\xc3(" + `"}`, ""},
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"to": "bob", "text": "\ud800"}`, "text"}, // half a surrogate pair
	}
	raw := []struct {
		procedure string
		message   []byte
		field     string
	}{
		{tegamiv1connect.TalkServiceSendMessageProcedure, append(bytesField(1, "bob"), bytesField(2, "a\xffb")...), "text"},
		{tegamiv1connect.TalkServiceSendMessageProcedure, append(bytesField(1, "bob"), bytesField(3, string(bytesField(1, "\xff")))...), "content.mimeType"},
		{tegamiv1connect.AuthServiceRegisterProcedure, bytesField(3, "\xc3("), "displayName"},
		{tegamiv1connect.AuthServiceLoginProcedure, bytesField(4, "\xc3("), "idToken"},
		{tegamiv1connect.AdminServiceCreateUsersProcedure, append(bytesField(1, string(bytesField(1, "bob"))), bytesField(1, string(bytesField(2, "\xff")))...), "users[1].displayName"},
	}
	token := func(procedure string) string {
		if strings.Contains(procedure, "Admin") {
			return adminToken
		}
		return alice.access
	}
	for _, w := range wires {
		check := func(procedure string, body []byte, field string) {
			got, err := post(within(t), e.httpClient(t, w.major), e.urlOf(procedure)+procedure, w.contentType, token(procedure), bytes.NewReader(w.frame(body)))
			if err != nil {
				t.Fatal(err)
			}
			if f := w.failure(t, got); f.code != "invalid_argument" || f.detail.GetField() != field {
				t.Errorf("%v: %q: %v", w, body, f)
			}
		}
		if w.json() {
			for _, c := range cases {
				check(c.procedure, []byte(c.json), c.field)
			}
			continue
		}
		for _, c := range raw {
			check(c.procedure, c.message, c.field)
		}
	}
}

// JSON values of the wrong type name their field, however deep it lies.
func TestJSONValuesOfTheWrongType(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, c := range []struct{ procedure, json, field, reason string }{
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"to": 7}`, "to", "malformed"},
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"text": {"a": 1}}`, "text", "malformed"},
		{tegamiv1connect.AuthServiceLoginProcedure, `{"idToken": {"alg": "none"}}`, "idToken", "malformed"},
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"content": "x"}`, "content", "malformed"},
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"content": {"mimeType": "a/b", "data": "***"}}`, "content.data", "malformed"},
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"content": {"mimeTyp": "a/b"}}`, "content.mimeTyp", "unknown_field"},
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"text": "a", "content": {"mimeType": "a/b"}}`, "content", "malformed"},
		{tegamiv1connect.TalkServiceSendMessageProcedure, `{"to": "bob", "to": "eve"}`, "to", "malformed"},
		{tegamiv1connect.TalkServiceFetchOpsProcedure, `{"afterRevision": "many"}`, "afterRevision", "malformed"},
		{tegamiv1connect.TalkServiceFetchOpsProcedure, `{"afterRevision": 9223372036854775808}`, "afterRevision", "malformed"},
		{tegamiv1connect.TalkServiceFetchOpsProcedure, `{"limit": 1.5}`, "limit", "malformed"},
		{tegamiv1connect.TalkServiceFetchOpsProcedure, `{"limit": 3000000000}`, "limit", "malformed"},
		{tegamiv1connect.TalkServiceFetchOpsProcedure, `{"timeout": 25}`, "timeout", "malformed"},
		{tegamiv1connect.TalkServiceFetchOpsProcedure, `{"timeout": "25"}`, "timeout", "malformed"},
		{tegamiv1connect.TalkServiceFetchOpsProcedure, `{"timeout": {"seconds": 25}}`, "timeout", "malformed"},
		{tegamiv1connect.AdminServiceCreateUsersProcedure, `{"users": {}}`, "users", "malformed"},
		{tegamiv1connect.AdminServiceCreateUsersProcedure, `{"users": [{"userId": "abc"}, {"user": "x"}]}`, "users[1].user", "unknown_field"},
		{tegamiv1connect.AdminServiceCreateUsersProcedure, `{"users": [{"userId": "abc"}, 3]}`, "users[1]", "malformed"},
	} {
		for _, w := range wires {
			if !w.json() {
				continue
			}
			token := alice.access
			if strings.Contains(c.procedure, "Admin") {
				token = adminToken
			}
			got, err := post(within(t), e.httpClient(t, w.major), e.urlOf(c.procedure)+c.procedure, w.contentType, token, bytes.NewReader(w.frame([]byte(c.json))))
			if err != nil {
				t.Fatal(err)
			}
			if f := w.failure(t, got); f.code != "invalid_argument" || f.detail.GetField() != c.field || f.detail.GetReason() != c.reason {
				t.Errorf("%v: %s: %v", w, c.json, f)
			}
		}
	}
}
