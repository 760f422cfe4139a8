package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/internal/terminal"
)

// passwordFlags say with which password.
type passwordFlags struct {
	Password string `placeholder:"PASSWORD" env:"TEGAMI_PASSWORD" help:"8 to 256 bytes; asked for when missing. Other users of this machine see flags: prefer the variable."`
}

// password returns the password, asked for if need be.
func (f *passwordFlags) password(std streams, user string) (string, error) {
	if f.Password != "" {
		return f.Password, nil
	}
	password, err := terminal.Password(std.in, std.err, "Password of "+user+": ")
	if errors.Is(err, terminal.ErrNoTerminal) {
		return "", usagef("%w for the password of %s: give --password or set TEGAMI_PASSWORD", err, user)
	}
	return password, err
}

type loginCommand struct {
	connectFlags
	passwordFlags
	User   string `arg:"" help:"The user id."`
	Device string `placeholder:"ID" help:"The id of this device, 1 to 64 of A-Za-z0-9._-; made of this machine's name when missing. Signing in again with it ends its session."`
}

func (loginCommand) Help() string {
	return `The session is kept for the other commands, for its owner alone. Several users, and several devices of one user, may be signed in side by side.

Examples:
  tegami login alice
  tegami login alice --device laptop --server https://chat.example.org
  TEGAMI_PASSWORD="$(pass chat/alice)" tegami login alice`
}

func (c *loginCommand) Run(ctx context.Context, std streams) error {
	password, err := c.password(std, c.User)
	if err != nil {
		return err
	}
	signedIn, err := c.login(ctx, std, c.User, password, c.Device)
	if err != nil {
		return err
	}
	std.printf("Signed in as %s on device %s.\n", c.User, signedIn.Session().DeviceID)
	return nil
}

// login signs in and keeps the session.
func (f *connectFlags) login(ctx context.Context, std streams, user, password, device string) (*client.Client, error) {
	kept, err := f.credentials()
	if err != nil {
		return nil, err
	}
	options, err := f.options(std)
	if err != nil {
		return nil, err
	}
	device = cmp.Or(device, defaultDevice())
	session := client.Session{Server: f.server(), UserID: user, DeviceID: device}
	options = append(options, client.WithDevice(device), client.WithSessionStore(kept.of(session)))
	return client.Login(ctx, f.server(), user, password, options...)
}

// defaultDevice names this machine, so that signing in again replaces the
// session rather than adding a device.
func defaultDevice() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return r
		}
		return '-'
	}, "cli-"+host)
	return name[:min(len(name), 64)]
}

type logoutCommand struct {
	asFlags
}

func (c *logoutCommand) Run(ctx context.Context, std streams) error {
	signedIn, err := c.resume(ctx, std)
	if err != nil {
		return err
	}
	session := signedIn.Session()
	if err := signedIn.Logout(ctx); err != nil && client.CodeOf(err) != client.CodeUnauthenticated {
		return err // the session is kept: the device is still signed in
	}
	kept, err := c.credentials()
	if err != nil {
		return err
	}
	if err := kept.remove(ctx, session); err != nil {
		return err
	}
	std.printf("Signed out %s on device %s.\n", session.UserID, session.DeviceID)
	return nil
}
