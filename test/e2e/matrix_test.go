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

// target is what a call is aimed at: a user, or a chat in a user's place, a device
// of that user's, and a chat.
type target struct{ user, device, chat string }

// aims has, for the fields of requests that say what a call is about, how they are
// aimed at a target; the others of neutral say how it is done. A field that is in
// neither fails the test: whoever adds one decides here whether it leads to what is
// another's.
var (
	aims = map[protoreflect.Name]func(target) protoreflect.Value{
		"user_id":   func(at target) protoreflect.Value { return protoreflect.ValueOfString(at.user) },
		"peer":      func(at target) protoreflect.Value { return protoreflect.ValueOfString(at.user) },
		"to":        func(at target) protoreflect.Value { return protoreflect.ValueOfString(at.user) },
		"device_id": func(at target) protoreflect.Value { return protoreflect.ValueOfString(at.device) },
		"chat_id":   func(at target) protoreflect.Value { return protoreflect.ValueOfString(at.chat) },
		"user_ids":  func(target) protoreflect.Value { return protoreflect.ValueOfString("bob") },
		"role": func(target) protoreflect.Value {
			return protoreflect.ValueOfEnum(tegamiv1.ChatRole_CHAT_ADMIN.Number())
		},
		"text":     aimedText,
		"reaction": aimedText,
		"code":     aimedText,
		"alias":    aimedText,
		"name":     aimedText,
		"revision": func(target) protoreflect.Value { return protoreflect.ValueOfInt64(1) },
	}
	neutral = []protoreflect.Name{
		"settings", "profile", "update_mask", "favorite", "pinned", "muted", "limit", "page_token", "since_revision", "before",
		"after_revision", "timeout", "categories", "client_message_id", "content", "reply_to", "mentions", "client_chat_id", "history", "invite",
	}
)

func aimedText(target) protoreflect.Value { return protoreflect.ValueOfString("aimed") }

// aimed fills in a request so that it is about a target wherever it can be.
func aimed(t *testing.T, m protoreflect.Message, at target) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		aim, ok := aims[field.Name()]
		switch {
		case ok && field.IsList():
			m.Mutable(field).List().Append(aim(at))
		case ok:
			m.Set(field, aim(at))
		case !slices.Contains(neutral, field.Name()):
			t.Errorf("%s is neither aimed at anybody nor neutral", field.FullName())
		case field.Kind() == protoreflect.MessageKind && !field.IsList() && field.ContainingOneof() == nil && field.Name() != "timeout" && field.Name() != "update_mask":
			m.Set(field, protoreflect.ValueOfMessage(m.NewField(field).Message()))
		}
	}
}

// Bob calls every method that devices may call, aimed at Alice, whose mailbox
// holds what is between her and Carol, and at their chat. Nothing of that comes
// back, and nothing of Alice's changes but what others may do to her: write, ask,
// react.
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
	chat := call(alice, "ChatService/CreateChat", &tegamiv1.CreateChatRequest{Name: private, Invite: []string{"carol"}}, new(tegamiv1.CreateChatResponse)).GetChat().GetChatId()
	alice.send(text(chat, private))
	before := alice.head()

	called := 0
	for _, user := range []string{"alice", chat} {
		called += aimAll(t, bob, target{user: user, device: "phone", chat: chat}, private)
	}
	if called < 60 {
		t.Errorf("%d methods were called", called)
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

// aimAll has a user call every method that devices may call, aimed at a target, none
// of which may answer with what is private, and returns how many there are.
func aimAll(t *testing.T, by user, at target, private string) (called int) {
	t.Helper()
	for _, method := range methods() {
		if routes[method.FullName()] != devices || method.Name() == "Logout" {
			continue
		}
		request, response := newMessage(t, method.Input()), newMessage(t, method.Output())
		aim := at
		if method.Name() == "RevokeDevice" {
			aim.device = "tablet" // Alice's; Bob has none of that name.
		}
		aimed(t, request.ProtoReflect(), aim)
		called++
		err := by.Call(t.Context(), procedureOf(method), request, response)
		if refusal, ok := errors.AsType[*process.Error](err); err != nil && (!ok || refusal.Status >= 500) {
			t.Errorf("%s: %v", method.FullName(), err)
		}
		answer, err := protojson.Marshal(response)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(answer), private) || strings.Contains(string(answer), "between-two") {
			t.Errorf("%s answers %s", method.FullName(), answer)
		}
	}
	return called
}

func newMessage(t *testing.T, descriptor protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}
