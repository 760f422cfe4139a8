package e2e

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Who may call a method.
const (
	anybody = "anybody"
	devices = "signed-in devices"
	admins  = "the admin"
)

// routes has a row for every method. A method without a row fails the test:
// whoever adds one decides here who may call it.
var routes = map[protoreflect.FullName]string{
	"tegami.v1.AuthService.Register":                 anybody,
	"tegami.v1.GatewayService.ListGateways":          anybody,
	"tegami.v1.AuthService.Login":                    anybody,
	"tegami.v1.AuthService.Refresh":                  anybody,
	"tegami.v1.AuthService.Logout":                   devices,
	"tegami.v1.AuthService.ListDevices":              devices,
	"tegami.v1.AuthService.RevokeDevice":             devices,
	"tegami.v1.TalkService.SendMessage":              devices,
	"tegami.v1.TalkService.FetchOps":                 devices,
	"tegami.v1.TalkService.GetHead":                  devices,
	"tegami.v1.TalkService.ListMessages":             devices,
	"tegami.v1.ContactService.FindUser":              devices,
	"tegami.v1.ContactService.RequestFriend":         devices,
	"tegami.v1.ContactService.AcceptFriend":          devices,
	"tegami.v1.ContactService.DeclineFriend":         devices,
	"tegami.v1.ContactService.RemoveFriend":          devices,
	"tegami.v1.ContactService.ListContacts":          devices,
	"tegami.v1.ContactService.Block":                 devices,
	"tegami.v1.ContactService.Unblock":               devices,
	"tegami.v1.ContactService.ListBlocked":           devices,
	"tegami.v1.ContactService.SetFavorite":           devices,
	"tegami.v1.ContactService.SetAlias":              devices,
	"tegami.v1.ContactService.CreateInvitation":      devices,
	"tegami.v1.ContactService.RedeemInvitation":      devices,
	"tegami.v1.SettingsService.GetSettings":          devices,
	"tegami.v1.SettingsService.UpdateSettings":       devices,
	"tegami.v1.SettingsService.UpdateDeviceSettings": devices,
	"tegami.v1.ProfileService.GetProfile":            devices,
	"tegami.v1.ProfileService.UpdateProfile":         devices,
	"tegami.v1.TalkService.MarkRead":                 devices,
	"tegami.v1.TalkService.ListConversations":        devices,
	"tegami.v1.TalkService.UpdateConversation":       devices,
	"tegami.v1.TalkService.UnsendMessage":            devices,
	"tegami.v1.TalkService.EditMessage":              devices,
	"tegami.v1.TalkService.ReactToMessage":           devices,
	"tegami.v1.TalkService.ForwardMessage":           devices,
	"tegami.v1.TalkService.Sync":                     devices,
	"tegami.v1.ChatService.CreateChat":               devices,
	"tegami.v1.ChatService.InviteToChat":             devices,
	"tegami.v1.ChatService.AcceptInvitation":         devices,
	"tegami.v1.ChatService.DeclineInvitation":        devices,
	"tegami.v1.ChatService.JoinByLink":               devices,
	"tegami.v1.ChatService.LeaveChat":                devices,
	"tegami.v1.ChatService.RemoveFromChat":           devices,
	"tegami.v1.ChatService.SetChatRole":              devices,
	"tegami.v1.ChatService.UpdateChat":               devices,
	"tegami.v1.ChatService.CreateChatLink":           devices,
	"tegami.v1.ChatService.RevokeChatLink":           devices,
	"tegami.v1.ChatService.GetChat":                  devices,
	"tegami.v1.ChatService.ListChats":                devices,
	"tegami.v1.ChatService.ListMembers":              devices,
	"tegami.v1.AdminService.CreateUsers":             admins,
	"tegami.v1.AdminService.IssueToken":              admins,
}

// TestRoutes calls every method at both doors as nobody, as a user, and as the
// admin, with an empty request. Only those who may get as far as being told
// what is wrong with it.
func TestRoutes(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	alice.JSON = true
	admin := adminUser(t, server)
	callers := map[string]string{"nobody": "", "alice": alice.Token, "the admin": admin.Token}

	for _, method := range methods() {
		who, ok := routes[method.FullName()]
		if !ok {
			t.Errorf("%s has no row: who may call it?", method.FullName())
			continue
		}
		procedure := procedureOf(method)
		for name, token := range callers {
			if procedure == "AuthService/Logout" && name == "alice" {
				continue // She may, and the test would end for her.
			}
			public := statusOf(t, alice.with(token), procedure)
			private := statusOf(t, admin.with(token), procedure)
			check := func(door string, status int, allowed bool) {
				t.Helper()
				turnedAway := status == http.StatusNotFound || status == http.StatusUnauthorized && who != anybody
				if status >= 500 || turnedAway == allowed {
					t.Errorf("%s by %s at %s: status %d, allowed %v", procedure, name, door, status, allowed)
				}
			}
			check("the public door", public, who == anybody || who == devices && name == "alice")
			check("the admin door", private, who == admins && name == "the admin")
		}
	}
	if n := len(methods()); n != len(routes) {
		t.Errorf("the schema has %d methods, and %d have a row", n, len(routes))
	}
}

// methods returns all that the schema has, whatever file they are in.
func methods() (all []protoreflect.MethodDescriptor) {
	protoregistry.GlobalFiles.RangeFilesByPackage("tegami.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			of := file.Services().Get(i).Methods()
			for j := range of.Len() {
				all = append(all, of.Get(j))
			}
		}
		return true
	})
	return all
}

func procedureOf(method protoreflect.MethodDescriptor) string {
	return string(method.Parent().Name()) + "/" + string(method.Name())
}

// statusOf calls a method with an empty request.
func statusOf(t *testing.T, u user, procedure string) int {
	t.Helper()
	response, err := u.Post(t.Context(), procedure, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
