package sealing

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/tegami-im/tegami/persistence"
)

// DefaultRingSize is how many keys a Ring keeps in memory, unless told
// otherwise: some 30 MB when full.
const DefaultRingSize = 200_000

// DefaultRingReads is how many reads of a key store run at a time, unless told
// otherwise.
const DefaultRingReads = 64

const ringShards = 32

// Ring keeps the keys that are in use in memory. Reads of one key by many at
// the same time are one read of the key store, and the number of reads is
// bounded. All methods are safe for concurrent use.
type Ring struct {
	keys   persistence.Keys
	reads  chan struct{} // holds a token for each read that runs
	seed   maphash.Seed
	shards [ringShards]ringShard
}

// NewRing returns a ring of at most size keys, 0 means DefaultRingSize, which
// does at most so many reads at a time, 0 means DefaultRingReads. It does not
// close keys.
func NewRing(keys persistence.Keys, size, reads int) *Ring {
	if size <= 0 {
		size = DefaultRingSize
	}
	if reads <= 0 {
		reads = DefaultRingReads
	}
	r := &Ring{keys: keys, reads: make(chan struct{}, reads), seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].half = max(1, size/ringShards/2)
		r.shards[i].reading = map[string]*keyRead{}
	}
	return r
}

// Get returns a mailbox's key, from memory or from the key store. Error:
// persistence.ErrNotFound.
func (r *Ring) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	shard := r.shard(mailbox)
	for {
		key, read, mine := shard.lookUp(mailbox)
		switch {
		case read == nil:
			return key, nil
		case mine:
			r.read(ctx, read, mailbox)
			shard.finish(mailbox, read)
			return read.key, read.err
		}
		select {
		case <-read.done:
		case <-ctx.Done():
			return persistence.Key{}, ctx.Err()
		}
		if !endedByContext(read.err) {
			return read.key, read.err
		}
		// The one who read was in a greater hurry: read again, unless this
		// caller's time is up too.
		if err := ctx.Err(); err != nil {
			return persistence.Key{}, err
		}
	}
}

// Known reports whether a mailbox's key is in memory.
func (r *Ring) Known(mailbox string) bool {
	shard := r.shard(mailbox)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, ok := shard.young[mailbox]; ok {
		return true
	}
	_, ok := shard.old[mailbox]
	return ok
}

func endedByContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (r *Ring) read(ctx context.Context, read *keyRead, mailbox string) {
	select {
	case r.reads <- struct{}{}:
		defer func() { <-r.reads }()
		read.key, read.err = r.keys.Get(ctx, mailbox)
	case <-ctx.Done():
		read.err = ctx.Err()
	}
}

// Create makes a key for each mailbox that has none, durable when it returns,
// and returns all, in order.
func (r *Ring) Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error) {
	return r.keys.Create(ctx, mailboxes)
}

// Forget drops a mailbox's key, from the key store and from memory: what was
// sealed with it is gone. After an error the key may still be there.
func (r *Ring) Forget(ctx context.Context, mailbox string) error {
	err := r.keys.Delete(ctx, mailbox)
	r.shard(mailbox).forget(mailbox)
	return err
}

func (r *Ring) shard(mailbox string) *ringShard {
	return &r.shards[maphash.String(r.seed, mailbox)%ringShards]
}

// ringShard keeps two generations of keys. A key that is used moves to the
// young one; when that is full the old one is dropped, and with it what was not
// used for a while.
type ringShard struct {
	mu         sync.Mutex // guards the following
	half       int        // the size of a generation
	young, old map[string]persistence.Key
	reading    map[string]*keyRead
}

// keyRead is a read of the key store under way. key and err are set before
// done is closed.
type keyRead struct {
	done chan struct{}
	key  persistence.Key
	err  error
	// stale: the key was dropped meanwhile; the result must not be kept.
	stale bool
}

// lookUp returns a key, or the read that will bring it; mine says that it is
// the caller's to do.
func (s *ringShard) lookUp(mailbox string) (key persistence.Key, read *keyRead, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key, ok := s.young[mailbox]; ok {
		return key, nil, false
	}
	if key, ok := s.old[mailbox]; ok {
		s.keep(mailbox, key)
		return key, nil, false
	}
	if read := s.reading[mailbox]; read != nil {
		return key, read, false
	}
	read = &keyRead{done: make(chan struct{})}
	s.reading[mailbox] = read
	return key, read, true
}

// keep adds a key to the young generation. The caller holds mu.
func (s *ringShard) keep(mailbox string, key persistence.Key) {
	if len(s.young) >= s.half || s.young == nil {
		s.young, s.old = make(map[string]persistence.Key), s.young
	}
	s.young[mailbox] = key
}

// finish keeps what was read and wakes those who wait for it.
func (s *ringShard) finish(mailbox string, read *keyRead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading[mailbox] == read {
		delete(s.reading, mailbox)
	}
	if read.err == nil && !read.stale {
		s.keep(mailbox, read.key)
	}
	close(read.done)
}

// forget drops a key and keeps reads under way from bringing it back.
func (s *ringShard) forget(mailbox string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, mailbox)
	delete(s.old, mailbox)
	if read := s.reading[mailbox]; read != nil {
		read.stale = true
		delete(s.reading, mailbox)
	}
}
