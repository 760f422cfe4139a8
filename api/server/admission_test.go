package server

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/limit"
	"github.com/tegami-im/tegami/config/reload"
)

func TestNetworksOfClients(t *testing.T) {
	for peer, want := range map[string]string{
		"192.0.2.7:1234":              "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1":        "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:1":    "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":            "fe80::/64",
		"127.0.0.1:1":                 "", // this machine
		"127.9.9.9:1":                 "",
		"[::1]:1":                     "",
		"[::ffff:127.0.0.1]:1":        "",
		"192.0.2.7":                   "192.0.2.7/32", // as a proxy tells it
		"@":                           "",             // no network peer
		"":                            "",
		"a-name-that-is-no-address:1": "",
	} {
		network, ok := networkOf(peer)
		if got := network.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%s comes from %s, %v, want %q", peer, got, ok, want)
		}
	}
}

// A proxy that is believed says where a client comes from, and the client does not.
func TestOriginsBehindProxies(t *testing.T) {
	const proxy, inner = "192.0.2.1:1234", "10.0.0.1"
	a := &admission{proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                       {"198.51.100.1:1", nil, "198.51.100.1:1"},
		"a client that claims to be one": {"198.51.100.1:1", []string{"203.0.113.1"}, "198.51.100.1:1"},
		"a proxy":                        {proxy, []string{"203.0.113.1"}, "203.0.113.1"},
		"a proxy that tells the port":    {proxy, []string{"203.0.113.1:80"}, "203.0.113.1:80"},
		"a proxy, IPv6":                  {"[::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		"a proxy behind another":         {proxy, []string{"203.0.113.1, " + inner}, "203.0.113.1"},
		"in several fields":              {proxy, []string{"203.0.113.1", inner}, "203.0.113.1"},
		"what the client wrote":          {proxy, []string{"198.51.100.7, 203.0.113.1"}, "203.0.113.1"},
		"a proxy's own request":          {proxy, nil, proxy},
		"nonsense":                       {proxy, []string{"203.0.113.1, unknown"}, proxy},
		"proxies alone":                  {proxy, []string{inner}, inner},
	} {
		if got := a.origin(c.peer, c.forwarded); got != c.want {
			t.Errorf("%s: comes from %s, want %s", name, got, c.want)
		}
	}
	if got := new(admission).origin(proxy, []string{"203.0.113.1"}); got != proxy {
		t.Errorf("nobody is believed: comes from %s", got)
	}
}

// Register, Login and Refresh share one limit for each network.
func TestSignInsAreLimitedByNetwork(t *testing.T) {
	a := &admission{signIns: limit.NewTable[netip.Prefix](limit.Rate{PerSecond: 0.1, Burst: 3}, 100)}
	for _, procedure := range []string{
		tegamiv1connect.AuthServiceRegisterProcedure, tegamiv1connect.AuthServiceLoginProcedure, tegamiv1connect.AuthServiceRefreshProcedure,
	} {
		if _, err := a.admit(t.Context(), procedure, "", "[2001:db8::1]:1"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.admit(t.Context(), tegamiv1connect.AuthServiceLoginProcedure, "", "[2001:db8::2]:2") // the same /64
	if refused, ok := errors.AsType[*refusal.Refusal](err); !ok || refused.Reason != refusal.RateLimited || refused.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	if _, err := a.admit(t.Context(), tegamiv1connect.AuthServiceLoginProcedure, "", "[2001:db8:0:1::1]:1"); err != nil {
		t.Errorf("another network: %v", err)
	}
}

// Nothing that tells whether there is a user, or makes work for all friends or all
// members of a chat, is free.
func TestWhatFindsIsLimited(t *testing.T) {
	for procedure := range rules {
		service, method, _ := strings.Cut(strings.TrimPrefix(procedure, "/tegami.v1."), "/")
		want := service == "ContactService" && !strings.HasPrefix(method, "List") ||
			service == "ChatService" && !strings.HasPrefix(method, "List") && method != "GetChat" ||
			slices.Contains([]string{"GetProfile", "UpdateProfile", "UpdateSettings"}, method)
		a := &admission{finds: limit.NewTable[string](limit.Rate{PerSecond: 0.1, Burst: 1}, 100)}
		alice := talk.Session{User: "alice", Device: "phone"}
		if err := a.limitCaller(tegamiv1connect.ContactServiceFindUserProcedure, alice); err != nil {
			t.Fatal(err)
		}
		switch procedure { // they have limits of their own
		case tegamiv1connect.TalkServiceSendMessageProcedure, tegamiv1connect.TalkServiceForwardMessageProcedure, tegamiv1connect.TalkServiceFetchOpsProcedure,
			tegamiv1connect.TalkServiceEditMessageProcedure, tegamiv1connect.TalkServiceUnsendMessageProcedure, tegamiv1connect.TalkServiceReactToMessageProcedure:
			continue
		}
		if limited := a.limitCaller(procedure, alice) != nil; limited != want {
			t.Errorf("%s: limited %v", procedure, limited)
		}
	}
}

// What finds people shares one limit for each user.
func TestFindsAreLimitedByUser(t *testing.T) {
	a := &admission{finds: limit.NewTable[string](limit.Rate{PerSecond: 0.1, Burst: 4}, 100)}
	alice := talk.Session{User: "alice", Device: "phone"}
	for _, procedure := range []string{
		tegamiv1connect.ContactServiceFindUserProcedure, tegamiv1connect.ContactServiceRequestFriendProcedure,
		tegamiv1connect.ContactServiceCreateInvitationProcedure, tegamiv1connect.ContactServiceRedeemInvitationProcedure,
	} {
		if err := a.limitCaller(procedure, alice); err != nil {
			t.Fatal(err)
		}
	}
	err := a.limitCaller(tegamiv1connect.ContactServiceFindUserProcedure, talk.Session{User: "alice", Device: "tablet"})
	if refused, ok := errors.AsType[*refusal.Refusal](err); !ok || refused.Reason != refusal.RateLimited || refused.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	if err := a.limitCaller(tegamiv1connect.ContactServiceListContactsProcedure, alice); err != nil {
		t.Errorf("listing: %v", err)
	}
	if err := a.limitCaller(tegamiv1connect.ContactServiceFindUserProcedure, talk.Session{User: "bob"}); err != nil {
		t.Errorf("another user: %v", err)
	}
}

// A method without a rule is closed, and every method has one.
func TestEveryMethodHasARule(t *testing.T) {
	methods := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("tegami.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				methods++
				procedure := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				if rules[procedure] == nobody {
					t.Errorf("%s has no rule", procedure)
				}
			}
		}
		return true
	})
	if methods != len(rules) {
		t.Errorf("%d methods, %d rules", methods, len(rules))
	}
	if _, err := new(admission).admit(t.Context(), "/tegami.v1.TalkService/Later", "", ""); !errors.Is(err, errNotAllowed) {
		t.Errorf("a method without a rule: %v", err)
	}
}

// A certificate is read again some seconds after it changed; one that cannot be
// read leaves the last in place.
func TestCertificatesAreReadAgain(t *testing.T) {
	files := TLSFiles{Cert: filepath.Join(t.TempDir(), "cert.pem"), Key: filepath.Join(t.TempDir(), "key.pem")}
	synctest.Test(t, func(t *testing.T) {
		serial := int64(0)
		install := func() {
			serial++
			WriteTestCertificate(t, files, serial)
			// The file system's clock may be coarser than two writes are apart.
			stamp := time.Now().Add(time.Duration(serial) * time.Minute)
			for _, path := range []string{files.Cert, files.Key} {
				if err := os.Chtimes(path, stamp, stamp); err != nil {
					t.Fatal(err)
				}
			}
		}
		install()
		c, err := loadCertificate(files, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		inUse := func() int64 {
			got, err := c.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			return got.Leaf.SerialNumber.Int64()
		}
		install()
		if got := inUse(); got != 1 {
			t.Errorf("certificate %d is in use before the next check", got)
		}
		<-time.After(reload.Every)
		if got := inUse(); got != 2 {
			t.Errorf("certificate %d is in use after the check, want the second", got)
		}
		if err := os.WriteFile(files.Key, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(reload.Every)
		if got := inUse(); got != 2 {
			t.Errorf("certificate %d is in use while its key is broken", got)
		}
		install()
		<-time.After(reload.Every)
		if got := inUse(); got != 3 {
			t.Errorf("certificate %d is in use, want the third", got)
		}
	})
}
