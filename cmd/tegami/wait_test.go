package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/telemetry"
)

func TestAStartWaitsForServersOnlyThatDoNotAnswer(t *testing.T) {
	away := fmt.Errorf("open: %w", kafka.ErrUnavailable)
	for _, test := range []struct {
		name     string
		within   time.Duration
		errs     []error // of one attempt after the other; the last goes on
		attempts int
		want     error
	}{
		{"one that answers", time.Minute, []error{nil}, 1, nil},
		{"one that answers after a while", time.Minute, []error{away, hbase.ErrUnavailable, nil}, 3, nil},
		{"a schema that is missing", time.Minute, []error{hbase.ErrSchema}, 1, hbase.ErrSchema},
		{"a schema that is missing behind a wait", time.Minute, []error{away, hbase.ErrSchema}, 2, hbase.ErrSchema},
		{"one that never answers", 2 * time.Second, []error{away}, 5, kafka.ErrUnavailable},
		{"without patience", 0, []error{away}, 1, kafka.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var named []string
				p := patience{
					until: time.Now().Add(test.within), log: slog.New(slog.DiscardHandler),
					waiting: func(server string) { named = append(named, server) },
				}
				attempts := 0
				_, err := reach(t.Context(), p, "kafka", "k:9092", func(context.Context) (int, error) {
					attempts++
					return 0, test.errs[min(attempts, len(test.errs))-1]
				})
				if !errors.Is(err, test.want) || attempts != test.attempts {
					t.Errorf("%v after %d attempts, want %v after %d", err, attempts, test.want, test.attempts)
				}
				if errors.Is(err, kafka.ErrUnavailable) && !strings.Contains(err.Error(), "kafka at k:9092") {
					t.Errorf("%q does not name the server", err)
				}
				if attempts > 1 && (len(named) != 1 || named[0] != "kafka at k:9092") {
					t.Errorf("waited for %q", named)
				}
			})
		})
	}
}

// While a start waits, operators see that the process lives, and for what it
// waits; what ends the process ends the wait.
func TestAWaitingServerAnswersOperators(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := listener.Addr().String()
	_ = listener.Close()

	c := config.Default()
	c.Store.Kind, c.Data.Dir, c.Admin.Listen = config.StoreHybrid, t.TempDir(), admin
	c.Kafka.Brokers = "127.0.0.1:1" // nobody listens there
	c.Kafka.AllowOneBroker = true
	s := &service{config: &c, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.openStorage(ctx, telemetry.New()) }()
	for path, want := range map[string]string{
		"/healthz": "ok",
		"/readyz":  "not ready: waiting for kafka at 127.0.0.1:1",
		"/metrics": "go_goroutines",
	} {
		if got := askUntilAnswered(t, ended, "http://"+admin+path); !strings.Contains(got, want) {
			t.Errorf("%s answers %q, want %q", path, got, want)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ended with %v", err)
	}
	if again, err := new(net.ListenConfig).Listen(t.Context(), "tcp", admin); err != nil {
		t.Errorf("the admin address is not free for the server: %v", err)
	} else {
		_ = again.Close()
	}
}

// askUntilAnswered asks until somebody answers.
func askUntilAnswered(t *testing.T, ended <-chan error, url string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			content, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
		select {
		case err := <-ended:
			t.Fatalf("the start ended: %v", err)
		case <-tick.C:
		}
	}
}
