package main

import (
	"context"
	"errors"

	"github.com/tegami-im/tegami/config"
)

type serveCommand struct {
	configFlags
}

func (serveCommand) Help() string {
	return `Runs every part in one process until it is interrupted, on the data folder given; it is made when missing. SIGTERM and Ctrl-C end it within 5 seconds with everything durable; whatever else ends it, nothing that was acknowledged is lost.

Examples:
  tegami serve
  tegami serve --data /var/lib/tegami --config /etc/tegami.yaml
  tegami serve --listen 127.0.0.1:7500 --admin 127.0.0.1:7501 --set journal.durability=os`
}

func (c *serveCommand) Run(ctx context.Context, std streams) error {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	return serve(ctx, loaded, std)
}

func serve(context.Context, *config.Loaded, streams) error {
	return errors.New("not built yet")
}
