package embedded

import (
	"context"
	"fmt"
	"sync"

	"github.com/tegami-im/tegami/persistence"
)

// Keys is the persistence.Keys of a data folder.
type Keys struct {
	db       *database
	volume   *volume
	creating chan struct{} // holds a token: one Create at a time
	closing  sync.Once
	closeErr error
}

var _ persistence.KeyAdopter = (*Keys)(nil)

func openKeys(db *database, v *volume) *Keys {
	return &Keys{db: db, volume: v, creating: make(chan struct{}, 1)}
}

func keyRow(mailbox string) []byte {
	return append([]byte{rowKey}, mailbox...)
}

// Create implements persistence.Keys, with one fsync for all.
func (k *Keys) Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error) {
	return k.createOf(ctx, mailboxes, func(int) persistence.Key { return persistence.NewKey() })
}

// Adopt implements persistence.KeyAdopter, with one fsync for all.
func (k *Keys) Adopt(ctx context.Context, mailboxes []string, keys []persistence.Key) ([]persistence.Key, error) {
	if len(keys) != len(mailboxes) {
		return nil, fmt.Errorf("%d keys for %d mailboxes", len(keys), len(mailboxes))
	}
	return k.createOf(ctx, mailboxes, func(i int) persistence.Key { return keys[i] })
}

// createOf gives each mailbox without a key the one with its index.
func (k *Keys) createOf(ctx context.Context, mailboxes []string, keyOf func(i int) persistence.Key) ([]persistence.Key, error) {
	if err := k.enterToWrite(ctx); err != nil {
		return nil, err
	}
	var keys []persistence.Key
	err := await(ctx, func() (err error) {
		defer k.leave()
		keys, err = k.create(mailboxes, keyOf)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func (k *Keys) create(mailboxes []string, keyOf func(i int) persistence.Key) ([]persistence.Key, error) {
	keys := make([]persistence.Key, len(mailboxes))
	made := map[string]persistence.Key{}
	batch := k.db.newBatch(len(mailboxes) * 64)
	for i, mailbox := range mailboxes {
		key, found, err := k.get(mailbox)
		if err != nil {
			_ = batch.Close()
			return nil, fmt.Errorf("create keys: %w", err)
		}
		if !found {
			key, found = made[mailbox]
		}
		if !found {
			key = keyOf(i)
			made[mailbox] = key
			_ = batch.Set(keyRow(mailbox), key[:], nil)
		}
		keys[i] = key
	}
	if len(made) == 0 {
		return keys, batch.Close()
	}
	if err := k.db.commit(batch, onDisk); err != nil {
		return nil, fmt.Errorf("create keys: %w", err)
	}
	return keys, nil
}

func (k *Keys) get(mailbox string) (key persistence.Key, found bool, err error) {
	value, found, err := k.db.get(keyRow(mailbox))
	if err != nil || !found {
		return key, false, err
	}
	if len(value) != len(key) {
		return key, false, errRow
	}
	copy(key[:], value)
	return key, true, nil
}

// Get implements persistence.Keys.
func (k *Keys) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	if err := ctx.Err(); err != nil {
		return persistence.Key{}, err
	}
	if err := k.db.enter(); err != nil {
		return persistence.Key{}, err
	}
	defer k.db.leave()
	key, found, err := k.get(mailbox)
	if err != nil {
		return key, fmt.Errorf("get key: %w", err)
	}
	if !found {
		return key, persistence.ErrNotFound
	}
	return key, nil
}

// Delete implements persistence.Keys. The key is out of reach when it returns;
// its bytes leave the disk with the compactions that follow.
func (k *Keys) Delete(ctx context.Context, mailbox string) error {
	if err := k.enterToWrite(ctx); err != nil {
		return err
	}
	return await(ctx, func() error {
		defer k.leave()
		batch := k.db.newBatch(0)
		_ = batch.Delete(keyRow(mailbox), nil)
		if err := k.db.commit(batch, onDisk); err != nil {
			return fmt.Errorf("delete key: %w", err)
		}
		return nil
	})
}

// enterToWrite keeps the database open and every other write out, until leave
// is called.
func (k *Keys) enterToWrite(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := k.db.enter(); err != nil {
		return err
	}
	if k.volume.full() {
		k.db.leave()
		return persistence.ErrFull
	}
	select {
	case k.creating <- struct{}{}:
		return nil
	case <-ctx.Done():
		k.db.leave()
		return ctx.Err()
	}
}

func (k *Keys) leave() {
	<-k.creating
	k.db.leave()
}

// Close implements persistence.Keys.
func (k *Keys) Close() error {
	k.closing.Do(func() { k.closeErr = k.volume.closeWith(k.db.close) })
	return k.closeErr
}
