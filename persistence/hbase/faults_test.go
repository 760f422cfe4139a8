//go:build stores

package hbase_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/test/stack"
)

// slow is how much longer than its deadline a call may take on a busy machine
// before a test says that it hangs.
const slow = 10 * time.Second

// faulty is an HBase of its own, which a test may harm.
func faulty(t *testing.T) (*stack.Stack, hbase.Options) {
	t.Helper()
	servers := stack.Start(t, stack.HBase)
	o := hbase.Options{
		ZooKeeper:      servers.Addr(stack.HBase),
		Shards:         4,
		Regions:        2,
		RequestTimeout: time.Second,
		Logger:         logTo(t.Output()),
	}
	if err := hbase.ApplySchema(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return servers, o
}

// step is the write of a mailbox at an offset: one operation each, so that the
// state at offset n has n+1 rows.
func step(offset int64) persistence.Batch {
	return persistence.Batch{
		Highest: at(offset), Checkpoint: at(offset),
		Mailboxes: []persistence.MailboxWrite{{
			Mailbox: "a", Position: at(offset), State: fmt.Append(nil, offset),
			Rows:    []persistence.Row{{Revision: offset + 1, Peer: "b", Data: fmt.Append(nil, "operation ", offset)}},
			Sources: []persistence.Source{{Mailbox: "b", Position: at(offset)}},
			Dedup:   []persistence.DedupEntry{{Key: [persistence.DedupKeySize]byte{byte(offset), byte(offset >> 8)}, Time: 1_700_000_000_000 + offset, Position: at(offset)}},
		}},
	}
}

// untilOK repeats a call until it succeeds, as write-behind does.
func untilOK(ctx context.Context, t *testing.T, call func() error) {
	t.Helper()
	for pause := time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := call()
		if err == nil {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			t.Errorf("HBase did not come back: %v", err)
			return
		}
	}
}

// wantStep fails unless a shard holds the mailbox as of an offset at least, and
// all that this state speaks of, with the marks of another at least. It may be
// written to meanwhile.
func wantStep(t *testing.T, s *hbase.Store, shard uint32, offset, synced int64) {
	t.Helper()
	before, err := s.Marks(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Load(t.Context(), shard, "a", 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	at := m.Position.Offset
	if at < offset {
		t.Fatalf("shard %d is at %d; %d was written", shard, at, offset)
	}
	if string(m.State) != fmt.Sprint(at) || len(m.Sources) != 1 || m.Sources[0].Position != m.Position || int64(len(m.Dedup)) != at+1 {
		t.Fatalf("at %d lies state %q with sources %v and %d dedup entries", at, m.State, m.Sources, len(m.Dedup))
	}
	rows, err := s.Operations(t.Context(), shard, "a", 0, at+1, math.MaxInt, math.MaxInt)
	if err != nil || int64(len(rows)) != at+1 {
		t.Fatalf("at %d are %d rows, error %v", at, len(rows), err)
	}
	places, err := s.Conversation(t.Context(), shard, "a", "b", at+2, math.MaxInt, math.MaxInt)
	if err != nil || int64(len(places)) != at+1 {
		t.Fatalf("at %d the conversation has %d rows, error %v", at, len(places), err)
	}
	now, err := s.Marks(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	if m.Position.Less(before.Checkpoint) || before.Checkpoint.Offset < synced || now.Highest.Offset < synced {
		t.Fatalf("at %d are the marks %+v and then %+v; %d was written and %d synced", at, before, now, offset, synced)
	}
}

// TestKilledInMidWrite: HBase is killed while four shards are written, and
// started again. Writers repeat what failed; a store that was opened before
// goes on, and nothing that was written is missing.
func TestKilledInMidWrite(t *testing.T) {
	servers, o := faulty(t)
	s, k := openStore(t, o), openKeys(t, o)
	key, err := k.Create(t.Context(), []string{"before"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var written, synced [4]atomic.Int64
	var failures atomic.Int64
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for shard := range written {
		writers.Go(func() {
			for offset := int64(0); ctx.Err() == nil; offset++ {
				untilOK(ctx, t, func() error {
					err := s.Write(ctx, uint32(shard), step(offset))
					if err != nil {
						failures.Add(1)
					}
					return err
				})
				written[shard].Store(offset)
				if offset%10 == 9 {
					untilOK(ctx, t, func() error { return s.Sync(ctx) })
					synced[shard].Store(offset)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	progress := func(by int64) {
		for shard := range written {
			from := written[shard].Load()
			untilOK(ctx, t, func() error {
				if now := written[shard].Load(); now < from+by {
					return fmt.Errorf("shard %d was written up to %d only", shard, now)
				}
				return nil
			})
		}
	}
	progress(50)
	servers.Kill(t, stack.HBase)
	var before, syncedBefore [4]int64
	for shard := range before {
		before[shard], syncedBefore[shard] = written[shard].Load(), synced[shard].Load()
	}

	// While it is away, calls fail, soon without asking it.
	untilOK(ctx, t, func() error {
		start := time.Now()
		_, err := s.Load(ctx, 0, "a", 10)
		if !errors.Is(err, hbase.ErrUnavailable) {
			t.Errorf("a load while HBase is away returns %v, want ErrUnavailable", err)
		}
		if time.Since(start) > o.RequestTimeout/2 {
			return fmt.Errorf("a load took %v to fail", time.Since(start))
		}
		return nil
	})
	if _, err := k.Get(ctx, "before"); !errors.Is(err, hbase.ErrUnavailable) {
		t.Errorf("a key while HBase is away: error %v, want ErrUnavailable", err)
	}
	if _, err := hbase.OpenStore(ctx, o); !errors.Is(err, hbase.ErrUnavailable) {
		t.Errorf("opening a store while HBase is away returns %v, want ErrUnavailable", err)
	}

	servers.Up(t, stack.HBase)
	began := time.Now()
	fresh := openWhenReady(ctx, t, o)
	for shard := range before {
		wantStep(t, fresh, uint32(shard), before[shard], syncedBefore[shard])
	}
	progress(50)
	t.Logf("the store that was open went on %v after HBase was ready; %d writes had failed", time.Since(began).Round(time.Millisecond), failures.Load())
	close(stop)
	writers.Wait()
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	for shard := range written {
		wantStep(t, s, uint32(shard), written[shard].Load(), written[shard].Load())
		wantStep(t, fresh, uint32(shard), written[shard].Load(), written[shard].Load())
	}
	untilOK(ctx, t, func() error {
		got, err := k.Get(ctx, "before")
		if err == nil && got != key[0] {
			t.Error("the key changed")
		}
		return err
	})
}

func openWhenReady(ctx context.Context, t *testing.T, o hbase.Options) *hbase.Store {
	t.Helper()
	var s *hbase.Store
	untilOK(ctx, t, func() (err error) {
		s, err = hbase.OpenStore(ctx, o)
		return err
	})
	if s == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestPaused: every call ends by its deadline while HBase is paused, and works
// again when it goes on.
func TestPaused(t *testing.T) {
	servers, o := faulty(t)
	s, k := openStore(t, o), openKeys(t, o)
	if err := s.Write(t.Context(), 0, step(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(t.Context(), []string{"before"}); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(ctx context.Context) error{
		"Load":  func(ctx context.Context) error { _, err := s.Load(ctx, 0, "a", 10); return err },
		"Write": func(ctx context.Context) error { return s.Write(ctx, 0, step(1)) },
		"Dedup": func(ctx context.Context) error {
			_, _, err := s.Dedup(ctx, 0, "a", [persistence.DedupKeySize]byte{}, 0)
			return err
		},
		"Operations":   func(ctx context.Context) error { _, err := s.Operations(ctx, 0, "a", 0, 5, 5, 5); return err },
		"Conversation": func(ctx context.Context) error { _, err := s.Conversation(ctx, 0, "a", "b", 5, 5, 5); return err },
		"Marks":        func(ctx context.Context) error { _, err := s.Marks(ctx, 0); return err },
		"Sync":         func(ctx context.Context) error { return s.Sync(ctx) },
		"Create":       func(ctx context.Context) error { _, err := k.Create(ctx, []string{"after"}); return err },
		"Get":          func(ctx context.Context) error { _, err := k.Get(ctx, "before"); return err },
		"Delete":       func(ctx context.Context) error { return k.Delete(ctx, "before") },
	}
	servers.Pause(t, stack.HBase)
	var all sync.WaitGroup
	for range 20 { // more than fit into the connection's buffers, in time
		for name, call := range calls {
			all.Go(func() {
				start := time.Now()
				err := call(t.Context())
				if err == nil {
					t.Errorf("%s succeeds while HBase is paused", name)
				}
				if took := time.Since(start); took > o.RequestTimeout+slow {
					t.Errorf("%s took %v, its deadline is %v", name, took, o.RequestTimeout)
				}
			})
		}
	}
	// A large write fills the connection: the library then blocks in it.
	all.Go(func() {
		batch := step(1)
		for i := range batch.Mailboxes[0].Rows {
			batch.Mailboxes[0].Rows[i].Data = make([]byte, 8<<20)
		}
		start := time.Now()
		if err := s.Write(t.Context(), 1, batch); err == nil {
			t.Error("a large write succeeds while HBase is paused")
		}
		if took := time.Since(start); took > o.RequestTimeout+slow {
			t.Errorf("a large write took %v, its deadline is %v", took, o.RequestTimeout)
		}
	})
	all.Wait()
	// A caller whose deadline is shorter gets its own back.
	short, cancelShort := context.WithTimeout(t.Context(), o.RequestTimeout/2)
	defer cancelShort()
	untilOK(t.Context(), t, func() error {
		if _, err := s.Load(short, 0, "a", 10); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("with a deadline that is over, a load returns %w", err)
		}
		return nil
	})
	servers.Resume(t, stack.HBase)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	untilOK(ctx, t, func() error { return s.Write(ctx, 0, step(1)) })
	untilOK(ctx, t, func() error { return s.Sync(ctx) })
	wantStep(t, s, 0, 1, 1)
	untilOK(ctx, t, func() error { _, err := k.Create(ctx, []string{"after"}); return err })
	t.Logf("all went on %v after HBase did", time.Since(began).Round(time.Millisecond))
}
