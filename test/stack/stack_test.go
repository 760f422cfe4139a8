//go:build stores

package stack_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/stack"
)

func dial(address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return dialer.DialContext(context.Background(), "tcp", address)
}

// redis sends commands on a connection of its own and returns their answers.
func redis(address string, commands ...string) (answers []string, err error) {
	connection, err := dial(address)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(connection)
	for _, command := range commands {
		if _, err := fmt.Fprintf(connection, "%s\r\n", command); err != nil {
			return nil, err
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, err
		}
		answers = append(answers, strings.TrimSpace(line))
	}
	return answers, nil
}

func mustRedis(t *testing.T, s *stack.Stack, want string, commands ...string) {
	t.Helper()
	answers, err := redis(s.Addr(stack.Redis), commands...)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(answers, " "); got != want {
		t.Fatalf("redis answered %q, want %q", got, want)
	}
}

func TestKilledServerComesBackWithItsData(t *testing.T) {
	s, err := stack.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.StopAfter(t)
	// By default Redis may lose what it acknowledged in the last seconds.
	s.Set("REDIS_ARGS", "--appendfsync always")
	s.Up(t, stack.Redis)
	mustRedis(t, s, "+OK :2", "SET n 1", "INCR n")
	s.Kill(t, stack.Redis)
	if _, err := redis(s.Addr(stack.Redis), "PING"); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Up(t, stack.Redis)
	mustRedis(t, s, ":3", "INCR n")
	s.Wipe(t, stack.Redis)
	s.Up(t, stack.Redis)
	mustRedis(t, s, ":1", "INCR n")
}

func TestTwoStacksStandSideBySide(t *testing.T) {
	one, other := stack.Start(t, stack.Redis, stack.Etcd), stack.Start(t, stack.Redis, stack.Etcd)
	mustRedis(t, one, "+OK", "SET which one")
	mustRedis(t, other, "$-1", "GET which")
	one.Kill(t, stack.Redis)
	mustRedis(t, other, "+PONG", "PING")
}

func TestPausedServerDoesNotAnswer(t *testing.T) {
	s := stack.Start(t, stack.Redis)
	s.Pause(t, stack.Redis)
	connection, err := dial(s.Addr(stack.Redis))
	if err != nil {
		t.Fatal(err) // the system accepts for it
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = connection.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	answer := make([]byte, 7)
	if n, err := connection.Read(answer); err == nil {
		t.Fatalf("a paused server answers %q", answer[:n])
	}
	s.Resume(t, stack.Redis)
	_ = connection.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := connection.Read(answer); err != nil {
		t.Fatal(err)
	}
	// A paused server can be killed as well.
	s.Pause(t, stack.Redis)
	s.Kill(t, stack.Redis)
	if _, err := redis(s.Addr(stack.Redis), "PING"); err == nil {
		t.Fatal("a server that was paused outlives Kill")
	}
}
