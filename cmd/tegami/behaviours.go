package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tegami-im/tegami/actors/node"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/api/validate"
	"github.com/tegami-im/tegami/behaviours"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/worker"
	"github.com/tegami-im/tegami/worker/hook"
)

// configuredBehaviours makes the behaviours that the configuration names.
func configuredBehaviours(c *config.Config) ([]node.Behaviour, error) {
	kinds, err := behaviours.Kinds()
	if err != nil {
		return nil, err
	}
	urls := map[string]string{}
	for _, entry := range list(c.Behaviour.Hooks) {
		user, url, _ := strings.Cut(entry, "=") // validated
		urls[user] = url
	}
	var all []node.Behaviour
	for _, entry := range list(c.Behaviour.Run) {
		user, kind, _ := strings.Cut(entry, "=")
		if err := validate.UserID("behaviours.run", user); err != nil {
			return nil, usagef("behaviours.run: %q: %w", user, err)
		}
		b := node.Behaviour{User: user, Kind: kinds[kind], PerSecond: c.Behaviour.Rate}
		if b.Kind == nil {
			return nil, usagef("behaviours.run: %q is no kind of behaviour: there are %s", kind, strings.Join(kinds.Names(), ", "))
		}
		if url := urls[user]; url != "" {
			client, err := hookClient(url, c.Behaviour.SecretFile, hook.Options{Timeout: c.Behaviour.Timeout, AllowPrivate: c.Behaviour.AllowPrivate})
			if err != nil {
				return nil, usagef("behaviours.hooks: %s: %w", user, err)
			}
			b.Poster, b.Judge = client, worker.Judge
		}
		all = append(all, b)
	}
	return all, nil
}

// behaviourUsers are the user ids of the behaviours of the configuration.
func behaviourUsers(c *config.Config) []string {
	var users []string
	for _, entry := range list(c.Behaviour.Run) {
		user, _, _ := strings.Cut(entry, "=")
		users = append(users, user)
	}
	return users
}

// callTolerance is how far the time of a call's signature may be from this clock.
const callTolerance = 5 * time.Minute

// behaviourCalls lets the behaviours of the configuration be called, if there is a
// secret to sign with.
func behaviourCalls(c *config.Config, call func(ctx context.Context, user, id string, body []byte) error) (calls server.BehaviourCalls, err error) {
	if c.Behaviour.SecretFile == "" {
		return calls, nil
	}
	secrets, err := readHookSecrets(c.Behaviour.SecretFile)
	if err != nil {
		return calls, usagef("behaviours.secret_file: %w", err)
	}
	if len(secrets) == 0 || slices.ContainsFunc(secrets, func(s []byte) bool { return len(s) < minSecret }) {
		return calls, usagef("behaviours.secret_file: at least one secret, of at least %d bytes", minSecret)
	}
	calls.Users = behaviourUsers(c)
	calls.Call = call
	calls.Verify = func(signature string, signed []byte) (err error) {
		for _, secret := range secrets {
			if err = hook.Verify(signature, signed, secret, time.Now(), callTolerance); err == nil {
				return nil
			}
		}
		return err
	}
	return calls, nil
}

// minSecret is the least length of a secret, in bytes.
const minSecret = 16

// readHookSecrets reads a file of secrets, one on each line.
func readHookSecrets(file string) (secrets [][]byte, err error) {
	content, err := os.ReadFile(file) //nolint:gosec // the operator's own file
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(content) {
		if secret := bytes.TrimRight(line, "\r\n"); len(secret) > 0 {
			secrets = append(secrets, secret)
		}
	}
	return secrets, nil
}
