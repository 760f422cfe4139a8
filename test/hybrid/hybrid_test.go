// Package hybrid breaks the servers behind a hybrid store, one and all, under
// load from real clients, and has the checker look for what was lost.
package hybrid

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	// wantAcked is what a run must have acknowledged to prove anything.
	wantAcked = 50_000
	// hangLimit is a limit against hanging: ten times what things take.
	hangLimit = 3 * time.Minute
	// between is how much is acknowledged before each fault, and after it.
	between = 300
)

// complaints of the server's that these tests provoke.
var complaints = []string{"append failed", "store=hbase", "store=kafka"}

// system is a server, what it stands on, and who uses it.
type system struct {
	t      *testing.T
	stack  *stack.Stack
	server *process.Server
	users  *workload.Workload
	random *rand.Rand
}

// configuration is small, so that what is written and loaded is much for it.
func configuration(s *stack.Stack, topic string) string {
	return fmt.Sprintf(`
data: {shards: 128}
store: {kind: hybrid, unstored_records: 64}
kafka: {brokers: %q, topic: %s, allow_one_broker: true, keep: 0s, truncate: 1s}
hbase: {zookeeper: %q, prefix: %s_, regions: 2}
redis: {addresses: %q, prefix: %s}
auth: {access_token: 24h, refresh_token: 48h}
mailbox: {idle_per_shard: 0, tail_operations: 16}
limits: {send_rate: 100000, send_burst: 100000, poll_rate: 10000, poll_burst: 10000}
`, s.Addr(stack.Kafka), topic, s.Addr(stack.HBase), topic, s.Addr(stack.Redis), topic)
}

func start(t *testing.T) *system {
	t.Helper()
	seed := workload.Seed(t)
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka)
	binary, config := process.Build(t), configuration(servers, "fault")
	applySchema(t, binary, config)
	server := process.Start(t, process.Options{Binary: binary, Config: config})
	users := workload.New(t, server, workload.Options{Users: 24, Devices: 2, Senders: 2, Seed: seed})
	users.StartReceiving()
	users.StartSending()
	return &system{t: t, stack: servers, server: server, users: users, random: rand.New(rand.NewPCG(seed, 0))}
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

// fault is something that happens to the servers.
type fault struct {
	name string
	// make makes it happen, heal mends it.
	make, heal func(*system)
	// lasts is for how long, at the least.
	lasts time.Duration
	// goesOn: sends do meanwhile, so many of them at the least.
	goesOn int64
	// drops: so much goes on that records are dropped from memory.
	drops bool
	// kill: the server is killed in the middle. It starts again at once, or,
	// where it cannot without what is broken, when that is mended.
	kill, killStartsLater bool
}

func kill(services ...string) func(*system) {
	return func(s *system) {
		for _, service := range services {
			s.stack.Kill(s.t, service)
		}
	}
}

func up(services ...string) func(*system) {
	return func(s *system) { s.stack.Up(s.t, services...) }
}

func pause(service string) func(*system) {
	return func(s *system) { s.stack.Pause(s.t, service) }
}

func resume(service string) func(*system) {
	return func(s *system) { s.stack.Resume(s.t, service) }
}

var nothing = func(*system) {}

// faults in the order in which they are made. Each is healed before the next.
func faults() []fault {
	hbaseDown := duration("TEGAMI_TEST_HBASE_DOWN", 20*time.Second)
	kafkaDown := duration("TEGAMI_TEST_KAFKA_DOWN", 8*time.Second)
	return []fault{
		{name: "Redis is killed and started again, empty", make: kill(stack.Redis), lasts: 2 * time.Second, goesOn: 1000, heal: func(s *system) {
			s.stack.Wipe(s.t, stack.Redis)
			s.stack.Up(s.t, stack.Redis)
		}},
		{name: "Redis forgets everything", make: flushRedis, goesOn: 1000, heal: nothing},
		{name: "Redis comes back with older data", make: restoreOldRedis, goesOn: 1000, heal: nothing},
		{name: "Redis hangs", make: pause(stack.Redis), lasts: 5 * time.Second, goesOn: 1000, heal: resume(stack.Redis)},
		{name: "HBase is killed and started again", make: kill(stack.HBase), lasts: hbaseDown, goesOn: 2000, drops: true, heal: up(stack.HBase)},
		{name: "HBase hangs", make: pause(stack.HBase), lasts: 5 * time.Second, goesOn: 1000, heal: resume(stack.HBase)},
		{name: "Kafka is killed and started again", make: kill(stack.Kafka), lasts: kafkaDown, heal: up(stack.Kafka)},
		{name: "Kafka hangs", make: pause(stack.Kafka), lasts: 5 * time.Second, heal: resume(stack.Kafka)},
		{name: "Redis and HBase are killed together", make: kill(stack.Redis, stack.HBase), lasts: 5 * time.Second, heal: up(stack.Redis, stack.HBase)},
		{name: "the server is killed", make: nothing, kill: true, heal: nothing},
		{name: "the server is killed without Redis", make: kill(stack.Redis), kill: true, goesOn: 500, heal: up(stack.Redis)},
		{name: "the server is killed without HBase", make: kill(stack.HBase), lasts: 2 * time.Second, kill: true, killStartsLater: true, heal: up(stack.HBase)},
		{name: "the server is killed without Kafka", make: kill(stack.Kafka), lasts: 2 * time.Second, kill: true, killStartsLater: true, heal: up(stack.Kafka)},
		{
			name: "everything is killed at once", make: kill(stack.Kafka, stack.HBase, stack.Redis), kill: true, killStartsLater: true,
			heal: up(stack.Redis, stack.HBase, stack.Kafka),
		},
	}
}

// duration reads how long a fault lasts; a longer test sets it.
func duration(variable string, usual time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv(variable)); err == nil && d > 0 {
		return d
	}
	return usual
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

func flushRedis(s *system) { s.redis("FLUSHALL") }

// restoreOldRedis has Redis start on a copy of its data that is some hundreds of
// messages old.
func restoreOldRedis(s *system) {
	folder := s.stack.Folder(stack.Redis)
	older := s.t.TempDir() + "/older"
	s.redis("BGREWRITEAOF")
	copyFolder(s.t, folder+"/data", older)
	s.await("old data", between)
	s.stack.Kill(s.t, stack.Redis)
	if err := os.RemoveAll(folder + "/data"); err != nil {
		s.t.Fatal(err)
	}
	copyFolder(s.t, older, folder+"/data")
	s.stack.Up(s.t, stack.Redis)
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "cp", "-r", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, output)
	}
}

// await waits until more was acknowledged.
func (s *system) await(what string, more int64) {
	s.t.Helper()
	if from := s.users.Acked(); !s.users.AwaitAcked(from+more, hangLimit) {
		s.t.Fatalf("%s: %d of %d acknowledged within %v", what, s.users.Acked()-from, more, hangLimit)
	}
}

// TestFaults makes one fault after the other, each with traffic flowing before,
// while it lasts, and after it.
func TestFaults(t *testing.T) {
	s := start(t)
	for _, f := range faults() {
		s.settle()
		s.await("before: "+f.name, between)
		s.suffer(f)
		if s.users.History.Broken() {
			break // What comes after the first evidence only hides it.
		}
	}
	if left := wantAcked - s.users.Acked(); left > 0 && !s.users.History.Broken() {
		s.await("the rest", left)
	}
	report := s.users.Judge(complaints...)
	if int64(report.Acked) < wantAcked {
		t.Errorf("%d acknowledged, which proves too little: want %d", report.Acked, wantAcked)
	}
}

// settle waits until the stores have caught up: what waits for them is bounded,
// and each fault is to meet a system that has room.
func (s *system) settle() {
	s.t.Helper()
	deadline := time.Now().Add(hangLimit)
	for s.server.Metric("tegami_records_unstored") > 10_000 || s.server.Metric("tegami_records_dropped") > 0 {
		if time.Now().After(deadline) {
			s.t.Fatalf("the store has not caught up within %v", hangLimit)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// suffer makes a fault, lets it last, and mends it.
func (s *system) suffer(f fault) {
	s.t.Helper()
	before, began := s.users.Acked(), time.Now()
	f.make(s)
	if f.kill {
		<-time.After(time.Duration(s.random.Int64N(int64(200 * time.Millisecond)))) // any moment
		s.server.Kill()
		if !f.killStartsLater {
			s.server.Start()
		}
	}
	if f.goesOn > 0 {
		s.await("meanwhile: "+f.name, f.goesOn)
	}
	<-time.After(time.Until(began.Add(f.lasts))) // what it tests is how long it lasts
	meanwhile := s.users.Acked() - before
	dropped := 0.0
	if f.drops {
		if dropped = s.server.Metric("tegami_records_dropped"); dropped == 0 {
			s.t.Errorf("%s: no record was dropped from memory", f.name)
		}
	}
	f.heal(s)
	if f.kill && f.killStartsLater {
		s.server.Start()
	}
	healed := time.Now()
	s.await("after: "+f.name, between)
	s.t.Logf("progress: %s: %d acknowledged meanwhile in %.1f s, %.0f records dropped; the next %d came %.1f s after it was mended",
		f.name, meanwhile, healed.Sub(began).Seconds(), dropped, between, time.Since(healed).Seconds())
}
