package auth

import (
	"sync"
	"time"

	"github.com/tegami-im/tegami/actors/talk"
)

// tokenCache remembers verified tokens by their hash, in two generations: when
// the young one is full it becomes the old one and what the old one held is
// forgotten. What is used lives on, since a hit in the old one moves it.
type tokenCache struct {
	mu         sync.RWMutex
	young, old map[[32]byte]verifiedToken
	limit      int // of one generation
}

type verifiedToken struct {
	session talk.Session
	expires time.Time
}

func newTokenCache(size int) *tokenCache {
	return &tokenCache{young: make(map[[32]byte]verifiedToken), limit: max(size/2, 1)}
}

func (c *tokenCache) get(key [32]byte, now time.Time) (talk.Session, bool) {
	c.mu.RLock()
	token, ok := c.young[key]
	aged := false
	if !ok {
		token, aged = c.old[key]
	}
	c.mu.RUnlock()
	if !ok && !aged || !now.Before(token.expires) {
		return talk.Session{}, false
	}
	if aged {
		c.put(key, token.session, token.expires)
	}
	return token.session, true
}

func (c *tokenCache) put(key [32]byte, session talk.Session, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.limit {
		c.young, c.old = make(map[[32]byte]verifiedToken), c.young
	}
	c.young[key] = verifiedToken{session: session, expires: expires}
}
