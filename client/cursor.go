package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// CursorStore keeps a device's place in its mailbox: the revision of the last
// operation that it dealt with, 0 before the first.
type CursorStore interface {
	// Load returns the cursor; 0 when none was saved.
	Load(ctx context.Context) (int64, error)
	// Save keeps a cursor. When it returns nil, no crash brings an older one
	// back, or the handler is called again for what lies between.
	Save(ctx context.Context, revision int64) error
}

// MemoryCursor is a CursorStore that ends with the program: for those who start
// anew, or from [Client.Head], each time. The zero value starts at the first
// operation.
type MemoryCursor struct{ revision atomic.Int64 }

// NewMemoryCursor returns a cursor that starts after a revision.
func NewMemoryCursor(revision int64) *MemoryCursor {
	c := new(MemoryCursor)
	c.revision.Store(revision)
	return c
}

// Load implements CursorStore.
func (c *MemoryCursor) Load(context.Context) (int64, error) { return c.revision.Load(), nil }

// Save implements CursorStore.
func (c *MemoryCursor) Save(_ context.Context, revision int64) error {
	c.revision.Store(revision)
	return nil
}

// FileCursor is a CursorStore in a file of that name, for one process at a
// time. A crash, power cuts included, leaves the file as it was before a Save
// or as it is after. Each Save waits for the disk.
type FileCursor string

// Load implements CursorStore.
func (f FileCursor) Load(context.Context) (int64, error) {
	content, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("load cursor: %w", err)
	}
	revision, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
	if err != nil || revision < 0 {
		return 0, fmt.Errorf("load cursor: %s does not hold a revision", string(f))
	}
	return revision, nil
}

// Save implements CursorStore. It writes beside the file, syncs, and renames.
func (f FileCursor) Save(_ context.Context, revision int64) error {
	if err := f.replace(strconv.FormatInt(revision, 10) + "\n"); err != nil {
		return fmt.Errorf("save cursor: %w", err)
	}
	return nil
}

func (f FileCursor) replace(content string) error {
	beside := string(f) + ".new"
	file, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the caller names its own file
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(beside, string(f)); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(string(f)))
	if err != nil {
		return err
	}
	_ = folder.Sync() // makes the rename durable where the system can sync a folder
	return folder.Close()
}
