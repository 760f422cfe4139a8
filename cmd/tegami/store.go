package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/persistence/transfer"
)

// storeCommand moves data between stores, and fills the cache.
type storeCommand struct {
	Export  exportCommand  `cmd:"" help:"Write mailboxes to a file, to be imported elsewhere."`
	Import  importCommand  `cmd:"" help:"Take mailboxes in from a file."`
	Rebuild rebuildCommand `cmd:"" help:"Fill the cache anew."`
}

// offlineFlags are those of commands that need a store without a server.
type offlineFlags struct {
	configFlags
	Offline bool `help:"No server runs on the hybrid store, anywhere. (A data folder tells by itself.)"`
}

// open opens a storage that is there, unless a server runs on it.
func (f *offlineFlags) open(ctx context.Context, std streams) (*storage, *config.Loaded, error) {
	loaded, err := f.unserved(ctx, std)
	if err != nil {
		return nil, nil, err
	}
	s, err := openPresent(ctx, loaded, std)
	return s, loaded, err
}

// unserved loads the configuration of a storage that no server runs on.
func (f *offlineFlags) unserved(ctx context.Context, std streams) (*config.Loaded, error) {
	loaded, err := f.load(std)
	if err != nil || loaded.Store.Kind != config.StoreHybrid {
		return loaded, err
	}
	if !f.Offline {
		return nil, usagef("stop all servers that run on this store in good order (SIGTERM), and say so with --offline")
	}
	return loaded, notServed(ctx, loaded.Admin.Listen)
}

// openPresent opens a storage, and makes no data folder where there is none.
func openPresent(ctx context.Context, loaded *config.Loaded, std streams) (*storage, error) {
	if loaded.Store.Kind != config.StoreHybrid {
		if err := isDataFolder(loaded.Data.Dir); err != nil {
			return nil, usageError{err}
		}
	}
	return openStorage(ctx, &loaded.Config, newLogger(loaded.Log, std), patience{})
}

// isDataFolder returns an error when a folder is none that serve made: opening
// it would make it.
func isDataFolder(folder string) error {
	if _, err := os.Stat(filepath.Join(folder, "FORMAT")); err != nil {
		return fmt.Errorf("%s is no data folder: %w", folder, err)
	}
	return nil
}

// notServed returns an error when a server answers at an address.
func notServed(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/healthz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil // nobody answers
	}
	_ = response.Body.Close()
	return fmt.Errorf("a server runs at %s: stop it first", admin)
}

type exportCommand struct {
	offlineFlags
	Shards string `placeholder:"FROM-TO" help:"Only these shards, as in 0-63 or 7."`
	User   string `help:"Only this user's mailbox."`
	To     string `arg:"" type:"path" help:"The new file; it must not exist."`
}

func (exportCommand) Help() string {
	return `The server must have been stopped in good order, so that the store has all that the journal has. Give the same flags as to serve.

The file holds the keys that seal the bodies in it, and the key that signs tokens: whoever can read it can read everything. It is made for its owner alone (mode 0600); remove it once it was imported.

Examples:
  tegami store export --data ./data all.tegami
  tegami store export --config hybrid.yaml --offline --user alice alice.tegami`
}

func (c *exportCommand) Run(ctx context.Context, std streams) (err error) {
	if c.User != "" && c.Shards != "" {
		return usagef("give --user or --shards, not both")
	}
	s, loaded, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	selection := transfer.Selection{UpTo: uint32(s.shards), Mailbox: c.User}
	if c.User != "" {
		shard := shardsOf(s)(c.User)
		selection.From, selection.UpTo = shard, shard+1
	} else if c.Shards != "" {
		if selection.From, selection.UpTo, err = parseShards(c.Shards); err != nil {
			return err
		}
		if selection.UpTo > uint32(s.shards) {
			return usagef("--shards %s: there are %d", c.Shards, s.shards)
		}
	}
	source := transfer.Source{Journal: s.journal, Store: s.repairer, Keys: s.adopter, Shards: s.shards}
	if c.User == "" {
		if source.Secrets, err = readSecrets(loaded.Data.Dir); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(c.To, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	counts, err := transfer.Export(ctx, source, selection, file, nil)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(c.To))
	}
	std.printf("Exported %d mailboxes with %d operations to %s. It holds keys: keep it to yourself, and remove it once it was imported.\n", counts.Mailboxes, counts.Rows, c.To)
	return nil
}

// readSecrets reads what other servers on the same data need to know.
func readSecrets(folder string) (map[string][]byte, error) {
	content, err := os.ReadFile(filepath.Join(folder, signingKeyFile)) //nolint:gosec // of the data folder
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return map[string][]byte{signingKeyFile: content}, err
}

// shardsOf returns where the mailboxes of a storage lie.
func shardsOf(s *storage) func(string) uint32 {
	places, err := cluster.NewMap(s.shards, cluster.Snapshot{})
	if err != nil {
		return func(string) uint32 { return 0 } // unreachable: a storage has shards
	}
	return places.Shard
}

// parseShards reads FROM-TO, or one shard.
func parseShards(text string) (from, upTo uint32, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, err := strconv.ParseUint(first, 10, 16)
	high, highErr := strconv.ParseUint(last, 10, 16)
	if err != nil || highErr != nil || high < low {
		return 0, 0, usagef("--shards %s: expected FROM-TO, as in 0-63, or one shard", text)
	}
	return uint32(low), uint32(high) + 1, nil
}

type importCommand struct {
	offlineFlags
	From string `arg:"" type:"existingfile" help:"The file."`
}

func (importCommand) Help() string {
	return `The target has as many shards as the store that the file comes from, and none of its mailboxes; no server runs on it. A data folder is made when it is missing; a hybrid store needs "tegami admin schema apply" first. An import that broke off may be made again.

Afterwards revisions, message ids and the answers to retries are what they were, and devices stay signed in where the whole store was moved.

Examples:
  tegami store import --config hybrid.yaml --offline all.tegami
  tegami store import --data ./data all.tegami`
}

func (c *importCommand) Run(ctx context.Context, std streams) (err error) {
	loaded, err := c.unserved(ctx, std)
	if err != nil {
		return err
	}
	file, err := os.Open(c.From)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	// Before a data folder is made, with a number that stays.
	if err := transfer.Fits(file, loaded.Data.Shards); err != nil {
		return err
	}
	s, err := openStorage(ctx, &loaded.Config, newLogger(loaded.Log, std), patience{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	target := transfer.Target{Journal: s.journal, Store: s.repairer, Keys: s.adopter, Shards: s.shards, ShardOf: shardsOf(s)}
	if s.cacheRepairer != nil {
		target.Cache = s.cacheRepairer
	}
	counts, secrets, err := transfer.Import(ctx, target, file, nil)
	if err != nil {
		return err
	}
	std.printf("Imported %d mailboxes with %d operations.\n", counts.Mailboxes, counts.Rows)
	return adoptSecrets(std, loaded.Data.Dir, secrets)
}

// adoptSecrets writes the secrets that the target does not have.
func adoptSecrets(std streams, folder string, secrets map[string][]byte) error {
	content := secrets[signingKeyFile]
	if content == nil {
		return nil
	}
	name := filepath.Join(folder, signingKeyFile)
	present, err := os.ReadFile(name) //nolint:gosec // the operator's own folder
	switch {
	case errors.Is(err, os.ErrNotExist):
		return os.WriteFile(name, content, 0o600)
	case err != nil:
		return err
	case string(present) != string(content):
		std.printf("%s is another than in the file and stays: devices have to sign in again.\n", name)
	}
	return nil
}
