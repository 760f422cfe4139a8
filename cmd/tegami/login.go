package main

import (
	"cmp"
	"context"
	"errors"
	"io"
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

// idTokenFlags say with which ID token.
type idTokenFlags struct {
	IDTokenFile string `name:"id-token-file" placeholder:"FILE" help:"Sign in by the ID token in a file, - for standard input: one of the OpenID provider that the server trusts."`
}

// maxIDTokenFile is far above what a server takes, in bytes.
const maxIDTokenFile = 1 << 20

// idToken returns the token in the file.
func (f *idTokenFlags) idToken(std streams) (string, error) {
	from := std.in
	if f.IDTokenFile != "-" {
		file, err := os.Open(f.IDTokenFile)
		if err != nil {
			return "", err
		}
		defer file.Close()
		from = file
	}
	content, err := io.ReadAll(io.LimitReader(from, maxIDTokenFile))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return "", usagef("--id-token-file %s: there is no token in it", f.IDTokenFile)
	}
	return token, nil
}

type loginCommand struct {
	connectFlags
	passwordFlags
	idTokenFlags
	User   string `arg:"" optional:"" help:"The user id; an ID token tells it itself."`
	Device string `placeholder:"ID" help:"The id of this device, 1 to 64 of A-Za-z0-9._-; made of this machine's name when missing. Signing in again with it ends its session."`
}

func (loginCommand) Help() string {
	return `The session is kept for the other commands, for its owner alone. Several users, and several devices of one user, may be signed in side by side.

Examples:
  tegami login alice
  tegami login alice --device laptop --server https://chat.example.org
  TEGAMI_PASSWORD="$(pass chat/alice)" tegami login alice
  tegami login --id-token-file token.jwt
  tegami login --id-token-file - <token.jwt`
}

// Validate is called by kong.
func (c *loginCommand) Validate() error {
	switch {
	case c.IDTokenFile == "" && c.User == "":
		return errors.New("name the user, or give --id-token-file FILE")
	case c.IDTokenFile != "" && c.User != "":
		return errors.New("the ID token tells who signs in: leave the user away")
	}
	return c.connectFlags.Validate()
}

func (c *loginCommand) Run(ctx context.Context, std streams) error {
	signedIn, err := c.signIn(ctx, std)
	if err != nil {
		return err
	}
	session := signedIn.Session()
	std.printf("Signed in as %s on device %s.\n", session.UserID, session.DeviceID)
	return nil
}

func (c *loginCommand) signIn(ctx context.Context, std streams) (*client.Client, error) {
	if c.IDTokenFile != "" {
		token, err := c.idToken(std)
		if err != nil {
			return nil, err
		}
		return c.loginWithIDToken(ctx, std, token, c.Device)
	}
	password, err := c.password(std, c.User)
	if err != nil {
		return nil, err
	}
	return c.login(ctx, std, c.User, password, c.Device)
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

// loginWithIDToken is login by an ID token, which tells who signs in.
func (f *connectFlags) loginWithIDToken(ctx context.Context, std streams, token, device string) (*client.Client, error) {
	kept, err := f.credentials()
	if err != nil {
		return nil, err
	}
	options, err := f.options(std)
	if err != nil {
		return nil, err
	}
	options = append(options, client.WithDevice(cmp.Or(device, defaultDevice())))
	signedIn, err := client.LoginWithIDToken(ctx, f.server(), token, options...)
	if err != nil {
		return nil, err
	}
	session := signedIn.Session()
	return signedIn, kept.of(session).Update(ctx, func(client.Session) (client.Session, error) { return session, nil })
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
