//go:build stores

package redis_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence/redis"
)

// portSetting stands for the server's port in its settings.
const portSetting = "PORT"

// server is a private Redis server. It may be killed and started again on the
// same port.
type server struct {
	t         testing.TB
	address   string
	directory string
	settings  []string
	command   *exec.Cmd
	ended     chan struct{}
}

// startServer starts a server that persists nothing, with more settings as on
// redis-server's command line.
func startServer(t testing.TB, settings ...string) *server {
	t.Helper()
	s := &server{t: t, directory: t.TempDir()}
	s.settings = append([]string{"--save", "", "--appendonly", "no", "--dir", s.directory, "--bind", "127.0.0.1"}, settings...)
	// The port that is free now may be taken a moment later.
	for range 5 {
		s.address = freeAddress(t)
		if s.start(s.settings...) {
			t.Cleanup(s.kill)
			return s
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

func (s *server) port() string {
	_, port, _ := net.SplitHostPort(s.address)
	return port
}

// start starts the server and waits until it serves.
func (s *server) start(settings ...string) bool {
	s.t.Helper()
	ready, ok := s.launch("Ready to accept connections", settings...)
	if !ok {
		return false
	}
	select {
	case ok := <-ready:
		return ok
	case <-time.After(hang):
		s.kill()
		s.t.Fatal("redis-server is not ready")
		return false
	}
}

// launch starts the server. ready gets whether its log has had a line.
func (s *server) launch(line string, settings ...string) (ready chan bool, ok bool) {
	s.t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatalf("%v: these tests need it (on Debian: apt-get install redis-server)", err)
	}
	arguments := append([]string{"--port", s.port()}, settings...)
	for i, argument := range arguments {
		if argument == portSetting {
			arguments[i] = s.port()
		}
	}
	s.command = exec.CommandContext(context.Background(), program, arguments...)
	dieWithParent(s.command)
	log, err := s.command.StdoutPipe()
	check(s.t, err)
	if err := s.command.Start(); err != nil {
		return nil, false
	}
	ready = make(chan bool, 1)
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if strings.Contains(lines.Text(), line) {
				select {
				case ready <- true:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, log)
		_ = s.command.Wait()
		select {
		case ready <- false:
		default:
		}
	}()
	return ready, true
}

// kill kills the server as kill -9 does.
func (s *server) kill() {
	_ = s.command.Process.Kill()
	<-s.ended
}

// restart starts a killed server with what it saved, if it did.
func (s *server) restart() {
	s.t.Helper()
	if !s.start(s.settings...) {
		s.t.Fatal("redis-server does not start again")
	}
}

func (s *server) signal(signal syscall.Signal) {
	s.t.Helper()
	check(s.t, s.command.Process.Signal(signal))
}

// admin returns a client that looks behind the cache.
func (s *server) admin() *goredis.Client {
	client := goredis.NewClient(&goredis.Options{Addr: s.address, DisableIdentity: true, Protocol: 2, PoolSize: 1})
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// open opens a cache on servers. Its timeouts are those of a slow machine.
func open(t testing.TB, options redis.Options, servers ...*server) *redis.Cache {
	t.Helper()
	for _, s := range servers {
		options.Addresses = append(options.Addresses, s.address)
	}
	for _, timeout := range []*time.Duration{&options.DialTimeout, &options.ReadTimeout, &options.WriteTimeout} {
		if *timeout == 0 {
			*timeout = 10 * time.Second
		}
	}
	options.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := redis.Open(options)
	check(t, err)
	t.Cleanup(func() { check(t, c.Close()) })
	return c
}

// eventually calls what may fail for a moment until it does not.
func eventually(t testing.TB, what string, call func(ctx context.Context) error) {
	t.Helper()
	ctx := testContext(t)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := call(ctx)
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// keys lists what a server holds.
func keys(ctx context.Context, client *goredis.Client) ([]string, error) {
	var all []string
	for cursor := uint64(0); ; {
		page, next, err := client.Scan(ctx, cursor, "*", 1000).Result()
		if err != nil {
			return nil, fmt.Errorf("scan: %w", err)
		}
		all = append(all, page...)
		if cursor = next; cursor == 0 {
			return all, nil
		}
	}
}
