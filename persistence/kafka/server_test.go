//go:build stores

package kafka_test

import (
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/persistence/persisttest"
	"github.com/tegami-im/tegami/test/stack"
)

func TestContractOnKafka(t *testing.T) {
	s := stack.Shared(t, stack.Kafka)
	contract(t, func(t *testing.T) kafka.Options { return options(t, s.Addr(stack.Kafka)) })
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func TestTLSAndSASL(t *testing.T) {
	stack.Shared(t, stack.Kafka)
	for _, mechanism := range []string{kafka.SASLPlain, kafka.SASLScramSHA256, kafka.SASLScramSHA512} {
		t.Run(mechanism, func(t *testing.T) {
			o := options(t, local(safePort))
			o.TLS = &tls.Config{RootCAs: authority}
			o.SASL = &kafka.SASL{Mechanism: mechanism, User: "alice", Password: "secret"}
			j := open(t, o)
			if _, err := persisttest.Append(t.Context(), j, 0, "x"); err != nil {
				t.Fatal(err)
			}
			if entries, err := persisttest.ReadAll(t.Context(), j, 0, 0); err != nil || len(entries) != 1 {
				t.Fatalf("read %v, %v", entries, err)
			}
			wrong := o
			wrong.SASL = &kafka.SASL{Mechanism: mechanism, User: "alice", Password: "guess"}
			if _, err := kafka.Open(t.Context(), wrong); err == nil {
				t.Error("a wrong password is accepted")
			}
			wrong = o
			wrong.TLS = &tls.Config{}
			if _, err := kafka.Open(t.Context(), wrong); err == nil {
				t.Error("an unknown certificate is accepted")
			}
		})
	}
}

// What was written lately is kept, whatever the stores have.
func TestTruncateKeepsWhatIsNew(t *testing.T) {
	s := stack.Shared(t, stack.Kafka)
	for keep, want := range map[time.Duration]int64{time.Hour: 0, time.Nanosecond: 3} {
		o := options(t, s.Addr(stack.Kafka))
		o.Keep = keep
		j := open(t, o)
		appended, err := persisttest.Append(t.Context(), j, 0, "a", "b", "c")
		if err != nil {
			t.Fatal(err)
		}
		for time.Now().UnixMilli() <= appended.Time { // log time is in milliseconds
			<-time.After(time.Millisecond)
		}
		if err := j.Truncate(t.Context(), 0, 3); err != nil {
			t.Fatal(err)
		}
		if bounds, err := j.Bounds(t.Context(), 0); err != nil || bounds.First != want {
			t.Errorf("what is kept for %v begins at %d, %v; want %d", keep, bounds.First, err, want)
		}
	}
}

// An append whose answer is lost was written: the owner appends it again, and
// apply finds two copies.
func TestReplyLost(t *testing.T) {
	stack.Shared(t, stack.Kafka)
	relay := stack.NewRelayOn(t, relayListener, local(relayedPort))
	o := options(t, relay.Addr())
	o.Timeout = 2 * time.Second
	j := open(t, o)
	mustAppend(t, j, 0, "before")
	relay.SwallowReplies(true)
	if _, err := persisttest.Append(t.Context(), j, 0, "doubtful"); !errors.Is(err, persistence.ErrUnknownOutcome) {
		t.Fatalf("an append whose answer is lost returns %v", err)
	}
	if relay.Swallowed() == 0 {
		t.Fatal("no answer was lost")
	}
	relay.SwallowReplies(false)
	for {
		appended, err := persisttest.Append(t.Context(), j, 0, "doubtful")
		if errors.Is(err, persistence.ErrUnknownOutcome) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if appended.First.Offset < 2 {
			t.Fatalf("it landed at %v: the first copy is not there", appended.First)
		}
		break
	}
	wantRecords(t, j, 0, func(i int, record string) bool {
		return record == map[bool]string{true: "before", false: "doubtful"}[i == 0]
	})
}

func mustAppend(t *testing.T, j *kafka.Journal, shard uint32, records ...string) {
	t.Helper()
	if _, err := persisttest.Append(t.Context(), j, shard, records...); err != nil {
		t.Fatal(err)
	}
}

func wantRecords(t *testing.T, j *kafka.Journal, shard uint32, want func(i int, record string) bool) {
	t.Helper()
	entries, err := persisttest.ReadAll(t.Context(), j, shard, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, entry := range entries {
		if !want(i, string(entry.Data)) {
			t.Errorf("offset %d holds %q", i, entry.Data)
		}
	}
}

// load appends to every shard, one record after another, as owners do: one of
// unknown outcome again with the same content.
type load struct {
	j        *kafka.Journal
	stop     atomic.Bool
	all      sync.WaitGroup
	unknown  atomic.Int64
	slowest  atomic.Int64 // the longest wait for an outcome, in nanoseconds
	reported [persisttest.Shards]atomic.Int64
	landed   [persisttest.Shards][]persistence.Appended // by record; read after end
}

func startLoad(t *testing.T, j *kafka.Journal) *load {
	l := &load{j: j}
	for shard := range uint32(persisttest.Shards) {
		l.all.Go(func() {
			for i := 0; !l.stop.Load(); {
				began := time.Now()
				appended, err := persisttest.Append(t.Context(), j, shard, strconv.Itoa(i))
				l.slowest.Store(max(l.slowest.Load(), int64(time.Since(began))))
				switch {
				case err == nil:
					l.landed[shard] = append(l.landed[shard], appended)
					l.reported[shard].Add(1)
					i++
				case errors.Is(err, persistence.ErrUnknownOutcome):
					l.unknown.Add(1)
				default:
					t.Errorf("shard %d: %v", shard, err)
					return
				}
			}
		})
	}
	return l
}

// goesOn waits until every shard has had n more appends reported.
func (l *load) goesOn(t *testing.T, n int64) {
	t.Helper()
	var from [persisttest.Shards]int64
	for shard := range from {
		from[shard] = l.reported[shard].Load()
	}
	deadline := time.Now().Add(time.Minute)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for shard := range from {
		for l.reported[shard].Load() < from[shard]+n {
			if <-ticker.C; time.Now().After(deadline) {
				t.Fatalf("appends to shard %d do not go on", shard)
			}
		}
	}
}

// end stops the load and checks the log: every reported record lies where it
// was reported, and what else there is are copies of records in doubt.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.all.Wait()
	total, copies := 0, 0
	for shard := range uint32(persisttest.Shards) {
		entries, err := persisttest.ReadAll(t.Context(), l.j, shard, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, appended := range l.landed[shard] {
			at := appended.First.Offset
			if at >= int64(len(entries)) {
				t.Fatalf("shard %d: record %d was reported at %d, and the log ends at %d", shard, i, at, len(entries))
			}
			if e := entries[at]; string(e.Data) != strconv.Itoa(i) || e.Time != appended.Time || e.Position != appended.First {
				t.Fatalf("shard %d: record %d was reported at %+v; there lies %q of time %d", shard, i, appended, e.Data, e.Time)
			}
		}
		total += len(l.landed[shard])
		copies += len(entries) - len(l.landed[shard])
	}
	t.Logf("%d reported, %d unknown, 0 lost, %d copies of records in doubt; slowest outcome after %v",
		total, l.unknown.Load(), copies, time.Duration(l.slowest.Load()).Round(time.Millisecond))
	if copies > int(l.unknown.Load()) {
		t.Errorf("%d records more than were appended", copies-int(l.unknown.Load()))
	}
}

// wantDown checks that calls end in time while no broker answers.
func wantDown(t *testing.T, l *load, timeout time.Duration) {
	t.Helper()
	j, began := l.j, time.Now()
	if _, err := j.Bounds(t.Context(), 0); err == nil {
		t.Error("Bounds returns no error")
	}
	if _, err := j.Read(t.Context(), 0, 0, 1); err == nil {
		t.Error("Read returns no error")
	}
	if _, err := persisttest.Append(t.Context(), j, 0, "while it is down"); !errors.Is(err, persistence.ErrUnknownOutcome) {
		t.Errorf("Append returns %v", err)
	}
	l.unknown.Add(1)
	if took := time.Since(began); took > 10*3*timeout {
		t.Errorf("three calls that have %v each took %v", timeout, took)
	}
}

func TestBrokerKilled(t *testing.T) {
	s := stack.Shared(t, stack.Kafka)
	o := options(t, s.Addr(stack.Kafka))
	o.Timeout = time.Second
	j := open(t, o)
	l := startLoad(t, j)
	for range 2 {
		l.goesOn(t, 100)
		s.Kill(t, stack.Kafka)
		wantDown(t, l, o.Timeout)
		s.Up(t, stack.Kafka)
		began := time.Now()
		l.goesOn(t, 1)
		t.Logf("every shard appends again %v after the broker was ready", time.Since(began).Round(time.Millisecond))
	}
	l.goesOn(t, 100)
	l.end(t)
}

func TestBrokerPaused(t *testing.T) {
	s := stack.Shared(t, stack.Kafka)
	o := options(t, s.Addr(stack.Kafka))
	o.Timeout = time.Second
	j := open(t, o)
	l := startLoad(t, j)
	l.goesOn(t, 100)
	s.Pause(t, stack.Kafka)
	wantDown(t, l, o.Timeout)
	s.Resume(t, stack.Kafka)
	l.goesOn(t, 100)
	l.end(t)
}
