package hybrid

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

// complaints of the server's that these tests provoke.
var complaints = []string{"append failed", "store=hbase", "store=kafka"}

// system is a server, what it stands on, and who uses it.
type system struct {
	t     *testing.T // the test that uses it now
	stack *stack.Stack
	// relays stand before Redis, HBase and Kafka.
	relays map[string]*stack.Relay
	// disks are under HBase and Kafka; none without the right to mount.
	disks  map[string]*stack.Disk
	server *process.Server
	users  *workload.Workload
	// reader is a further device of one of them, which reads old pages.
	reader *process.Client
	random *rand.Rand
}

// configuration is small, so that what is written and loaded is much for it.
const configuration = `
data: {shards: 32}
store: {kind: hybrid, unstored_records: 2048}
kafka: {brokers: %q, topic: fault, allow_one_broker: true, keep: 0s, truncate: 1s}
hbase: {zookeeper: %q, prefix: fault_, regions: 2}
redis: {addresses: %q, prefix: fault, rows: 200}
auth: {access_token: 24h, refresh_token: 48h}
mailbox: {idle_per_shard: 0, tail_operations: 16, chat_copies: 4}
limits: {send_rate: 100000, send_burst: 100000, poll_rate: 10000, poll_burst: 10000, find_rate: 10000, find_burst: 10000}
`

// aPast is how much is acknowledged before the first fault: mailboxes are then
// longer than what Redis has of them.
const aPast = 10_000

// diskSize is far above what an hour writes.
const diskSize = 8 << 30

func start(t *testing.T, population workload.Options) *system {
	t.Helper()
	population.Seed = workload.Seed(t)
	servers, err := stack.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &system{
		t: t, stack: servers, random: rand.New(rand.NewPCG(population.Seed, 0)),
		relays: map[string]*stack.Relay{}, disks: map[string]*stack.Disk{},
	}
	for _, service := range []string{stack.Redis, stack.HBase, stack.Kafka} {
		s.relays[service] = servers.Relay(t, service)
	}
	for _, service := range []string{stack.HBase, stack.Kafka} {
		s.disks[service] = servers.Disk(t, service, diskSize)
	}
	servers.StopAfter(t)
	servers.Up(t, stack.Redis, stack.HBase, stack.Kafka)

	config := fmt.Sprintf(configuration, s.relays[stack.Kafka].Addr(), servers.Addr(stack.HBase), s.relays[stack.Redis].Addr())
	binary := process.Build(t)
	applySchema(t, binary, config)
	s.server = process.Start(t, process.Options{Binary: binary, Config: config})
	s.users = workload.New(t, s.server, population)
	s.reader = s.server.Device("user000", "reader")
	s.users.StartReceiving()
	s.users.StartSending()
	s.await("a past", aPast)
	return s
}

func applySchema(t *testing.T, binary, config string) {
	t.Helper()
	file := t.TempDir() + "/tegami.yaml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be run again
		output, err := exec.CommandContext(t.Context(), binary, "admin", "schema", "apply", "--config", file).CombinedOutput()
		if err != nil {
			t.Fatalf("schema apply: %v\n%s", err, output)
		}
	}
}

// of has a test use the system, until the function that it returns is called.
func (s *system) of(t *testing.T) (until func()) {
	before := s.t
	s.t = t
	return func() { s.t = before }
}

// await waits until more was acknowledged.
func (s *system) await(what string, more int64) {
	s.t.Helper()
	if from := s.users.Acked(); !s.users.AwaitAcked(from+more, hangLimit) {
		s.t.Fatalf("%s: %d of %d acknowledged within %v", what, s.users.Acked()-from, more, hangLimit)
	}
}

// awaitThat waits until something is so.
func (s *system) awaitThat(what string, isSo func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(hangLimit)
	for !isSo() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s", hangLimit, what)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// settle waits until the stores have caught up: what waits for them is bounded,
// and each fault is to meet a system that has room.
func (s *system) settle() {
	s.t.Helper()
	s.awaitThat("the store has caught up", func() bool {
		return s.server.Metric("tegami_records_unstored") <= 10_000 && s.server.Metric("tegami_records_dropped") == 0
	})
}

// killAnyMoment kills the server, and starts it again at once.
func (s *system) killAnyMoment() {
	s.t.Helper()
	<-time.After(time.Duration(s.random.Int64N(int64(200 * time.Millisecond))))
	s.server.Kill()
	s.server.Launch()
}

// unreachable is the exit code of a program that cannot reach a server.
const unreachable = 3

// startAgain waits until the server is ready. Where it ends because it cannot
// reach what it stands on, it is started again, as a supervisor would.
func (s *system) startAgain() {
	s.t.Helper()
	deadline := time.Now().Add(hangLimit)
	for {
		err := s.server.AwaitReady()
		if err == nil {
			return
		}
		if s.server.Alive() || time.Now().After(deadline) {
			s.t.Fatal(err)
		}
		if code := s.server.Exit(); code != unreachable {
			s.t.Fatalf("the server ended with exit code %d: %v", code, err)
		}
		s.server.Launch()
	}
}

func (s *system) redis(arguments ...string) string {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), "redis-cli", append([]string{"-p", strconv.Itoa(s.stack.Port("REDIS_PORT"))}, arguments...)...)
	output, err := command.CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli %v: %v\n%s", arguments, err, output)
	}
	return string(output)
}

// oldPage asks for operations that only HBase has.
func (s *system) oldPage() error {
	s.t.Helper()
	page := new(tegamiv1.FetchOpsResponse)
	err := s.reader.Call(s.t.Context(), "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{Limit: 10}, page)
	if err == nil && len(page.GetOps()) != 10 {
		s.t.Errorf("%d old operations, want 10", len(page.GetOps()))
	}
	return err
}

// oldPagesAreThere asks as clients do, again after each "unavailable": a mailbox
// that is being loaded is not ready for a moment, and of a store that is slow more
// may be asked at once than it answers in time.
func oldPagesAreThere(s *system) {
	s.t.Helper()
	var err error
	s.awaitThat("old operations are there", func() bool {
		err = s.oldPage()
		refused, ok := errors.AsType[*process.Error](err)
		return !ok || refused.Code != "unavailable"
	})
	if err != nil {
		s.t.Errorf("old operations: %v", err)
	}
}

func oldPagesAreUnavailable(s *system) {
	s.t.Helper()
	err := s.oldPage()
	if refused, ok := errors.AsType[*process.Error](err); !ok || refused.Code != "unavailable" {
		s.t.Errorf("old operations: %v, want unavailable", err)
	}
}
