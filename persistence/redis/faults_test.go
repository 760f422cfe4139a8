//go:build stores

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/redis"
)

func at(offset int64) persistence.Position {
	return persistence.Position{Generation: 1, Offset: offset}
}

// batch is a write of one mailbox whose state and newest row are those of an
// offset.
func batch(mailbox string, offset int64) []persistence.MailboxWrite {
	return []persistence.MailboxWrite{{
		Mailbox: mailbox, Position: at(offset), State: fmt.Append(nil, offset),
		Rows: []persistence.Row{{Revision: offset, Peer: "b", Data: fmt.Append(nil, offset)}},
	}}
}

// begin starts a filling with one mailbox, at offset 1.
func begin(t testing.TB, c persistence.Cache, mailbox string) persistence.CacheMark {
	t.Helper()
	mark, err := c.Begin(testContext(t), 0, at(0))
	check(t, err)
	check(t, c.Fill(testContext(t), 0, mark, mailbox, nil))
	return write(t, c, mark, mailbox, 1)
}

func write(t testing.TB, c persistence.Cache, from persistence.CacheMark, mailbox string, offset int64) persistence.CacheMark {
	t.Helper()
	mark, err := c.Write(testContext(t), 0, from, at(offset), batch(mailbox, offset))
	check(t, err)
	return mark
}

func wantState(t testing.TB, c persistence.Cache, mailbox string, offset int64) {
	t.Helper()
	m, err := c.Load(testContext(t), 0, mailbox, 100, at(offset))
	check(t, err)
	if m.Position != at(offset) || string(m.State) != fmt.Sprint(offset) {
		t.Fatalf("the state of %q is %q at %v, want that of offset %d", mailbox, m.State, m.Position, offset)
	}
}

// wantMoved checks that a mark is no longer the shard's.
func wantMoved(t testing.TB, c persistence.Cache, from persistence.CacheMark) {
	t.Helper()
	_, err := c.Write(testContext(t), 0, from, at(1000), batch("refused", 1000))
	if !errors.Is(err, persistence.ErrMarkMoved) {
		t.Fatalf("a write from %v returns %v, want ErrMarkMoved", from, err)
	}
}

// failures calls the cache until the breaker refuses, and checks what each call
// says.
func failures(t *testing.T, c *redis.Cache) {
	t.Helper()
	for range 10 {
		if _, err := c.Mark(testContext(t), 0); !errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("a call to a dead server returns %v, want ErrUnavailable", err)
		}
	}
}

func TestServerKilledAndEmpty(t *testing.T) {
	s := startServer(t)
	c := open(t, redis.Options{}, s)
	mark := begin(t, c, "a")
	for range 3 {
		s.kill()
		failures(t, c)
		s.restart()
		eventually(t, "the server is used again", func(ctx context.Context) error {
			_, err := c.Mark(ctx, 0)
			return err
		})
		wantMoved(t, c, mark)
		if _, err := c.Load(testContext(t), 0, "a", 10, at(0)); !errors.Is(err, persistence.ErrNotFound) {
			t.Fatalf("an empty server is loaded from: %v", err)
		}
		mark = begin(t, c, "a")
		wantState(t, c, "a", 1)
	}
}

func TestServerWithOldData(t *testing.T) {
	for _, kind := range []string{"snapshot", "append-only file"} {
		t.Run(kind, func(t *testing.T) {
			var settings []string
			if kind != "snapshot" {
				settings = []string{"--appendonly", "yes", "--appendfsync", "always"}
			}
			s := startServer(t, settings...)
			c := open(t, redis.Options{}, s)
			old := begin(t, c, "a")
			if kind == "snapshot" {
				check(t, s.admin().Save(t.Context()).Err())
			}
			saved := filepath.Join(t.TempDir(), "saved")
			check(t, os.CopyFS(saved, os.DirFS(s.directory)))
			current := write(t, c, old, "a", 2)
			s.kill()
			check(t, os.RemoveAll(s.directory))
			check(t, os.CopyFS(s.directory, os.DirFS(saved)))
			s.restart()
			eventually(t, "the server is used again", func(ctx context.Context) error {
				mark, err := c.Mark(ctx, 0)
				if err == nil && mark != old {
					t.Fatalf("the mark is %v, want the old one, %v", mark, old)
				}
				return err
			})
			wantMoved(t, c, current)
			if _, err := c.Load(testContext(t), 0, "a", 10, current.Watermark); !errors.Is(err, persistence.ErrNotFound) {
				t.Fatalf("old data is loaded: %v", err)
			}
			wantState(t, c, "a", 1)
			write(t, c, old, "a", 2) // the writer that takes its mark goes on
			wantState(t, c, "a", 2)
		})
	}
}

func TestServerHangs(t *testing.T) {
	s := startServer(t)
	c := open(t, redis.Options{Breaker: redis.BreakerOptions{Failures: 2, Pause: time.Minute, MaxPause: time.Minute}}, s)
	other := open(t, redis.Options{ReadTimeout: 50 * time.Millisecond, Breaker: redis.BreakerOptions{Failures: 1000}}, s)
	mark := begin(t, c, "a")
	_, err := other.Mark(testContext(t), 0)
	check(t, err)

	s.signal(syscall.SIGSTOP)
	// The breaker's pause outlasts the test, so that what ends these calls is
	// their deadline, and what refuses those after them is the breaker.
	for i := range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := c.Write(ctx, 0, mark, at(int64(i)+2), batch("a", int64(i)+2))
		cancel()
		if err == nil || errors.Is(err, persistence.ErrMarkMoved) {
			t.Fatalf("a call to a server that hangs returns %v", err)
		}
	}
	if _, err := c.Mark(testContext(t), 0); !errors.Is(err, redis.ErrUnavailable) {
		t.Fatalf("the breaker lets calls through: %v", err)
	}
	if _, err := other.Mark(testContext(t), 0); !errors.Is(err, redis.ErrUnavailable) {
		t.Fatalf("a call without an answer in ReadTimeout returns %v", err)
	}
	s.signal(syscall.SIGCONT)

	// Both writes reached the server. One of them was carried out, once: neither
	// was sent again, and the other had an old mark.
	eventually(t, "the server is used again", func(ctx context.Context) error {
		now, err := other.Mark(ctx, 0)
		if err == nil && now == mark {
			err = errors.New("the write is not there yet")
		}
		return err
	})
	wantMoved(t, other, mark)
	rows, err := other.Operations(testContext(t), 0, "a", 0, 0, 100, 100, 1000)
	check(t, err)
	if len(rows) != 2 {
		t.Fatalf("there are %d rows, want 2", len(rows))
	}
}

func TestServerLoading(t *testing.T) {
	s := startServer(t, "--loading-process-events-interval-bytes", "1024")
	c := open(t, redis.Options{Breaker: redis.BreakerOptions{MaxPause: 200 * time.Millisecond}}, s)
	mark := begin(t, c, "a")
	for shard := range uint32(300) {
		_, err := c.Begin(testContext(t), shard+1, at(0))
		check(t, err)
	}
	check(t, s.admin().Save(t.Context()).Err())
	s.kill()
	// Each key takes 10 ms to load, so that loading is met.
	ready, _ := s.launch("DB loaded", append(s.settings, "--key-load-delay", "10000")...)
	met := false
	eventually(t, "the server has loaded its data", func(ctx context.Context) error {
		now, err := c.Mark(ctx, 0)
		if err == nil && now != mark {
			t.Fatalf("the mark is %v, want %v", now, mark)
		}
		if err != nil && !errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("a call while the server loads returns %v, want ErrUnavailable", err)
		}
		select {
		case <-ready:
			met = met || err != nil
			ready <- true
		default:
			met = met || err != nil
		}
		return err
	})
	if !met {
		t.Fatal("the server was never loading")
	}
	wantState(t, c, "a", 1)
}
