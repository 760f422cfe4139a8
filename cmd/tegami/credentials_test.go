package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tegami-im/tegami/client"
)

func session(server, user, device, token string) client.Session {
	return client.Session{Server: server, UserID: user, DeviceID: device, AccessToken: token}
}

// keep stores a session as Login does.
func keep(t *testing.T, c credentials, s client.Session) {
	t.Helper()
	err := c.of(s).Update(t.Context(), func(client.Session) (client.Session, error) { return s, nil })
	if err != nil {
		t.Fatal(err)
	}
}

func TestFindSession(t *testing.T) {
	c := credentials{filepath.Join(t.TempDir(), "folder", "credentials.json")}
	keep(t, c, session("http://one", "alice", "laptop", "1"))
	keep(t, c, session("http://one", "alice", "phone", "2"))
	keep(t, c, session("http://two", "alice", "laptop", "3"))
	keep(t, c, session("http://two", "bob", "laptop", "4"))
	keep(t, c, session("http://one", "alice", "laptop", "5")) // again: takes the place of 1
	for _, test := range []struct {
		as, server, token string
		code              int
	}{
		{"alice", "", "3", 0}, // the newest device
		{"alice/phone", "", "2", 0},
		{"alice", "http://one/", "2", 0},
		{"alice/laptop", "http://one", "5", 0},
		{"", "http://two", "", codeUsage}, // alice or bob?
		{"", "http://one", "2", 0},
		{"carol", "", "", codeSignedOut},
		{"bob/phone", "", "", codeSignedOut},
		{"bob", "http://one", "", codeSignedOut},
	} {
		found, err := c.find(test.as, test.server)
		switch {
		case test.code != 0 && (err == nil || exitCode(err) != test.code):
			t.Errorf("%q at %q: %v, want exit code %d", test.as, test.server, err, test.code)
		case test.code == 0 && (err != nil || found.AccessToken != test.token):
			t.Errorf("%q at %q: found %+v, %v; want token %s", test.as, test.server, found, err, test.token)
		}
	}
	info, err := os.Stat(c.file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is open to others: %v, %v", info.Mode(), err)
	}
	if err := c.remove(t.Context(), session("http://one", "alice", "phone", "")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.find("alice/phone", ""); !errors.Is(err, client.ErrNoSession) {
		t.Errorf("removed, yet %v", err)
	}
}

// Commands that run at the same time must not overwrite each other's sessions,
// nor renew one twice.
func TestUpdatesExcludeEachOther(t *testing.T) {
	c := credentials{filepath.Join(t.TempDir(), "credentials.json")}
	shared := session("http://one", "alice", "laptop", "0")
	keep(t, c, shared)
	var updates sync.WaitGroup
	for i := range 20 {
		updates.Go(func() {
			keep(t, c, session("http://one", fmt.Sprintf("user-%d", i), "laptop", "x"))
			err := c.of(shared).Update(t.Context(), func(stored client.Session) (client.Session, error) {
				stored.AccessToken += "+"
				return stored, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	updates.Wait()
	content, err := c.read()
	if err != nil || len(content.Sessions) != 21 {
		t.Errorf("%d sessions, %v; want 21", len(content.Sessions), err)
	}
	if found, err := c.find("alice", ""); err != nil || len(found.AccessToken) != 21 {
		t.Errorf("updated %d times, %v; want 20", len(found.AccessToken)-1, err)
	}
}

func TestAFailedUpdateChangesNothing(t *testing.T) {
	c := credentials{filepath.Join(t.TempDir(), "credentials.json")}
	shared := session("http://one", "alice", "laptop", "1")
	keep(t, c, shared)
	failure := errors.New("no network")
	err := c.of(shared).Update(t.Context(), func(client.Session) (client.Session, error) {
		return client.Session{}, failure
	})
	if !errors.Is(err, failure) {
		t.Error(err)
	}
	if found, err := c.find("alice", ""); err != nil || found.AccessToken != "1" {
		t.Errorf("found %+v, %v", found, err)
	}
}
