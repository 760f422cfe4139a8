package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
)

// caller says whose token a method asks for.
type caller int

const (
	noToken caller = iota
	deviceToken
	operatorToken
)

// route is a method of the API with what the matrices need to know of it.
type route struct {
	procedure string
	caller    caller
	// request makes one that succeeds for a device of its user, whose peer is
	// the other. n is new each time.
	request func(self, peer device, n string) proto.Message
	// prepare, unless nil, is what the request needs to have been done before.
	prepare func(f *fakeTalk, self, peer device)
	// response makes an empty one.
	response func() proto.Message
}

func (r route) name() string { return r.procedure[strings.LastIndexByte(r.procedure, '/')+1:] }

// token returns the token that the route asks for.
func (r route) token(self device) string {
	switch r.caller {
	case deviceToken:
		return self.access
	case operatorToken:
		return adminToken
	default:
		return ""
	}
}

func (r route) prepareFor(f *fakeTalk, self, peer device) {
	if r.prepare != nil {
		r.prepare(f, self, peer)
	}
}

// befriended has the peer ask for friendship.
func befriended(f *fakeTalk, self, peer device) {
	_ = f.Befriend(context.Background(), talk.Session{User: peer.user}, self.user, talk.RequestFriend) // both exist
}

// written has the peer write.
func written(f *fakeTalk, self, peer device) {
	f.Send(context.Background(), talk.Send{From: peer.user, To: self.user, Body: talk.Body{Text: "hello"}, Answer: func(talk.Sent, error) {}})
}

// rows has what is known of each route. routes fails a test when one is
// missing.
var rows = map[string]route{
	tegamiv1connect.AuthServiceRegisterProcedure: {caller: noToken, request: func(_, _ device, n string) proto.Message {
		return &tegamiv1.RegisterRequest{UserId: "new-" + n, Password: "a password", DisplayName: "New"}
	}},
	tegamiv1connect.AuthServiceLoginProcedure: {caller: noToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.LoginRequest{UserId: "registered", Password: "correct horse"}
	}},
	tegamiv1connect.AuthServiceRefreshProcedure: {caller: noToken, request: func(self, _ device, _ string) proto.Message {
		return &tegamiv1.RefreshRequest{RefreshToken: self.refresh}
	}},
	tegamiv1connect.AuthServiceLogoutProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.LogoutRequest{}
	}},
	tegamiv1connect.AuthServiceListDevicesProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.ListDevicesRequest{}
	}},
	tegamiv1connect.AuthServiceRevokeDeviceProcedure: {caller: deviceToken, request: func(self, _ device, _ string) proto.Message {
		return &tegamiv1.RevokeDeviceRequest{DeviceId: self.id}
	}},
	tegamiv1connect.TalkServiceSendMessageProcedure: {caller: deviceToken, request: func(_, peer device, n string) proto.Message {
		return &tegamiv1.SendMessageRequest{To: peer.user, Body: &tegamiv1.SendMessageRequest_Text{Text: "hello"}, ClientMessageId: n}
	}},
	tegamiv1connect.TalkServiceFetchOpsProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.FetchOpsRequest{Limit: 1000, Timeout: durationpb.New(time.Millisecond)}
	}},
	tegamiv1connect.TalkServiceGetHeadProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.GetHeadRequest{}
	}},
	tegamiv1connect.TalkServiceListMessagesProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.ListMessagesRequest{Peer: peer.user}
	}},
	tegamiv1connect.ContactServiceFindUserProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.FindUserRequest{UserId: peer.user}
	}},
	tegamiv1connect.ContactServiceRequestFriendProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.RequestFriendRequest{UserId: peer.user}
	}},
	tegamiv1connect.ContactServiceRemoveFriendProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.RemoveFriendRequest{UserId: peer.user}
	}},
	tegamiv1connect.ContactServiceBlockProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.BlockRequest{UserId: peer.user}
	}},
	tegamiv1connect.ContactServiceUnblockProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.UnblockRequest{UserId: peer.user}
	}},
	tegamiv1connect.ContactServiceSetFavoriteProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.SetFavoriteRequest{UserId: peer.user, Favorite: true}
	}},
	tegamiv1connect.ContactServiceSetAliasProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.SetAliasRequest{UserId: peer.user, Alias: "Buddy"}
	}},
	tegamiv1connect.ContactServiceAcceptFriendProcedure: {caller: deviceToken, prepare: befriended, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.AcceptFriendRequest{UserId: peer.user}
	}},
	tegamiv1connect.ContactServiceDeclineFriendProcedure: {caller: deviceToken, prepare: befriended, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.DeclineFriendRequest{UserId: peer.user}
	}},
	tegamiv1connect.ContactServiceListContactsProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.ListContactsRequest{}
	}},
	tegamiv1connect.ContactServiceListBlockedProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.ListBlockedRequest{}
	}},
	tegamiv1connect.ContactServiceCreateInvitationProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.CreateInvitationRequest{}
	}},
	tegamiv1connect.ContactServiceRedeemInvitationProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.RedeemInvitationRequest{Code: fakeCode + peer.user}
	}},
	tegamiv1connect.SettingsServiceGetSettingsProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.GetSettingsRequest{}
	}},
	tegamiv1connect.SettingsServiceUpdateSettingsProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{ReadReceipts: new(false)}}
	}},
	tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.UpdateDeviceSettingsRequest{Settings: &tegamiv1.DeviceSettings{Previews: new(false)}}
	}},
	tegamiv1connect.ProfileServiceGetProfileProcedure: {caller: deviceToken, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.GetProfileRequest{UserId: peer.user}
	}},
	tegamiv1connect.ProfileServiceUpdateProfileProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{Avatar: new("picture")}}
	}},
	tegamiv1connect.TalkServiceMarkReadProcedure: {caller: deviceToken, prepare: written, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.MarkReadRequest{Peer: peer.user, Revision: 1}
	}},
	tegamiv1connect.TalkServiceUpdateConversationProcedure: {caller: deviceToken, prepare: written, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.UpdateConversationRequest{Peer: peer.user, Muted: new(true)}
	}},
	tegamiv1connect.TalkServiceListConversationsProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.ListConversationsRequest{}
	}},
	tegamiv1connect.TalkServiceUnsendMessageProcedure: {caller: deviceToken, prepare: written, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.UnsendMessageRequest{Peer: peer.user, Revision: 1}
	}},
	tegamiv1connect.TalkServiceEditMessageProcedure: {caller: deviceToken, prepare: written, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.EditMessageRequest{Peer: peer.user, Revision: 1, Text: "better"}
	}},
	tegamiv1connect.TalkServiceReactToMessageProcedure: {caller: deviceToken, prepare: written, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.ReactToMessageRequest{Peer: peer.user, Revision: 1, Reaction: "👍"}
	}},
	tegamiv1connect.TalkServiceForwardMessageProcedure: {caller: deviceToken, prepare: written, request: func(self, peer device, _ string) proto.Message {
		return &tegamiv1.ForwardMessageRequest{Peer: peer.user, Revision: 1, To: self.user}
	}},
	tegamiv1connect.TalkServiceSyncProcedure: {caller: deviceToken, prepare: written, request: func(device, device, string) proto.Message {
		return &tegamiv1.SyncRequest{}
	}},
	tegamiv1connect.GatewayServiceListGatewaysProcedure: {caller: noToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.ListGatewaysRequest{}
	}},
	tegamiv1connect.ChatServiceCreateChatProcedure: {caller: deviceToken, request: func(_, peer device, n string) proto.Message {
		return &tegamiv1.CreateChatRequest{Name: "friends", ClientChatId: n, Invite: []string{peer.user}}
	}},
	tegamiv1connect.ChatServiceInviteToChatProcedure: {caller: deviceToken, prepare: gathered, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.InviteToChatRequest{ChatId: fakeChatID, UserIds: []string{peer.user}}
	}},
	tegamiv1connect.ChatServiceAcceptInvitationProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.AcceptInvitationRequest{ChatId: fakeChatID}
	}},
	tegamiv1connect.ChatServiceDeclineInvitationProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.DeclineInvitationRequest{ChatId: fakeChatID}
	}},
	tegamiv1connect.ChatServiceJoinByLinkProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.JoinByLinkRequest{Code: fakeCode + fakeChatID}
	}},
	tegamiv1connect.ChatServiceLeaveChatProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.LeaveChatRequest{ChatId: fakeChatID}
	}},
	tegamiv1connect.ChatServiceRemoveFromChatProcedure: {caller: deviceToken, prepare: gathered, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.RemoveFromChatRequest{ChatId: fakeChatID, UserId: peer.user}
	}},
	tegamiv1connect.ChatServiceSetChatRoleProcedure: {caller: deviceToken, prepare: gathered, request: func(_, peer device, _ string) proto.Message {
		return &tegamiv1.SetChatRoleRequest{ChatId: fakeChatID, UserId: peer.user, Role: tegamiv1.ChatRole_CHAT_ADMIN}
	}},
	tegamiv1connect.ChatServiceUpdateChatProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.UpdateChatRequest{ChatId: fakeChatID, Name: new("best friends")}
	}},
	tegamiv1connect.ChatServiceCreateChatLinkProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.CreateChatLinkRequest{ChatId: fakeChatID}
	}},
	tegamiv1connect.ChatServiceRevokeChatLinkProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.RevokeChatLinkRequest{ChatId: fakeChatID}
	}},
	tegamiv1connect.ChatServiceGetChatProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.GetChatRequest{ChatId: fakeChatID}
	}},
	tegamiv1connect.ChatServiceListChatsProcedure: {caller: deviceToken, request: func(device, device, string) proto.Message {
		return &tegamiv1.ListChatsRequest{}
	}},
	tegamiv1connect.ChatServiceListMembersProcedure: {caller: deviceToken, prepare: gathered, request: func(device, device, string) proto.Message {
		return &tegamiv1.ListMembersRequest{ChatId: fakeChatID}
	}},
	tegamiv1connect.AdminServiceCreateUsersProcedure: {caller: operatorToken, request: func(_, _ device, n string) proto.Message {
		return &tegamiv1.CreateUsersRequest{Users: []*tegamiv1.NewUser{{UserId: "made-" + n}}}
	}},
	tegamiv1connect.AdminServiceIssueTokenProcedure: {caller: operatorToken, request: func(_, _ device, n string) proto.Message {
		return &tegamiv1.IssueTokenRequest{UserId: "registered", DeviceId: "device-" + n}
	}},
}

// routes returns every method of the schema with its row.
func routes(t testing.TB) []route {
	t.Helper()
	var all []route
	protoregistry.GlobalFiles.RangeFilesByPackage("tegami.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				method := methods.Get(j)
				procedure := "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
				row, ok := rows[procedure]
				if !ok {
					t.Fatalf("%s has no row in the matrix", procedure)
				}
				output, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
				if err != nil {
					t.Fatal(err)
				}
				row.procedure = procedure
				row.response = func() proto.Message { return output.New().Interface() }
				all = append(all, row)
			}
		}
		return true
	})
	if len(all) != len(rows) {
		t.Fatalf("the schema has %d methods, the matrix %d rows", len(all), len(rows))
	}
	return all
}
