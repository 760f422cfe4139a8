package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

func adminUser(t *testing.T, server *process.Server) user {
	t.Helper()
	return user{Client: server.AdminClient(), t: t, name: "admin"}
}

func TestAdminToken(t *testing.T) {
	server := start(t)
	path := filepath.Join(server.Data(), "admin.token")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("admin.token has mode %o, want 600", mode)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	server.Start()
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("a restart changed admin.token (%v)", err)
	}
}

// Nobody but the bearer of the admin token is an admin, and nobody is one at
// the door that clients use.
func TestAdminCallsAreForTheAdmin(t *testing.T) {
	server := start(t)
	admin := adminUser(t, server)
	alice := signIn(t, server, "alice")[0]
	request := &tegamiv1.IssueTokenRequest{UserId: "alice", DeviceId: "x"}

	for name, bearer := range map[string]string{"no token": "", "a user's token": alice.Token, "nonsense": "nonsense"} {
		if refusal := refused(admin.with(bearer), "AdminService/IssueToken", request); refusal.Code != "unauthenticated" {
			t.Errorf("%s: got %v", name, refusal)
		}
	}
	for name, u := range map[string]user{"a user": alice, "the admin": alice.with(admin.Token)} {
		response, err := u.Post(t.Context(), "AdminService/IssueToken", "application/json", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusUnauthorized && response.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s calls the admin service at the public door: status %d", name, response.StatusCode)
		}
	}
	// And the admin token signs nobody in.
	if refusal := refused(alice.with(admin.Token), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}); refusal.Code != "unauthenticated" {
		t.Errorf("the admin token at the public door: %v", refusal)
	}
}

func TestCreateUsersMayBeRepeated(t *testing.T) {
	server := start(t)
	admin := adminUser(t, server)
	request := new(tegamiv1.CreateUsersRequest)
	for i := range 5000 {
		request.Users = append(request.Users, &tegamiv1.NewUser{UserId: fmt.Sprintf("user-%d", i)})
	}
	create := func() *tegamiv1.CreateUsersResponse {
		return call(admin, "AdminService/CreateUsers", request, new(tegamiv1.CreateUsersResponse))
	}
	if got := create(); got.GetCreated() != 5000 || len(got.GetExisting()) != 0 {
		t.Errorf("created %d, existing %d; want 5000 and 0", got.GetCreated(), len(got.GetExisting()))
	}
	request.Users[17].UserId = "a-new-one"
	if got := create(); got.GetCreated() != 1 || len(got.GetExisting()) != 4999 {
		t.Errorf("again: created %d, existing %d; want 1 and 4999", got.GetCreated(), len(got.GetExisting()))
	}
	request.Users = append(request.Users, &tegamiv1.NewUser{UserId: "one-more"})
	if refusal := refused(admin, "AdminService/CreateUsers", request); refusal.Code != "invalid_argument" {
		t.Errorf("5,001 users: %v", refusal)
	}
}

func TestIssueToken(t *testing.T) {
	server := start(t)
	admin := adminUser(t, server)
	alice := signIn(t, server, "alice")[0]
	alice.head()
	refusal := refused(admin, "AdminService/IssueToken", &tegamiv1.IssueTokenRequest{UserId: "nobody", DeviceId: "x"})
	if refusal.Code != "not_found" {
		t.Errorf("token for an unknown user: %v", refusal)
	}
	made := call(admin, "AdminService/IssueToken", &tegamiv1.IssueTokenRequest{UserId: "alice"}, new(tegamiv1.IssueTokenResponse))
	if made.GetDeviceId() == "" || made.GetRefreshToken() == "" || !made.GetExpireTime().IsValid() {
		t.Errorf("issued %v", made)
	}
	u := visitor(t, server)
	u.with(u.refresh(made.GetRefreshToken()).GetAccessToken()).head()
}

func TestOperatorsPages(t *testing.T) {
	server := start(t)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/"} {
		if get(t, "http://"+server.Admin+path) == "" {
			t.Errorf("%s is empty", path)
		}
		response, err := visitor(t, server).HTTP.Get(server.URL() + path) //nolint:noctx // A page.
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK && path != "/healthz" {
			t.Errorf("%s is open to clients", path)
		}
	}
}
