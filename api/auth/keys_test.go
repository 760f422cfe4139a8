package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTheKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.key")
	first, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadOrCreateKey(path)
	if err != nil || !first.Equal(second) {
		t.Errorf("another key is read back: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

// Two that start at once end up with one key.
func TestTheKeyIsAgreedUpon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.key")
	keys := make([][]byte, 16)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			key, err := LoadOrCreateKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = key.Seed()
		})
	}
	wg.Wait()
	for i := range keys {
		if !bytes.Equal(keys[i], keys[0]) {
			t.Errorf("%d has another key than the first", i)
		}
	}
}

func TestTheAdminTokenIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.token")
	first, err := LoadOrCreateAdminToken(path)
	if err != nil || len(first) < 26 {
		t.Fatalf("got %q, %v", first, err)
	}
	second, err := LoadOrCreateAdminToken(path)
	if err != nil || first != second {
		t.Errorf("another token is read back: %v", err)
	}
}

func TestSecretsThatCannotBeUsedAreRefused(t *testing.T) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	foreign := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	broken := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der[:20]})
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, c := range map[string]struct {
		content []byte
		mode    os.FileMode
		want    string
	}{
		"readable by others":   {[]byte("x"), 0o644, "chmod 600"},
		"readable by a group":  {[]byte("x"), 0o640, "chmod 600"},
		"empty":                {nil, 0o600, ""},
		"no PEM":               {[]byte("secret"), 0o600, "no PEM"},
		"of another algorithm": {foreign, 0o600, "not an Ed25519 key"},
		"broken":               {broken, 0o600, ""},
		"no key":               {certificate, 0o600, "no PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, c.content, c.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("as a key: %v", err)
			}
			if len(c.content) < 16 {
				if _, err := LoadOrCreateAdminToken(path); err == nil {
					t.Error("as an admin token it is accepted")
				}
			}
		})
	}
	if _, err := LoadOrCreateKey(filepath.Join(t.TempDir(), "no", "such", "folder")); err == nil {
		t.Error("a key in a folder that does not exist")
	}
	if !EqualTokens("abc", "abc") || EqualTokens("abc", "abd") || EqualTokens("", "abc") {
		t.Error("tokens are compared wrongly")
	}
}
