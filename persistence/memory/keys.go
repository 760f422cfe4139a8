package memory

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/tegami-im/tegami/persistence"
)

// Keys is a persistence.Keys in memory. Every key is durable when Create
// returns.
type Keys struct {
	mu     sync.Mutex // guards the following
	keys   map[string]persistence.Key
	closed bool
}

var _ persistence.KeyAdopter = (*Keys)(nil)

// NewKeys returns an empty key store.
func NewKeys() *Keys { return &Keys{keys: map[string]persistence.Key{}} }

// Crash cuts the power: it ends this key store and returns one that holds what
// survives, which is everything.
func (k *Keys) Crash() *Keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	return &Keys{keys: maps.Clone(k.keys)}
}

// Create implements persistence.Keys.
func (k *Keys) Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error) {
	return k.create(ctx, mailboxes, func(int) persistence.Key { return persistence.NewKey() })
}

// Adopt implements persistence.KeyAdopter.
func (k *Keys) Adopt(ctx context.Context, mailboxes []string, keys []persistence.Key) ([]persistence.Key, error) {
	if len(keys) != len(mailboxes) {
		return nil, fmt.Errorf("%d keys for %d mailboxes", len(keys), len(mailboxes))
	}
	return k.create(ctx, mailboxes, func(i int) persistence.Key { return keys[i] })
}

func (k *Keys) create(ctx context.Context, mailboxes []string, keyOf func(i int) persistence.Key) ([]persistence.Key, error) {
	if err := k.lock(ctx); err != nil {
		return nil, err
	}
	defer k.mu.Unlock()
	created := make([]persistence.Key, len(mailboxes))
	for i, mailbox := range mailboxes {
		key, ok := k.keys[mailbox]
		if !ok {
			key = keyOf(i)
			k.keys[mailbox] = key
		}
		created[i] = key
	}
	return created, nil
}

// Get implements persistence.Keys.
func (k *Keys) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	if err := k.lock(ctx); err != nil {
		return persistence.Key{}, err
	}
	defer k.mu.Unlock()
	key, ok := k.keys[mailbox]
	if !ok {
		return persistence.Key{}, persistence.ErrNotFound
	}
	return key, nil
}

// Delete implements persistence.Keys.
func (k *Keys) Delete(ctx context.Context, mailbox string) error {
	if err := k.lock(ctx); err != nil {
		return err
	}
	defer k.mu.Unlock()
	delete(k.keys, mailbox)
	return nil
}

func (k *Keys) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return persistence.ErrClosed
	}
	return nil
}

// Close implements persistence.Keys.
func (k *Keys) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	return nil
}
