// Package events compares the events that are published, and those that workers
// post to a webhook, with the mailboxes that they tell of, while servers and
// workers are killed.
package events

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	topic      = "tegami.events.v1"
	partitions = 12
	// between is how much is acknowledged before each fault, and after the last.
	between = 1500
	// hangLimit is a limit against hanging: ten times what things take.
	hangLimit = 3 * time.Minute

	users, devices = 16, 2
)

// complaints of the server's that these tests provoke.
var complaints = []string{"append failed", "store=hbase", "store=kafka"}

func configuration(s *stack.Stack) string {
	return fmt.Sprintf(`
data: {shards: 64}
store: {kind: hybrid}
kafka: {brokers: %q, allow_one_broker: true, keep: 0s, truncate: 1s}
hbase: {zookeeper: %q, regions: 2}
redis: {addresses: ""}
events: {topic: %s, partitions: %d}
auth: {access_token: 24h, refresh_token: 48h}
mailbox: {idle_per_shard: 0}
limits: {send_rate: 100000, send_burst: 100000, poll_rate: 10000, poll_burst: 10000}
`, s.Addr(stack.Kafka), s.Addr(stack.HBase), topic, partitions)
}

func applySchema(t testing.TB, binary, config string) {
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

// Through two kills of the server, one of Kafka and one of a worker, every
// operation of every mailbox is published and posted, nothing else is, and each
// user's in order. An independent consumer counts the same.
func TestEveryOperationIsPublished(t *testing.T) {
	servers := stack.Start(t, stack.HBase, stack.Kafka)
	receiver := newReceiver(t)
	binary, config := process.Build(t), configuration(servers)+receiver.configuration()
	applySchema(t, binary, config)
	server := process.Start(t, process.Options{Binary: binary, Config: config})
	startWorker := func() *process.Server {
		return process.Start(t, process.Options{Binary: binary, Config: config, Command: "worker"})
	}
	workers := []*process.Server{startWorker(), startWorker()}
	traffic := workload.New(t, server, workload.Options{Users: users, Devices: devices, Senders: 2, Seed: workload.Seed(t)})
	traffic.StartReceiving()
	traffic.StartSending()
	awaitTraffic := func(what string) {
		t.Helper()
		if from := traffic.Acked(); !traffic.AwaitAcked(from+between, hangLimit) {
			t.Fatalf("%s: %d of %d acknowledged within %v", what, traffic.Acked()-from, between, hangLimit)
		}
	}
	killServer := func() {
		server.Kill()
		server.Start()
	}
	replaceWorker := func() {
		awaitPosts(t, workers[0])
		workers[0].Kill()
		workers[0] = startWorker()
		awaitPosts(t, workers[0])
	}
	for _, fault := range []struct {
		name string
		make func()
	}{
		{"the server is killed", killServer},
		{"Kafka is killed", func() { servers.Restart(t, stack.Kafka) }},
		{"a worker is killed", replaceWorker},
		{"the server is killed again", killServer},
	} {
		awaitTraffic("before: " + fault.name)
		fault.make()
		t.Logf("progress: %s, after %d were acknowledged", fault.name, traffic.Acked())
	}
	awaitTraffic("the rest")
	report := traffic.Judge(complaints...)
	awaitPublished(t, server)

	published := readTopic(t, servers)
	mailboxes := readMailboxes(t, server)
	awaitPublished(t, server) // reading signed further devices in
	compare(t, "the topic", published, mailboxes)
	t.Logf("progress: %d events of %d messages, %d of them published again", published.total, report.Acked, published.again)
	if published.again == 0 {
		t.Error("no event was published again, though the server was killed: the test shows too little")
	}
	independent(t, servers, mailboxes)

	awaitPosted(t, servers)
	for _, worker := range workers {
		worker.Stop()
	}
	posted := receiver.posted // nobody posts any more
	compare(t, "the webhook", posted, mailboxes)
	t.Logf("progress: %d events posted, %d of them again", posted.total, posted.again)
	if posted.again == 0 {
		t.Error("no event was posted again, though a worker was killed: the test shows too little")
	}
}

// awaitPublished waits until all that was answered is in the store, and so
// published.
func awaitPublished(t *testing.T, server *process.Server) {
	t.Helper()
	await(t, "all records are stored", func() bool { return server.Metric("tegami_records_unstored") == 0 })
}

// await waits for a condition, with a limit against hanging.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(hangLimit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", hangLimit, what)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// counted is what the consumer in Python prints.
type counted struct {
	Events, Misplaced int
	Users             map[string]map[string]int
}

// independent has a consumer in another language read the topic, by the
// published .proto, and compares its counts with the mailboxes.
func independent(t *testing.T, servers *stack.Stack, mailboxes map[string]mailbox) {
	t.Helper()
	python, err := exec.CommandContext(t.Context(), "../../scripts/python.sh", "requirements.txt").Output()
	if err != nil {
		t.Fatalf("no Python: %v", err)
	}
	command := exec.CommandContext(t.Context(), strings.TrimSpace(string(python)), "consumer.py",
		"--brokers", servers.Addr(stack.Kafka), "--topic", topic, "--proto", "../../api/proto", "--partitions", fmt.Sprint(partitions))
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("the consumer in Python: %v", err)
	}
	var got counted
	if err := json.Unmarshal(output, &got); err != nil {
		t.Fatalf("the consumer in Python printed %q: %v", output, err)
	}
	if got.Misplaced > 0 {
		t.Errorf("%d events do not lie where their key says", got.Misplaced)
	}
	if len(got.Users) != len(mailboxes) {
		t.Errorf("the consumer in Python saw events of %d users, want %d", len(got.Users), len(mailboxes))
	}
	for user, m := range mailboxes {
		want := map[string]int{"account_created": 1, "session_started": devices + 1}
		for _, op := range m.operations {
			want[op.kind]++
		}
		for kind, n := range want {
			if got.Users[user][kind] != n {
				t.Errorf("the consumer in Python counted %d %s of %s, want %d", got.Users[user][kind], kind, user, n)
			}
		}
	}
	t.Logf("progress: the consumer in Python read %d events of %d users", got.Events, len(got.Users))
}
