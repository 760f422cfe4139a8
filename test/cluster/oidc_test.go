package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/openid"
	"github.com/tegami-im/tegami/test/process"
)

// TestGatewayTakesIDTokens has a gateway sign users of a provider in, whose
// accounts the talk node behind it makes.
func TestGatewayTakesIDTokens(t *testing.T) {
	provider := openid.Start(t)
	address := freeAddress(t)
	config := fmt.Sprintf(`
auth: {oidc_issuer: %q, oidc_audience: %q, oidc_ca: %q, oidc_register: true}
behaviours: {run: echo=echo}
data: {shards: 16}
cluster: {membership: static, members: "talk-1=%s"}
`, provider.Issuer(), openid.Audience, provider.CA(), address)
	talk, gateway := node(t, "talk", "talk-1", address, config), node(t, "gateway", "gateway-1", freeAddress(t), config)
	talk.Start()
	gateway.Start()
	client := &process.Client{HTTP: process.HTTP2(), URL: gateway.URL()}
	t.Cleanup(client.HTTP.CloseIdleConnections)
	var signedIn tegamiv1.LoginResponse
	if err := client.Call(t.Context(), "AuthService/Login", &tegamiv1.LoginRequest{IdToken: provider.Token(nil)}, &signedIn); err != nil {
		t.Fatal(err)
	}
	client.Token = signedIn.GetAccessToken()
	if err := client.Call(t.Context(), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{}); err != nil {
		t.Error(err)
	}
	// Nobody becomes a behaviour.
	err := client.Call(t.Context(), "AuthService/Login", &tegamiv1.LoginRequest{IdToken: provider.Token(jwt.MapClaims{"sub": "echo"})}, &signedIn)
	if refusal, ok := errors.AsType[*process.Error](err); !ok || refusal.Detail.GetReason() != "bad_user" {
		t.Errorf("as a behaviour: %v", err)
	}
}
