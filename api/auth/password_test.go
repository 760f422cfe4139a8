package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/tegami-im/tegami/api/fault"
)

func TestPasswords(t *testing.T) {
	p := NewPasswords(2, time.Minute)
	hash, err := p.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("the hash is %s", hash)
	}
	again, err := p.Hash(t.Context(), "correct horse")
	if err != nil || again == hash {
		t.Error("two hashes have the same salt")
	}
	for password, want := range map[string]bool{"correct horse": true, "correct hors": false, "": false, "Correct horse": false} {
		if got, err := p.Verify(t.Context(), password, hash); err != nil || got != want {
			t.Errorf("%q: %v, %v", password, got, err)
		}
	}
	// A user who does not exist has no password, not even an empty one.
	for _, password := range []string{"", "correct horse"} {
		if got, err := p.Verify(t.Context(), password, ""); err != nil || got {
			t.Errorf("%q for nobody: %v, %v", password, got, err)
		}
	}
}

// The hash that stands for nobody costs as much as that of a user.
func TestNobodyCostsAsMuchAsSomebody(t *testing.T) {
	nobody, err := parsePHC(unknownUser)
	if err != nil {
		t.Fatal(err)
	}
	if nobody.memory != argonMemory || nobody.time != argonTime || nobody.threads != argonThreads || len(nobody.key) != argonKey || len(nobody.salt) != argonSalt {
		t.Errorf("it has the parameters %+v", nobody)
	}
}

func TestDamagedHashesAreErrors(t *testing.T) {
	p := NewPasswords(1, 0)
	good := phc(make([]byte, 16), make([]byte, 32))
	for _, hash := range []string{
		"x", "$", "$argon2id", "$argon2i" + good[len("$argon2id"):],
		strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=19456", "m=0", 1),
		strings.Replace(good, "m=19456", "m=4294967295", 1), // would take 4 TiB
		strings.Replace(good, "t=2", "t=0", 1),
		strings.Replace(good, "t=2", "t=4000000000", 1),
		strings.Replace(good, "p=1", "p=0", 1),
		strings.Replace(good, "p=1", "p=256", 1),
		good[:len(good)-40], good + "!", good + "$x",
	} {
		if ok, err := p.Verify(t.Context(), "any", hash); ok || !errors.Is(err, errDamagedHash) {
			t.Errorf("%s: %v, %v", hash, ok, err)
		}
	}
}

// At most so many are worked on at once; a further one waits for a while, and
// is then told to come back.
func TestPasswordsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPasswords(2, time.Second)
		for range 2 {
			if err := p.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		_, err := p.Verify(t.Context(), "any", "")
		if f := fault.From(err); f.Code != connect.CodeResourceExhausted || f.RetryAfter <= 0 || time.Since(began) != time.Second {
			t.Errorf("a third: %v after %v", f, time.Since(began))
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := p.Hash(gone, "any"); !errors.Is(err, context.Canceled) {
			t.Errorf("one that went away: %v", err)
		}
		time.AfterFunc(time.Second/2, p.release)
		if err := p.acquire(t.Context()); err != nil {
			t.Errorf("one that waited for less: %v", err)
		}
	})
}
