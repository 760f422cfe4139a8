package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
)

// TestSessionsAreOfAllGateways signs devices in at one gateway and has another
// serve them, each with a signing key of its own; signs them out at the first, and
// replaces its key.
func TestSessionsAreOfAllGateways(t *testing.T) {
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka, stack.Etcd)
	config := onServers(t, servers)
	talk := node(t, "talk", "talk-1", freeAddress(t), config)
	talk.Start()
	first, second := node(t, "gateway", "gateway-1", freeAddress(t), config), node(t, "gateway", "gateway-2", freeAddress(t), config)
	first.Start()
	second.Start()
	awaitMembers(t, config, "gateway-1", "gateway-2", "talk-1")
	first.CreateUsers("alice", "bob")

	at := func(server *process.Server, tokens *tegamiv1.IssueTokenResponse) *process.Client {
		c := &process.Client{HTTP: process.HTTP2(), URL: server.URL(), Token: tokens.GetAccessToken()}
		t.Cleanup(c.HTTP.CloseIdleConnections)
		return c
	}
	send := func(c *process.Client) error {
		request := &tegamiv1.SendMessageRequest{To: "bob", Body: &tegamiv1.SendMessageRequest_Text{Text: "hello"}}
		return c.Call(t.Context(), "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse))
	}
	signedOut := func(err error) bool {
		refused, ok := errors.AsType[*process.Error](err)
		return ok && refused.Code == "unauthenticated"
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	old := first.SignIn("alice", "tablet")
	tablet := at(first, old)
	revoke := func(device string) {
		t.Helper()
		must(tablet.Call(t.Context(), "AuthService/RevokeDevice", &tegamiv1.RevokeDeviceRequest{DeviceId: device}, new(tegamiv1.RevokeDeviceResponse)))
	}
	for _, polls := range []bool{true, false} {
		phone := at(second, first.SignIn("alice", "phone"))
		must(send(phone))
		polled := make(chan error, 1)
		if polls {
			held := second.Metric("tegami_polls_held")
			go func() {
				head := new(tegamiv1.GetHeadResponse)
				err := phone.Call(t.Context(), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, head)
				if err == nil {
					request := &tegamiv1.FetchOpsRequest{AfterRevision: head.GetRevision(), Timeout: durationpb.New(time.Minute)}
					err = phone.Call(t.Context(), "TalkService/FetchOps", request, new(tegamiv1.FetchOpsResponse))
				}
				polled <- err
			}()
			for began := time.Now(); second.Metric("tegami_polls_held") == held; <-time.After(10 * time.Millisecond) {
				if time.Since(began) > hangLimit {
					t.Fatal("the poll is not held")
				}
			}
		}
		revoke("phone")
		began := time.Now()
		if polls {
			if err := <-polled; !signedOut(err) {
				t.Errorf("the poll of a device that was signed out: %v", err)
			}
		}
		for !signedOut(send(phone)) {
			if time.Since(began) > hangLimit {
				t.Fatal("a device that was signed out is served on")
			}
			<-time.After(50 * time.Millisecond)
		}
		t.Logf("progress: signed out at one gateway, refused at another %d ms later; polls: %v", time.Since(began).Milliseconds(), polls)
	}

	// A new key: what the old one signed stays good, everywhere.
	first.Stop()
	if err := os.Remove(filepath.Join(first.Data(), "signing.key")); err != nil {
		t.Fatal(err)
	}
	first.Start()
	for _, server := range []*process.Server{first, second} {
		must(send(at(server, old)))
		must(send(at(server, first.SignIn("alice", "watch"))))
	}
	renewed := new(tegamiv1.RefreshResponse)
	must(at(second, old).Call(t.Context(), "AuthService/Refresh", &tegamiv1.RefreshRequest{RefreshToken: old.GetRefreshToken()}, renewed))
	must(send(at(first, &tegamiv1.IssueTokenResponse{AccessToken: renewed.GetAccessToken()})))
	for _, server := range []*process.Server{talk, first, second} {
		for _, complaint := range server.Complaints() {
			t.Errorf("complaint: %s", complaint)
		}
	}
}
