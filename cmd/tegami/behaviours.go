package main

import (
	"bytes"
	"os"
	"strings"

	"github.com/tegami-im/tegami/actors/node"
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
			b.Poster = client
			b.Permanent = func(err error) bool { permanent, _ := worker.Judge(err); return permanent }
		}
		all = append(all, b)
	}
	return all, nil
}

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
