// Package auth knows who asks: passwords, access tokens, refresh tokens, and
// whether the session behind a token still lives.
//
// An access token is a signed JWT that any gateway can verify alone; a refresh
// token is opaque, authentic by a MAC, and exchanged through the talk tier,
// which alone knows whether it was used before. A signature says who a session
// belongs to, never that it still lives: [Sessions] compares each request with
// what the talk tier said last.
package auth

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const pemType = "PRIVATE KEY"

// LoadOrCreateKey returns the Ed25519 key in the PKCS #8 PEM file at path. A
// file that does not exist is made, readable by its owner alone, and is durable
// when the function returns. A file that others may read is refused.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) {
	data, err := loadOrCreate(path, func() ([]byte, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
	})
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("signing key: %s holds no PEM block %q", path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing key: %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key: %s holds a %T, not an Ed25519 key", path, parsed)
	}
	return key, nil
}

// LoadOrCreateAdminToken returns the bearer token of the admin listener from
// the file at path, which is made like that of [LoadOrCreateKey].
func LoadOrCreateAdminToken(path string) (string, error) {
	data, err := loadOrCreate(path, func() ([]byte, error) {
		return []byte(rand.Text() + "\n"), nil
	})
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < 16 {
		return "", fmt.Errorf("admin token: %s holds fewer than 16 characters", path)
	}
	return token, nil
}

// loadOrCreate reads a secret file, or makes it with the content that make
// returns. Two processes that start at once agree on the file of one of them.
func loadOrCreate(path string, create func() ([]byte, error)) ([]byte, error) {
	data, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = create(); err != nil {
		return nil, err
	}
	if err := writeSecret(path, data); err != nil {
		return nil, err
	}
	return readSecret(path)
}

func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	return os.ReadFile(path) //nolint:gosec // G304: the path is the operator's configuration
}

// writeSecret makes the file whole or not at all: it is written and synced
// under another name, then linked, which fails when the name is taken.
func writeSecret(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	parent, err := os.Open(dir) //nolint:gosec // G304: the path is the operator's configuration
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// derive makes a secret for one purpose from the signing key, so that there is
// one file to keep.
func derive(key ed25519.PrivateKey, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, key.Seed(), nil, "tegami "+purpose, sha256.Size)
}

// EqualTokens compares two tokens in a time that tells nothing of where they
// differ.
func EqualTokens(a, b string) bool {
	ha, hb := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(ha[:], hb[:]) == 1
}

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func decode(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }
