//go:build stores

package etcd

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/stack"
)

// observe is an observer of its own, that ends with the test.
func observe(t *testing.T, servers *stack.Stack) *Observer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	o, err := Observe(ctx, Options{Endpoints: []string{servers.Addr(stack.Etcd)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// eventually waits until an observer has seen what the others did.
func eventually(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for end := time.After(30 * time.Second); !seen(); {
		select {
		case <-end:
			t.Fatalf("never: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// The key of a gateway is good at the others until its time is over; then whoever
// publishes its own removes it, unless it has been published again.
func TestKeysOfGateways(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, other := observe(t, servers), observe(t, servers)
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(o *Observer, id string, good time.Duration) {
		t.Helper()
		if err := o.PublishSigner(t.Context(), id, public, time.Now().Add(good)); err != nil {
			t.Fatal(err)
		}
	}
	known := func(o *Observer, id string) bool {
		_, there := (*o.signers.Load())[id]
		return there
	}
	good := func(o *Observer, id string) bool {
		key, ok := o.Signer(id)
		return ok && key.Equal(public)
	}

	for _, id := range []string{"late", "gone"} { // of gateways that have not run for long
		value, err := json.Marshal(signer{Key: public, Until: time.Now().Add(-time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := one.client.Put(t.Context(), one.options.Prefix+signersKey+id, string(value)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the other knows the keys", func() bool { return known(other, "late") && known(other, "gone") })
	other.stop() // it sees no more of what others do, as if that came late
	if good(other, "late") || !known(other, "late") {
		t.Error("a key is good whose time is over")
	}

	publish(one, "one", time.Hour)
	publish(one, "late", time.Hour)
	publish(other, "other", time.Hour)
	publish(one, "last", time.Hour)
	eventually(t, "all of that is seen", func() bool { return known(one, "last") })
	if !known(one, "other") || known(one, "gone") {
		t.Error("what is over is not gone")
	}
	if !good(one, "late") || !good(one, "one") {
		t.Error("a key was removed that had been published again")
	}
}
