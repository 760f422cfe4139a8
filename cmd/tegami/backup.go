package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/tegami-im/tegami/persistence/embedded"
)

type backupCommand struct {
	configFlags
	To string `arg:"" type:"path" help:"The new folder; it must not exist."`
}

func (backupCommand) Help() string {
	return `The server must run on this machine; it goes on meanwhile. Give the same --data, --admin and --config as to serve. Everything that was acknowledged before the backup began is in it.

The folder holds secrets. Its keys lie apart, in keys/: move them elsewhere and keep them for days only, since what a user erased is gone once the key is.

Examples:
  tegami backup /backup/tegami-$(date +%F)
  tegami backup --config /etc/tegami.yaml /backup/tegami`
}

func (c *backupCommand) Run(ctx context.Context, std streams) error {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(loaded.Data.Dir, adminTokenFile))
	if err != nil {
		return fmt.Errorf("read the admin token: %w; is --data the folder of a running server?", err)
	}
	endpoint := "http://" + loaded.Admin.Listen + "/admin/backup?dir=" + url.QueryEscape(c.To)
	if err := post(ctx, endpoint, strings.TrimSpace(string(token))); err != nil {
		return err
	}
	std.printf("Backed up to %s. Move its keys/ elsewhere, and keep them for days only.\n", c.To)
	return nil
}

// post makes a call to the admin listener.
func post(ctx context.Context, endpoint, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return unreachableError{err}
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("the server says: %s", readText(response.Body))
}

// readText reads what a server says of a failure.
func readText(from io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(from, 1<<16))
	return strings.TrimSpace(string(text))
}

type restoreCommand struct {
	From string `arg:"" type:"existingdir" help:"The backup."`
	Data string `placeholder:"DIR" default:"./data" type:"path" help:"The data folder to make; it must not exist, or be empty."`
}

func (restoreCommand) Help() string {
	return `The backup stays as it is. If its keys were moved elsewhere, put them back into keys/ first.

Examples:
  tegami restore /backup/tegami-2026-11-23 --data ./data`
}

func (c *restoreCommand) Run(ctx context.Context, std streams) error {
	if err := embedded.Restore(ctx, nil, c.From, c.Data); err != nil {
		return err
	}
	if err := copySecrets(c.From, c.Data); err != nil {
		return err
	}
	std.printf("Restored. Start it with: tegami serve --data %s\n", c.Data)
	return nil
}
