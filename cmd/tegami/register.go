package main

import (
	"context"
	"os"

	"github.com/tegami-im/tegami/client"
)

type registerCommand struct {
	connectFlags
	passwordFlags
	User string `arg:"" help:"The user id: 3 to 64 of a-z0-9._- starting with a letter."`
	Name string `placeholder:"NAME" help:"The name to show, at most 256 characters."`
}

func (registerCommand) Help() string {
	return `A user id is taken for ever. Unless configured otherwise, a server lets only clients on its own machine register.

Examples:
  tegami register alice
  tegami register alice --name "Alice Liddell" --password "correct horse battery"`
}

func (c *registerCommand) Run(ctx context.Context, std streams) error {
	password, err := c.password(std, c.User)
	if err != nil {
		return err
	}
	if err := c.register(ctx, std, c.User, password, c.Name); err != nil {
		return err
	}
	if _, err := c.login(ctx, std, c.User, password, ""); err != nil {
		return err
	}
	std.printf("Registered %s and signed in. Next: %s chat --as %s\n", c.User, os.Args[0], c.User)
	return nil
}

func (f *connectFlags) register(ctx context.Context, std streams, user, password, name string) error {
	options, err := f.options(std)
	if err != nil {
		return err
	}
	return client.Register(ctx, f.server(), user, password, name, options...)
}
