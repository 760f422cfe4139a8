//go:build stores

package redis_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence/redis"
)

func TestPassword(t *testing.T) {
	s := startServer(t, "--requirepass", "secret", "--user", "tegami", "on", ">other", "~tegami:*", "+@read", "+@write", "+@scripting", "+@connection")
	for _, user := range []redis.Options{{Password: "secret"}, {Username: "tegami", Password: "other"}} {
		c := open(t, user, s)
		begin(t, c, "a")
		wantState(t, c, "a", 1)
		if rows, err := c.Operations(testContext(t), 0, "a", 0, 0, 1, 1, 1); err != nil || len(rows) != 1 {
			t.Errorf("user %q reads %d rows, error %v", user.Username, len(rows), err)
		}
	}
	for _, user := range []redis.Options{{}, {Password: "wrong"}, {Username: "tegami", Password: "secret"}} {
		c := open(t, user, s)
		failures(t, c)
	}
	// A user that may not touch the keys is told so by a server that works.
	c := open(t, redis.Options{Username: "tegami", Password: "other", Prefix: "another"}, s)
	if _, err := c.Begin(testContext(t), 0, at(0)); err == nil || errors.Is(err, redis.ErrUnavailable) {
		t.Errorf("a user without permission gets %v", err)
	}
}

func TestTLS(t *testing.T) {
	directory := t.TempDir()
	authority := certificate(t, directory)
	s := startServer(t, "--port", "0", "--tls-port", portSetting, "--tls-auth-clients", "no",
		"--tls-cert-file", filepath.Join(directory, "cert"), "--tls-key-file", filepath.Join(directory, "key"), "--tls-ca-cert-file", filepath.Join(directory, "cert"))
	options := redis.Options{TLS: &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS12}, Breaker: redis.BreakerOptions{MaxPause: 400 * time.Millisecond}}
	c := open(t, options, s)
	mark := begin(t, c, "a")
	wantState(t, c, "a", 1)
	s.kill()
	failures(t, c)
	s.restart()
	eventually(t, "the server is used again", func(ctx context.Context) error {
		_, err := c.Mark(ctx, 0)
		return err
	})
	wantMoved(t, c, mark)

	for name, config := range map[string]*tls.Config{
		"without TLS":           nil,
		"unknown authority":     {MinVersion: tls.VersionTLS12},
		"certificate of others": {RootCAs: authority, ServerName: "elsewhere.example", MinVersion: tls.VersionTLS12},
	} {
		c := open(t, redis.Options{TLS: config}, s)
		if _, err := c.Mark(testContext(t), 0); !errors.Is(err, redis.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
}

// certificate makes one for 127.0.0.1, as the files cert and key.
func certificate(t *testing.T, directory string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: private}} {
		check(t, os.WriteFile(filepath.Join(directory, name), pem.EncodeToMemory(block), 0o600))
	}
	parsed, err := x509.ParseCertificate(der)
	check(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}
