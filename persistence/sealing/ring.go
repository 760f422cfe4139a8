package sealing

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/tegami-im/tegami/persistence"
)

// DefaultRingSize is how many keys a Ring remembers unless told otherwise,
// about 30 MB of them.
const DefaultRingSize = 200_000

// maxReads bounds the look-ups that a Ring makes at once.
const maxReads = 64

// Ring remembers the keys of mailboxes that were used last, in front of a
// persistence.Keys. It is safe for concurrent use.
type Ring struct {
	keys    persistence.Keys
	known   *lru.Cache[string, persistence.Key]
	reads   singleflight.Group
	reading chan struct{} // has room for maxReads
}

// NewRing returns a ring of at most size keys; 0 means DefaultRingSize.
func NewRing(keys persistence.Keys, size int) (*Ring, error) {
	if size == 0 {
		size = DefaultRingSize
	}
	known, err := lru.New[string, persistence.Key](size)
	if err != nil {
		return nil, fmt.Errorf("ring of %d keys: %w", size, err)
	}
	return &Ring{keys: keys, known: known, reading: make(chan struct{}, maxReads)}, nil
}

// readTimeout bounds one look-up: it goes on when the caller that began it has
// gone, since others may wait for it.
const readTimeout = 5 * time.Second

// Get returns a mailbox's key. Who asks for the same one at the same time
// shares one look-up. Error: persistence.ErrNotFound, which is not remembered.
func (r *Ring) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	if key, ok := r.known.Get(mailbox); ok {
		return key, nil
	}
	read := r.reads.DoChan(mailbox, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		select {
		case r.reading <- struct{}{}:
		case <-ctx.Done():
			return persistence.Key{}, ctx.Err()
		}
		defer func() { <-r.reading }()
		key, err := r.keys.Get(ctx, mailbox)
		if err == nil {
			r.known.Add(mailbox, key)
		}
		return key, err
	})
	select {
	case result := <-read:
		return result.Val.(persistence.Key), result.Err
	case <-ctx.Done():
		return persistence.Key{}, ctx.Err()
	}
}

// Create makes a key for each mailbox that has none, durable when it returns,
// and returns all, in order.
func (r *Ring) Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error) {
	created, err := r.keys.Create(ctx, mailboxes)
	if err != nil {
		return nil, err
	}
	for i, mailbox := range mailboxes {
		r.known.Add(mailbox, created[i])
	}
	return created, nil
}

// Forget has the next Get read the key again: call it after a key was deleted.
func (r *Ring) Forget(mailbox string) { r.known.Remove(mailbox) }
