package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	formatName    = "FORMAT"
	formatVersion = 1
	maxShards     = 1 << 16

	journalName = "journal"
	storeName   = "store"
	keysName    = "keys"
)

var databaseNames = []string{journalName, storeName, keysName}

// format is what a data folder says of itself, as JSON.
type format struct {
	Version int `json:"version"`
	Shards  int `json:"shards"`
	// Complete is set once the databases were made. From then on one that is
	// missing is damage, not a first start that was cut short.
	Complete bool `json:"complete"`
}

// readFormat reads a folder's FORMAT. Errors: os.ErrNotExist, and whatever it
// says that this version of the program does not know.
func readFormat(fs vfs.FS, dir string) (format, error) {
	var f format
	name := fs.PathJoin(dir, formatName)
	file, err := fs.Open(name)
	if err != nil {
		return f, fmt.Errorf("read format of data folder: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return f, fmt.Errorf("read format of data folder: %w", err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("%s is damaged: %w", name, err)
	}
	if f.Version != formatVersion {
		return f, fmt.Errorf("%s says version %d of the data folder, and this program knows version %d only: use the release that wrote it, or a newer one", name, f.Version, formatVersion)
	}
	if f.Shards < 1 || f.Shards > maxShards {
		return f, fmt.Errorf("%s is damaged: %d shards", name, f.Shards)
	}
	return f, nil
}

// writeFormat replaces a folder's FORMAT; it is durable when it returns.
func writeFormat(fs vfs.FS, dir string, f format) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	name := fs.PathJoin(dir, formatName)
	if err := writeFile(fs, name+".new", bytes.NewReader(append(text, '\n'))); err != nil {
		return fmt.Errorf("write format of data folder: %w", err)
	}
	if err := fs.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write format of data folder: %w", err)
	}
	return syncDir(fs, dir)
}

// writeFile makes a file with the content of r, synced.
func writeFile(fs vfs.FS, name string, r io.Reader) error {
	file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// makeDir makes a folder and those above it, so that they survive a power cut.
func makeDir(fs vfs.FS, dir string) error {
	parent := fs.PathDir(dir)
	if there, err := exists(fs, dir); err != nil || there || parent == dir {
		return err
	}
	if err := makeDir(fs, parent); err != nil {
		return err
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

func syncDir(fs vfs.FS, name string) error {
	dir, err := fs.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func exists(fs vfs.FS, name string) (bool, error) {
	_, err := fs.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
