package redis_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tegami-im/tegami/persistence/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hang is how long a test waits for what should take moments.
const hang = 30 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func TestOptions(t *testing.T) {
	for name, options := range map[string]redis.Options{
		"no address":      {},
		"two servers":     {Addresses: []string{"a:1", "b:1"}},
		"a brace":         {Addresses: []string{"a:1"}, Prefix: "te{ga}mi"},
		"negative":        {Addresses: []string{"a:1"}, MaxRows: -1},
		"below 1 ms":      {Addresses: []string{"a:1"}, Expiry: time.Microsecond},
		"negative length": {Addresses: []string{"a:1"}, ReadTimeout: -1},
	} {
		if _, err := redis.Open(options); err == nil {
			t.Errorf("%s: the options are taken", name)
		}
	}
}

func TestCloseWithoutServer(t *testing.T) {
	c, err := redis.Open(redis.Options{Addresses: []string{freeAddress(t)}, PoolSize: 2, Breaker: redis.BreakerOptions{Failures: 100}})
	check(t, err)
	for range 10 {
		if _, err := c.Mark(testContext(t), 0); !errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("a call without a server returns %v", err)
		}
	}
	check(t, c.Close()) // TestMain sees that nothing goes on dialing
}
