// Package sealing seals message bodies with the key of the mailbox that they
// lie in, and makes the keyed hashes that take a body's place where it must
// not be read.
//
// A sealed body is a random 12-byte nonce followed by AES-256-GCM ciphertext
// (NIST SP 800-38D) that is bound to its mailbox and message id. Keyed hashes
// are HMAC-SHA-256 (RFC 2104), truncated.
package sealing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/tegami-im/tegami/persistence"
)

// ErrOpen says that the sealed body was made with another key, for another mailbox or
// message, or was damaged.
var ErrOpen = errors.New("sealed body does not open")

const nonceSize = 12

// Seal seals a body for the mailbox and the message that it belongs to.
func Seal(key persistence.Key, mailbox string, messageID, body []byte) []byte {
	sealed := make([]byte, nonceSize, nonceSize+len(body)+16)
	_, _ = rand.Read(sealed) // crypto/rand never fails: it ends the program instead
	bound := appendBinding(make([]byte, 0, len(mailbox)+len(messageID)), mailbox, messageID)
	return aead(key).Seal(sealed, sealed[:nonceSize], body, bound)
}

// Opener opens the bodies of one mailbox. One goroutine at a time may use it.
type Opener struct {
	aead    cipher.AEAD
	mailbox string
	bound   []byte // what the body is bound to
}

// NewOpener returns what opens the bodies of a mailbox. A page has a thousand of
// them: preparing the cipher takes as long as opening a short one.
func NewOpener(key persistence.Key, mailbox string) *Opener {
	return &Opener{aead: aead(key), mailbox: mailbox}
}

// Open appends the body that Seal sealed to dst. Error: ErrOpen.
func (o *Opener) Open(dst, messageID, sealed []byte) ([]byte, error) {
	if len(sealed) < nonceSize {
		return nil, ErrOpen
	}
	o.bound = appendBinding(o.bound[:0], o.mailbox, messageID)
	opened, err := o.aead.Open(dst, sealed[:nonceSize], sealed[nonceSize:], o.bound)
	if err != nil {
		return nil, ErrOpen
	}
	return opened, nil
}

// Hash writes the keyed hash of parts into sum, as much as fits (at most 32
// bytes). Purposes keep hashes of the same parts apart.
func Hash(sum []byte, key persistence.Key, purpose string, parts ...[]byte) {
	mac := hmac.New(sha256.New, key[:])
	var length [4]byte
	write := func(part []byte) {
		binary.BigEndian.PutUint32(length[:], uint32(len(part)))
		mac.Write(length[:])
		mac.Write(part)
	}
	write([]byte(purpose))
	for _, part := range parts {
		write(part)
	}
	var full [sha256.Size]byte
	copy(sum, mac.Sum(full[:0]))
}

// HashCommand hashes the name that a sender gave to a message, by which a retry
// is known.
func HashCommand(sum []byte, key persistence.Key, from, clientMessageID string) {
	Hash(sum, key, "client message id", []byte(from), []byte(clientMessageID))
}

// HashBody hashes what was sent.
func HashBody(sum []byte, key persistence.Key, body []byte) { Hash(sum, key, "body", body) }

func aead(key persistence.Key) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) //nolint:forbidigo // unreachable: a Key has the size of an AES-256 key
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) //nolint:forbidigo // unreachable: AES has the block size that GCM wants
	}
	return gcm
}

// appendBinding appends what a body is bound to.
func appendBinding(dst []byte, mailbox string, messageID []byte) []byte {
	return append(append(dst, messageID...), mailbox...)
}
