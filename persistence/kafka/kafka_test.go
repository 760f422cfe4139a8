package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// topics counts the topics that tests made.
var topics atomic.Int64

// options are those of a journal in a topic of its own.
func options(t testing.TB, address string) kafka.Options {
	return kafka.Options{
		Brokers:        []string{address},
		Topic:          fmt.Sprintf("journal-%d", topics.Add(1)),
		Shards:         persisttest.Shards,
		AllowOneBroker: true,
		Timeout:        10 * time.Second,
		CloseTimeout:   10 * time.Second, // as long as a busy machine may take
		Logger:         slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
}

// testLog writes to the test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	if l.t.Context().Err() == nil { // it may be over
		l.t.Log(strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

// open makes the topics and opens the journal, which the test closes.
func open(t testing.TB, o kafka.Options) *kafka.Journal {
	t.Helper()
	if err := kafka.ApplySchema(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return reopen(t, o)
}

func reopen(t testing.TB, o kafka.Options) *kafka.Journal {
	t.Helper()
	j, err := kafka.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// contract runs the journal's contract on topics of a cluster.
func contract(t *testing.T, options func(t *testing.T) kafka.Options) {
	persisttest.Journal(t, func(t *testing.T) *persisttest.JournalInstance {
		o := options(t)
		_ = open(t, o).Close()
		var instance func() *persisttest.JournalInstance
		instance = func() *persisttest.JournalInstance {
			j := reopen(t, o)
			return &persisttest.JournalInstance{
				Journal:    j,
				Durability: persistence.DurabilityFsync,
				Reopen: func() *persisttest.JournalInstance {
					_ = j.Close()
					return instance()
				},
				// TestBrokerKilled, of the suite stores, kills the broker.
			}
		}
		return instance()
	})
}

// fake returns a fake cluster of some brokers, and the options of a journal on
// it.
func fake(t testing.TB, brokers int) (*kfake.Cluster, kafka.Options) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(brokers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	o := options(t, cluster.ListenAddrs()[0])
	o.Brokers = cluster.ListenAddrs()
	o.AllowOneBroker = brokers == 1
	o.OnFakeCluster()
	return cluster, o
}

func TestContractOnFakeCluster(t *testing.T) {
	contract(t, func(t *testing.T) kafka.Options {
		_, o := fake(t, 3)
		return o
	})
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2))
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, "")
	o.Brokers, o.AllowOneBroker, o.Replicas = cluster.ListenAddrs(), false, 2
	o.OnFakeCluster()
	if err := kafka.ApplySchema(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	j, err := kafka.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for shard := range uint32(persisttest.Shards) {
		defer j.Tail(shard, func(int64) {})()
		if _, err := persisttest.Append(t.Context(), j, shard, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	cluster.Close()
	goleak.VerifyNone(t, before)
}

// produce has the fake cluster answer the next produce request with a code.
func produce(cluster *kfake.Cluster, code *kerr.Error) {
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		asked := request.(*kmsg.ProduceRequest)
		response := asked.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range asked.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic = topic.Topic
			for _, partition := range topic.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode, p.BaseOffset = partition.Partition, code.Code, -1
				answer.Partitions = append(answer.Partitions, p)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
}

func TestOnlyCertainRefusalsAreRefusals(t *testing.T) {
	cluster, o := fake(t, 3)
	j := open(t, o)
	for _, test := range []struct {
		code    *kerr.Error
		unknown bool
	}{
		{kerr.MessageTooLarge, false},
		{kerr.TopicAuthorizationFailed, false},
		{kerr.NotLeaderForPartition, true},
		{kerr.UnknownTopicOrPartition, true},
		{kerr.KafkaStorageError, true},
		{kerr.NotEnoughReplicas, true},
		{kerr.NotEnoughReplicasAfterAppend, true},
		{kerr.RequestTimedOut, true},
	} {
		produce(cluster, test.code)
		_, err := persisttest.Append(t.Context(), j, 1, "x")
		if err == nil || errors.Is(err, persistence.ErrUnknownOutcome) != test.unknown {
			t.Errorf("%s is reported as %v", test.code.Message, err)
		}
	}
	if _, err := persisttest.Append(t.Context(), j, 1, "y"); err != nil {
		t.Fatal(err)
	}
}

func TestLostConnectionIsAnUnknownOutcome(t *testing.T) {
	cluster, o := fake(t, 1)
	j := open(t, o)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("cut"), true
	})
	if _, err := persisttest.Append(t.Context(), j, 0, "x"); !errors.Is(err, persistence.ErrUnknownOutcome) {
		t.Fatalf("an append whose connection was cut returns %v", err)
	}
	if appended, err := persisttest.Append(t.Context(), j, 0, "x"); err != nil || appended.First.Offset != 0 {
		t.Fatalf("the next append returns %+v, %v", appended, err)
	}
}

func TestNoAnswerIsAnUnknownOutcome(t *testing.T) {
	cluster, o := fake(t, 1)
	o.Timeout = 500 * time.Millisecond
	j := open(t, o)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	began := time.Now()
	if _, err := persisttest.Append(t.Context(), j, 0, "x"); !errors.Is(err, persistence.ErrUnknownOutcome) {
		t.Fatalf("an append without an answer returns %v", err)
	}
	t.Logf("answered after %v", time.Since(began))
	for range 20 { // the connection is given up once its own time is over
		if _, err := persisttest.Append(t.Context(), j, 0, "x"); err == nil {
			return
		}
	}
	t.Fatal("appends do not go on")
}

func TestLeaderMoves(t *testing.T) {
	cluster, o := fake(t, 3)
	j := open(t, o)
	told := make(chan int64, 1000)
	defer j.Tail(2, func(next int64) { told <- next })()
	written := int64(0)
	for round := range 6 {
		if err := cluster.MoveTopicPartition(o.Topic, 2, int32(round%3)); err != nil {
			t.Fatal(err)
		}
		for {
			_, err := persisttest.Append(t.Context(), j, 2, "x")
			if err == nil {
				written++
				break
			}
			if !errors.Is(err, persistence.ErrUnknownOutcome) {
				t.Fatal(err)
			}
		}
		entries, err := persisttest.ReadAll(t.Context(), j, 2, 0)
		if err != nil || int64(len(entries)) < written {
			t.Fatalf("read %d entries after %d appends: %v", len(entries), written, err)
		}
	}
	// Another one's append is told of as well.
	other := reopen(t, o)
	appended, err := persisttest.Append(t.Context(), other, 2, "of another")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(30 * time.Second); ; {
		select {
		case next := <-told:
			if next > appended.First.Offset {
				return
			}
		case <-deadline:
			t.Fatal("an append of another one is not told of")
		}
	}
}

// Another node learns of a new generation by tailing.
func TestGenerationIsLearntByOthers(t *testing.T) {
	_, o := fake(t, 3)
	j := open(t, o)
	defer j.Tail(1, func(int64) {})()
	if err := reopen(t, o).StartGeneration(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		appended, err := persisttest.Append(t.Context(), j, 1, "x")
		if err != nil {
			t.Fatal(err)
		}
		if appended.First.Generation == 2 {
			return
		}
	}
	t.Fatal("the new generation is never learnt of")
}

func TestQueueIsBounded(t *testing.T) {
	cluster, o := fake(t, 1)
	o.MaxAppendBytes, o.QueueBytes = 1<<10, 4<<10
	o.Timeout = time.Second
	j := open(t, o)
	release := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	record := strings.Repeat("x", 900)
	results := make(chan error, 10)
	for range 10 {
		j.Append(0, [][]byte{[]byte(record)}, func(_ persistence.Appended, err error) { results <- err })
	}
	busy := 0
	for range 6 {
		if err := <-results; errors.Is(err, persistence.ErrBusy) {
			busy++
		}
	}
	if busy != 6 {
		t.Fatalf("%d of 10 appends were refused as busy, want 6", busy)
	}
	close(release)
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if _, err := persisttest.Append(t.Context(), j, 0, strings.Repeat("x", 2<<10)); err == nil || errors.Is(err, persistence.ErrUnknownOutcome) {
		t.Errorf("an append that is too large returns %v", err)
	}
	if _, err := persisttest.Append(t.Context(), j, persisttest.Shards, "x"); err == nil {
		t.Error("an append to a shard that does not exist succeeds")
	}
}

func TestCallsObeyTheirContext(t *testing.T) {
	cluster, o := fake(t, 1)
	j := open(t, o)
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, nil, true // never answered
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := j.Bounds(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Bounds returns %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := j.Bounds(t.Context(), 0)
		done <- err
	}()
	// Close ends what waits.
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, persistence.ErrClosed) {
		t.Fatalf("Bounds returns %v after Close", err)
	}
}

// Close does not wait out a broker that hangs: appends that were sent, and those
// behind them, end as unknown long before the journal would give up on them.
func TestCloseWhileBrokerHangs(t *testing.T) {
	cluster, o := fake(t, 1)
	o.Timeout, o.CloseTimeout = time.Hour, 10*time.Millisecond
	j := open(t, o)
	arrived := make(chan struct{}, 1)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		select {
		case arrived <- struct{}{}:
		default:
		}
		return nil, nil, true // never answered
	})
	const appends = 20
	results := make(chan error, appends)
	for i := range uint32(appends) {
		j.Append(i%2, [][]byte{[]byte("x")}, func(_ persistence.Appended, err error) { results <- err })
		if i == 0 {
			<-arrived // those of its shard wait behind it
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if len(results) != appends {
		t.Fatalf("%d of %d appends were answered before Close returned", len(results), appends)
	}
	for range appends {
		if err := <-results; !errors.Is(err, persistence.ErrUnknownOutcome) {
			t.Errorf("an append without an answer returns %v", err)
		}
	}
}

// Whoever waits for Kafka must tell its absence from a refusal, which waiting does
// not mend.
func TestOpenTellsAbsenceFromRefusal(t *testing.T) {
	_, o := fake(t, 1)
	o.Timeout = time.Second
	_, err := kafka.Open(t.Context(), o)
	if err == nil || errors.Is(err, kafka.ErrUnavailable) {
		t.Errorf("without topics Open returns %v", err)
	}
	o.Brokers = []string{"127.0.0.1:1"} // nobody listens there
	if _, err = kafka.Open(t.Context(), o); !errors.Is(err, kafka.ErrUnavailable) {
		t.Errorf("without a broker Open returns %v", err)
	}
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	o.Brokers = []string{silent.Addr().String()}
	if _, err = kafka.Open(t.Context(), o); !errors.Is(err, kafka.ErrUnavailable) {
		t.Errorf("with a broker that says nothing Open returns %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err = kafka.Open(ended, o); !errors.Is(err, context.Canceled) || errors.Is(err, kafka.ErrUnavailable) {
		t.Errorf("with a context that has ended Open returns %v", err)
	}
}
