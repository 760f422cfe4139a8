package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/config"
)

func TestClusterStatusShowsThePlacement(t *testing.T) {
	var out, problems bytes.Buffer
	code := run(t.Context(), []string{
		"cluster", "status", "--set", "cluster.membership=static",
		"--set", "cluster.members=talk-1=10.0.0.1:7500,talk-2=10.0.0.2:7500",
	}, streams{strings.NewReader(""), &out, &problems})
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, problems.String())
	}
	for _, want := range []string{
		"talk-1  talk  active  12", "talk-2  talk  active  1", "256 shards at revision 1; the fullest member has 1.0", "10.0.0.2:7500",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

func TestClusterStatusSaysThatNobodyIsThere(t *testing.T) {
	var out, problems bytes.Buffer
	code := run(t.Context(), []string{"cluster", "status", "--set", "cluster.membership=static"}, streams{strings.NewReader(""), &out, &problems})
	if code != 0 || !strings.Contains(out.String(), "256 without an owner: no talk node is active") {
		t.Errorf("exit code %d: %s%s", code, out.String(), problems.String())
	}
}

// keyring is where gateways find each other's public keys. After the first it fails
// to take so many.
type keyring struct {
	cluster.Feed

	fails     int
	published []time.Duration // how long it is since the beginning
	began     time.Time
	until     time.Time // of the key
}

func (k *keyring) Close() error { return nil }

func (k *keyring) Signer(string) (ed25519.PublicKey, bool) { return nil, false }

func (k *keyring) PublishSigner(_ context.Context, _ string, _ ed25519.PublicKey, until time.Time) error {
	if len(k.published) > 0 && k.fails > 0 {
		k.fails--
		return errors.New("away")
	}
	k.published = append(k.published, time.Since(k.began))
	k.until = until
	return nil
}

// A key that could not be published again is soon: what is signed with it must be
// good elsewhere for as long as it is here.
func TestAPublicKeyIsPublishedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(config.Config)
		c.Auth.RefreshToken = 30 * 24 * time.Hour
		s := newService(c, slog.New(slog.DiscardHandler))
		keys := &keyring{began: time.Now(), fails: 3}
		s.observer = keys
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.publishKey(t.Context(), &server.Options{SigningKey: private}); err != nil {
			t.Fatal(err)
		}
		<-time.After(publishEvery + time.Hour)
		s.stop()
		s.background.Wait()
		if n := len(keys.published); n != 2 || keys.published[1] != publishEvery+3*publishAgain {
			t.Errorf("published after %v", keys.published)
		}
		if left := time.Until(keys.until); left < c.Auth.RefreshToken+publishEvery {
			t.Errorf("the key is good for %v", left)
		}
	})
}
