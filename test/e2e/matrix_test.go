package e2e

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// aimed fills in a request so that it is about a user wherever it can be.
func aimed(m protoreflect.Message, at, device string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.IsList() || field.IsMap() {
			continue
		}
		switch field.Name() {
		case "user_id", "peer", "to":
			m.Set(field, protoreflect.ValueOfString(at))
		case "device_id":
			m.Set(field, protoreflect.ValueOfString(device))
		case "text", "reaction", "code", "alias":
			m.Set(field, protoreflect.ValueOfString("aimed"))
		case "revision":
			m.Set(field, protoreflect.ValueOfInt64(1))
		case "settings", "profile":
			m.Set(field, protoreflect.ValueOfMessage(m.NewField(field).Message()))
		}
	}
}

// Bob calls every method that devices may call, aimed at Alice, whose mailbox
// holds what is between her and Carol. Nothing of that comes back, and nothing
// of Alice's changes but what others may do to her: write, ask, react.
func TestEveryMethodAimedAtAnother(t *testing.T) {
	server := start(t, "limits: {find_rate: 10000, find_burst: 10000}")
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	const private = "between two"
	carol.send(text("alice", private))
	bob.send(text("alice", "open")) // Bob's revision 1.
	call(alice, "ContactService/SetAlias", &tegamiv1.SetAliasRequest{UserId: "carol", Alias: private}, new(tegamiv1.SetAliasResponse))
	call(alice, "ProfileService/UpdateProfile", &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{StatusMessage: new(private)}}, new(tegamiv1.UpdateProfileResponse))
	call(alice, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{
		SeesStatusMessage: tegamiv1.Audience_NOBODY.Enum(), Language: new("between-two"),
	}}, new(tegamiv1.UpdateSettingsResponse))
	before := alice.head()

	methods := 0
	for name, who := range routes {
		if who != devices || name == "tegami.v1.AuthService.Logout" {
			continue
		}
		descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		method := descriptor.(protoreflect.MethodDescriptor)
		request, response := newMessage(t, method.Input()), newMessage(t, method.Output())
		aimed(request.ProtoReflect(), "alice", "phone")
		if method.Name() == "RevokeDevice" {
			aimed(request.ProtoReflect(), "alice", "tablet") // Alice's; Bob has none of that name.
		}
		methods++
		err = bob.Call(t.Context(), string(method.Parent().Name())+"/"+string(method.Name()), request, response)
		if refusal, ok := errors.AsType[*process.Error](err); err != nil && (!ok || refusal.Status >= 500) {
			t.Errorf("%s: %v", name, err)
		}
		answer, err := protojson.Marshal(response)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(answer), private) || strings.Contains(string(answer), "between-two") {
			t.Errorf("%s answers %s", name, answer)
		}
	}
	if methods < 30 {
		t.Errorf("%d methods were called", methods)
	}
	for _, op := range alice.fetch(before).GetOps() {
		switch kind := op.Kind.(type) {
		case *tegamiv1.Operation_ReceiveMessage:
			if kind.ReceiveMessage.From != "bob" {
				t.Errorf("alice received %v", op)
			}
		case *tegamiv1.Operation_ContactUpdated:
			if kind.ContactUpdated.UserId != "bob" || kind.ContactUpdated.Blocked || kind.ContactUpdated.Favorite || kind.ContactUpdated.Alias != "" {
				t.Errorf("alice received %v", op)
			}
		case *tegamiv1.Operation_MessageAmended:
			if kind.MessageAmended.By != "bob" || kind.MessageAmended.Peer != "bob" {
				t.Errorf("alice received %v", op)
			}
		default:
			t.Errorf("alice received %v", op)
		}
	}
	if got := alice.contacts(&tegamiv1.ListContactsRequest{}); !slices.Contains(got, "carol NONE alias "+private) {
		t.Errorf("alice's contacts are %v", got)
	}
}

func newMessage(t *testing.T, descriptor protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}
