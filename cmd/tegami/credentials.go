package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tegami-im/tegami/client"
)

// credentials is the file that holds the sessions of all users who signed in
// on this machine, the newest sign-in first. Only its owner may read it. A lock
// file beside it lets several commands share a session.
type credentials struct{ file string }

type credentialsFile struct {
	Sessions []client.Session `json:"sessions"`
}

// find returns the session of "user" or "user/device", at one server if server
// is not empty. Of several it takes the newest sign-in. Error:
// client.ErrNoSession.
func (c credentials) find(as, server string) (client.Session, error) {
	content, err := c.read()
	if err != nil {
		return client.Session{}, err
	}
	user, device, _ := strings.Cut(as, "/")
	users := make(map[string]bool)
	var found *client.Session
	for i, session := range content.Sessions {
		if server != "" && session.Server != strings.TrimSuffix(server, "/") ||
			user != "" && session.UserID != user || device != "" && session.DeviceID != device {
			continue
		}
		users[session.UserID] = true
		if found == nil {
			found = &content.Sessions[i]
		}
	}
	switch {
	case found == nil && as == "":
		return client.Session{}, fmt.Errorf("%w: tegami login USER", client.ErrNoSession)
	case found == nil:
		return client.Session{}, fmt.Errorf("%s is %w: tegami login %s", as, client.ErrNoSession, user)
	case len(users) > 1:
		return client.Session{}, usagef("more than one user signed in here: give --as USER")
	}
	return *found, nil
}

// of returns the store of one session, whether the file has it yet or not.
func (c credentials) of(session client.Session) client.SessionStore {
	return storedSession{c, session}
}

type storedSession struct {
	credentials
	session client.Session
}

// sameDevice returns whether sessions are of one device, whatever their tokens.
func sameDevice(a client.Session) func(client.Session) bool {
	return func(b client.Session) bool {
		return a.Server == b.Server && a.UserID == b.UserID && a.DeviceID == b.DeviceID
	}
}

// Update implements client.SessionStore.
func (s storedSession) Update(ctx context.Context, renew func(client.Session) (client.Session, error)) error {
	return s.change(ctx, func(content *credentialsFile) error {
		var stored client.Session
		at := slices.IndexFunc(content.Sessions, sameDevice(s.session))
		if at >= 0 {
			stored = content.Sessions[at]
		}
		renewed, err := renew(stored)
		switch {
		case err != nil:
			return err
		case at >= 0:
			content.Sessions[at] = renewed
		default:
			content.Sessions = slices.Insert(content.Sessions, 0, renewed)
		}
		return nil
	})
}

// remove forgets a session.
func (c credentials) remove(ctx context.Context, session client.Session) error {
	return c.change(ctx, func(content *credentialsFile) error {
		content.Sessions = slices.DeleteFunc(content.Sessions, sameDevice(session))
		return nil
	})
}

// change reads, changes and writes the file under the lock.
func (c credentials) change(ctx context.Context, edit func(*credentialsFile) error) error {
	if err := os.MkdirAll(filepath.Dir(c.file), 0o700); err != nil {
		return err
	}
	unlock, err := lockFile(ctx, c.file+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	content, err := c.read()
	if err != nil {
		return err
	}
	if err := edit(&content); err != nil {
		return err
	}
	encoded, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	// Rename, so that a crash leaves the old sessions or the new ones.
	if err := os.WriteFile(c.file+".new", append(encoded, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(c.file+".new", c.file)
}

func (c credentials) read() (content credentialsFile, err error) {
	encoded, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return content, nil
	}
	if err != nil {
		return content, err
	}
	if err := json.Unmarshal(encoded, &content); err != nil {
		return content, fmt.Errorf("%s is damaged (%w): remove it and log in again", c.file, err)
	}
	return content, nil
}
