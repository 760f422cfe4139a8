package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/internal/replay"
)

// accounts makes up accounts and signs them in, by the admin calls or by
// registering. All share their connections.
func (c *replayCommand) accounts(ctx context.Context, std streams, run string) ([]replay.Account, error) {
	options, err := c.options(std)
	if err != nil {
		return nil, err
	}
	// A device's own copies do not end its poll; short polls bring the last of
	// them soon.
	options = append(options, client.WithPollTimeout(2*time.Second))
	names := make([]string, c.Accounts)
	for i := range names {
		names[i] = fmt.Sprintf("replay-%s-%d", run, i)
	}
	signIn := func(name string) (*client.Client, error) { return c.enrol(ctx, name, options) }
	if c.AdminToken != "" {
		admin, err := c.createUsers(ctx, names, options)
		if err != nil {
			return nil, err
		}
		signIn = func(name string) (*client.Client, error) {
			session, err := admin.IssueToken(ctx, name, "replay")
			if err != nil {
				return nil, err
			}
			return client.New(session, options...)
		}
	}
	var accounts []replay.Account
	for _, name := range names {
		signedIn, err := signIn(name)
		if err != nil {
			return nil, fmt.Errorf("sign %s in: %w", name, err)
		}
		accounts = append(accounts, replayAccount{name, signedIn})
	}
	return accounts, nil
}

// enrol registers an account and logs it in.
func (c *replayCommand) enrol(ctx context.Context, name string, options []client.Option) (*client.Client, error) {
	password := rand.Text()
	if err := client.Register(ctx, c.server(), name, password, "", options...); err != nil {
		return nil, err
	}
	return client.Login(ctx, c.server(), name, password, append(options, client.WithDevice("replay"))...)
}

func (c *replayCommand) createUsers(ctx context.Context, names []string, options []client.Option) (*client.Admin, error) {
	token := c.AdminToken
	if file, ok := strings.CutPrefix(token, "@"); ok {
		content, err := os.ReadFile(file) //nolint:gosec // the user names it
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(content))
	}
	admin, err := client.NewAdmin(c.Admin, token, c.server(), options...)
	if err != nil {
		return nil, err
	}
	var users []client.NewUser
	for _, name := range names {
		users = append(users, client.NewUser{ID: name})
	}
	_, err = admin.CreateUsers(ctx, users)
	return admin, err
}
