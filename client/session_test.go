package client_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/client"
)

const (
	head    = "TalkService/GetHead"
	refresh = "AuthService/Refresh"
)

func TestSessionIsRenewedAheadOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.tokenLife = 15 * time.Minute
		c, err := server.login()
		if err != nil {
			t.Fatal(err)
		}
		for range 24 * 60 { // a day, a call a minute
			<-time.After(time.Minute)
			if _, _, err := c.Head(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := server.count(head); n != 24*60 {
			t.Errorf("%d calls: some were refused first", n)
		}
		if n := server.refreshes; n < 96 || n > 120 {
			t.Errorf("renewed %d times in a day", n)
		}
	})
}

func TestRefusedTokensAreRenewedOnceForAllCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		c, err := server.login()
		if err != nil {
			t.Fatal(err)
		}
		server.expire = time.Now() // such as a restart with new keys
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				if _, _, err := c.Head(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if n := server.count(refresh); n != 1 {
			t.Errorf("renewed %d times", n)
		}
	})
}

// The clock of a phone may be wrong. A token that seems to be expired is used
// until the server refuses it, not renewed before each call.
func TestClockAheadOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		c, err := server.login()
		if err != nil {
			t.Fatal(err)
		}
		session := c.Session()
		session.ExpireTime = time.Now().Add(-time.Minute)
		if c, err = client.New(session, client.WithHTTPClient(server.client())); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, _, err := c.Head(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := server.count(refresh); n != 0 {
			t.Errorf("renewed %d times", n)
		}
	})
}

func TestCallsGoOnWhileTheRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.tokenLife = 10 * time.Minute
		server.fault = first(refresh, 3, fault{offline: true})
		c, err := server.login()
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(9*time.Minute + 31*time.Second)
		for range 28 {
			<-time.After(time.Second)
			if _, _, err := c.Head(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := server.count(refresh); n != 3 {
			t.Errorf("tried %d times in 28 s, want one every 10 s", n)
		}
	})
}

func TestSignedOut(t *testing.T) {
	server := newFakeServer()
	store := new(client.MemorySession)
	c, err := server.login(client.WithSessionStore(store))
	if err != nil {
		t.Fatal(err)
	}
	server.issued += 2 // neither token is known any more
	_, err = c.Send(t.Context(), "bob", "hello")
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Code != client.CodeUnauthenticated || refused.Reason != "token_reused" {
		t.Errorf("got %v", err)
	}
	if n := server.count(send); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// Two programs share a session by a store. If both presented the same refresh
// token the server would sign the device out.
func TestSharedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		store := new(client.MemorySession)
		if _, err := client.Resume(t.Context(), store); !errors.Is(err, client.ErrNoSession) {
			t.Errorf("an empty store resumed: %v", err)
		}
		one, err := server.login(client.WithSessionStore(store))
		if err != nil {
			t.Fatal(err)
		}
		other, err := client.Resume(t.Context(), store, client.WithHTTPClient(server.client()))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			server.expire = time.Now()
			for _, c := range []*client.Client{one, other} {
				if _, _, err := c.Head(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := server.count(refresh); n != 3 {
			t.Errorf("renewed %d times, want 3", n)
		}
		if one.Session() != other.Session() {
			t.Error("sessions differ")
		}
	})
}

// A session that could not be stored is not used: the one in the store stays
// good for the next start.
func TestSessionThatIsNotStoredIsNotUsed(t *testing.T) {
	server := newFakeServer()
	store := &failingStore{}
	c, err := server.login(client.WithSessionStore(store))
	if err != nil {
		t.Fatal(err)
	}
	before := c.Session()
	server.expire = time.Now()
	store.fail = true
	if _, _, err := c.Head(t.Context()); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
	if c.Session() != before {
		t.Error("the new session is in use")
	}
}

type failingStore struct {
	client.MemorySession
	fail bool
}

func (f *failingStore) Update(ctx context.Context, renew func(client.Session) (client.Session, error)) error {
	if !f.fail {
		return f.MemorySession.Update(ctx, renew)
	}
	if _, err := renew(client.Session{}); err != nil {
		return err
	}
	return errFull
}

func TestWrongPassword(t *testing.T) {
	server := newFakeServer()
	_, err := client.Login(t.Context(), "http://fake", "alice", "wrong", client.WithHTTPClient(server.client()))
	if client.CodeOf(err) != client.CodeUnauthenticated {
		t.Error(err)
	}
}

func TestLoginWithIDToken(t *testing.T) {
	server := newFakeServer()
	store := new(client.MemorySession)
	opts := []client.Option{client.WithHTTPClient(server.client()), client.WithSessionStore(store)}
	c, err := client.LoginWithIDToken(t.Context(), "http://fake", "token of alice", opts...)
	if err != nil {
		t.Fatal(err)
	}
	if user := c.Session().UserID; user != "alice" {
		t.Errorf("signed in as %q", user)
	}
	server.expire = time.Now()
	if _, _, err := c.Head(t.Context()); err != nil {
		t.Errorf("after the session was renewed: %v", err)
	}
	if resumed, err := client.Resume(t.Context(), store); err != nil || resumed.Session() != c.Session() {
		t.Errorf("resumed %+v, %v", resumed.Session(), err)
	}
	if _, err := client.LoginWithIDToken(t.Context(), "http://fake", "token of nobody", opts...); client.CodeOf(err) != client.CodeUnauthenticated {
		t.Error(err)
	}
}

func TestServerMustBeAURL(t *testing.T) {
	for _, server := range []string{"", "127.0.0.1:7400", "ftp://host", "http://", "http://%"} {
		if err := client.Register(t.Context(), server, "alice", "secret", ""); err == nil || client.CodeOf(err) != "" {
			t.Errorf("%q: %v", server, err)
		}
	}
}

func TestAdmin(t *testing.T) {
	server := newFakeServer()
	admin, err := client.NewAdmin("http://fake:7401", "token", "http://fake", client.WithHTTPClient(server.client()))
	if err != nil {
		t.Fatal(err)
	}
	existing, err := admin.CreateUsers(t.Context(), []client.NewUser{{ID: "alice"}, {ID: "bob"}})
	if err != nil || len(existing) != 1 {
		t.Error(existing, err)
	}
}
