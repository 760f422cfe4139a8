package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/tegami-im/tegami/api/fault"
)

// argon2id with the parameters that OWASP gives for 19 MiB.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
)

// What a stored hash may ask for at most: a damaged or foreign one must not
// take the machine's memory.
const (
	maxArgonMemory = 256 << 10 // KiB
	maxArgonTime   = 16
)

// unknownUser is compared with when there is no such user, so that the answer
// takes as long as for one that exists. No password leads to it.
var unknownUser = phc(make([]byte, argonSalt), make([]byte, argonKey))

// Passwords hashes and compares passwords, at most a few at once, since each
// takes 19 MiB and a good part of a core. It is safe for concurrent use.
type Passwords struct {
	slots chan struct{}
	wait  time.Duration
}

// NewPasswords returns a hasher that works on at most slots passwords at once
// and lets further callers wait for at most wait.
func NewPasswords(slots int, wait time.Duration) *Passwords {
	return &Passwords{slots: make(chan struct{}, max(slots, 1)), wait: wait}
}

// Hash returns the PHC string of a password. It fails with resource_exhausted
// when too many others wait, and with the context's error.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := p.acquire(ctx); err != nil {
		return "", err
	}
	defer p.release()
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)
	return phc(salt, key), nil
}

// Verify reports whether a password is the one behind a stored hash. An empty
// hash stands for a user who does not exist or has no password: the answer is
// no, and takes as long. It fails like Hash, and when the hash is damaged.
func (p *Passwords) Verify(ctx context.Context, password, stored string) (bool, error) {
	known := stored != ""
	if !known {
		stored = unknownUser
	}
	h, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	if err := p.acquire(ctx); err != nil {
		return false, err
	}
	defer p.release()
	key := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1 && known, nil
}

func (p *Passwords) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return fault.Exhausted("busy", "too many passwords are being checked", fault.DefaultRetry)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Passwords) release() { <-p.slots }

type argonHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

func phc(salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

var errDamagedHash = errors.New("stored password hash is damaged")

func parsePHC(s string) (argonHash, error) {
	var h argonHash
	var version int
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return h, errDamagedHash
	}
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return h, errDamagedHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return h, errDamagedHash
	}
	var errSalt, errKey error
	h.salt, errSalt = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, errKey = base64.RawStdEncoding.DecodeString(parts[5])
	if errSalt != nil || errKey != nil || len(h.key) < 16 || len(h.key) > 64 ||
		h.memory == 0 || h.memory > maxArgonMemory || h.time == 0 || h.time > maxArgonTime || h.threads == 0 {
		return h, errDamagedHash
	}
	return h, nil
}
