package sealing

import (
	"crypto/cipher"
	"sync"

	"github.com/tegami-im/tegami/persistence"
)

// maxCiphers bounds those that are kept: some 300 KB.
const maxCiphers = 256

// Ciphers keeps those of a few mailboxes. It is for chats: what lies in one is
// opened for each of its members. The zero value is ready for use, by many
// goroutines at once.
type Ciphers struct {
	mu   sync.Mutex // guards the following
	kept map[string]keptCipher
}

type keptCipher struct {
	key  persistence.Key
	aead cipher.AEAD
}

// Opener returns what [NewOpener] does.
func (c *Ciphers) Opener(key persistence.Key, mailbox string) *Opener {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.kept[mailbox]
	if !ok || kept.key != key {
		kept = keptCipher{key, aead(key)}
		if len(c.kept) >= maxCiphers || c.kept == nil {
			c.kept = make(map[string]keptCipher)
		}
		c.kept[mailbox] = kept
	}
	return &Opener{aead: kept.aead, mailbox: mailbox}
}
