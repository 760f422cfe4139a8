package server_test

import (
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
)

// The main job in every protocol: register, sign in, hold a poll, send, get the
// message.
func TestEveryClientSendsToAHeldPoll(t *testing.T) {
	e := start(t, nil)
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t)
			suffix := string(rune('a' + i))
			alice := register(t, c, "alice-"+suffix)
			bob := register(t, c, "bob-"+suffix)

			got := make(chan *tegamiv1.FetchOpsResponse, 1)
			go func() {
				defer close(got)
				var page tegamiv1.FetchOpsResponse
				if err := c.call(ctx, tegamiv1connect.TalkServiceFetchOpsProcedure, bob.access,
					&tegamiv1.FetchOpsRequest{Timeout: durationpb.New(hangLimit)}, &page); err != nil {
					t.Errorf("poll: %v", err)
					return
				}
				got <- &page
			}()
			var sent tegamiv1.SendMessageResponse
			if err := c.call(ctx, tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, &tegamiv1.SendMessageRequest{
				To: bob.user, Body: &tegamiv1.SendMessageRequest_Text{Text: "こんにちは"}, ClientMessageId: "first",
			}, &sent); err != nil {
				t.Fatal(err)
			}
			page, ok := <-got
			if !ok {
				return
			}
			if page.GetReason() != tegamiv1.FetchOpsResponse_OPERATIONS || page.GetRevision() != 1 || len(page.GetOps()) != 1 {
				t.Fatalf("got the page %v", page)
			}
			message := page.GetOps()[0].GetReceiveMessage()
			if message.GetMessageId() != sent.GetMessageId() || message.GetText() != "こんにちは" || message.GetFrom() != alice.user ||
				message.GetTo() != bob.user || message.GetClientMessageId() != "first" || message.GetRevision() != 1 {
				t.Errorf("got the message %v", message)
			}
			if !message.GetCreateTime().AsTime().Equal(sent.GetCreateTime().AsTime()) {
				t.Errorf("the message is of %v, its answer of %v", message.GetCreateTime(), sent.GetCreateTime())
			}
		})
	}
}

// register makes a user with a password and signs a device in.
func register(t testing.TB, c client, user string) device {
	t.Helper()
	ctx := within(t)
	if err := c.call(ctx, tegamiv1connect.AuthServiceRegisterProcedure, "",
		&tegamiv1.RegisterRequest{UserId: user, Password: "correct horse"}, &tegamiv1.RegisterResponse{}); err != nil {
		t.Fatal(err)
	}
	var login tegamiv1.LoginResponse
	if err := c.call(ctx, tegamiv1connect.AuthServiceLoginProcedure, "",
		&tegamiv1.LoginRequest{UserId: user, Password: "correct horse"}, &login); err != nil {
		t.Fatal(err)
	}
	return device{user, login.GetDeviceId(), login.GetAccessToken(), login.GetRefreshToken()}
}
