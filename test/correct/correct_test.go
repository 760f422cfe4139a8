// Package correct damages what a hybrid store keeps, while real clients use the
// server, and has tegami correct find and mend it; and it moves a whole store
// from a data folder to a hybrid store and back.
package correct

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	shards = 16
	// hangLimit is a limit against hanging: ten times what things take.
	hangLimit = 3 * time.Minute
)

// configuration of a hybrid store. The journal keeps what it has, so that it can
// be compared, and each mailbox leaves memory soon.
func configuration(s *stack.Stack, name string, sendRate int) string {
	return fmt.Sprintf(`
data: {shards: %d}
store: {kind: hybrid}
kafka: {brokers: %q, topic: %s, allow_one_broker: true, truncate: 1s}
hbase: {zookeeper: %q, prefix: %s_, regions: 2, timeout: 20s}
redis: {addresses: %q, prefix: %s}
auth: {access_token: 24h, refresh_token: 48h}
mailbox: {idle_per_shard: 4, tail_operations: 16}
limits: {send_rate: %d, send_burst: %d, poll_rate: 10000, poll_burst: 10000}
`, shards, s.Addr(stack.Kafka), name, s.Addr(stack.HBase), name, s.Addr(stack.Redis), name, sendRate, sendRate)
}

// tool runs commands of tegami with a configuration.
type tool struct {
	t            *testing.T
	binary, file string
	flags        []string
}

func newTool(t *testing.T, config string, flags ...string) tool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tegami.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return tool{t, process.Build(t), file, flags}
}

// try runs a command and returns what it printed, and its exit code.
func (tl tool) try(arguments ...string) (output string, code int) {
	tl.t.Helper()
	arguments = append(append(arguments, "--config", tl.file), tl.flags...)
	var errors strings.Builder
	command := exec.CommandContext(tl.t.Context(), tl.binary, arguments...)
	command.Stderr = &errors
	printed, err := command.Output()
	if command.ProcessState == nil {
		tl.t.Fatalf("%v: %v", arguments, err)
	}
	if errors.Len() > 0 {
		tl.t.Logf("%s: %s", arguments[0], strings.TrimSpace(errors.String()))
	}
	return string(printed), command.ProcessState.ExitCode()
}

func (tl tool) run(arguments ...string) string {
	tl.t.Helper()
	output, code := tl.try(arguments...)
	if code != 0 {
		tl.t.Fatalf("tegami %v: exit code %d\n%s", arguments, code, output)
	}
	return output
}

// correct returns what tegami correct finds, and its exit code.
func (tl tool) correct(arguments ...string) (report *correction.Report, code int) {
	tl.t.Helper()
	output, code := tl.try(append([]string{"correct", "--rate", "0", "--output", "json"}, arguments...)...)
	shown := map[correction.Kind]int{}
	for lines := json.NewDecoder(strings.NewReader(output)); lines.More(); {
		var line struct {
			Finding *correction.Finding
			Report  *correction.Report
		}
		if err := lines.Decode(&line); err != nil {
			tl.t.Fatalf("%v in %s", err, output)
		}
		if f := line.Finding; f != nil && shown[f.Kind] < 5 {
			shown[f.Kind]++ // some of each are enough
			tl.t.Logf("%+v", *f)
		}
		report = line.Report
	}
	if report == nil {
		tl.t.Fatalf("no report, exit code %d: %s", code, output)
	}
	return report, code
}

// wantNothing fails when anything is found.
func (tl tool) wantNothing(when string, arguments ...string) *correction.Report {
	tl.t.Helper()
	report, code := tl.correct(arguments...)
	if code != 0 || len(report.Found) > 0 || report.CacheAway != "" {
		tl.t.Errorf("%s: exit code %d, %+v", when, code, report)
	}
	return report
}

func await(t *testing.T, what string, users *workload.Workload, more int64) {
	t.Helper()
	if from := users.Acked(); !users.AwaitAcked(from+more, hangLimit) {
		t.Fatalf("%s: %d of %d acknowledged", what, users.Acked()-from, more)
	}
}

// TestDamage looks at a store under load, in which nothing is wrong, then at one
// that was damaged in every way, mends it, and looks again.
func TestDamage(t *testing.T) {
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka)
	config := configuration(servers, "damage", 5) // for each user: load, and not too much to be compared
	schema := newTool(t, config)
	schema.run("admin", "schema", "apply")
	server := process.Start(t, process.Options{Binary: process.Build(t), Config: config})
	tl := newTool(t, config, "--data", server.Data(), "--admin", server.Admin)
	users := workload.New(t, server, workload.Options{Users: 26, Devices: 1, Senders: 1, Seed: workload.Seed(t)})
	users.StartReceiving()
	users.StartSending()
	await(t, "the first", users, 2000)
	for range 3 {
		tl.wantNothing("under load")
		await(t, "between", users, 300)
	}
	tl.wantNothing("under load, by the server", "--repair")
	tl.wantNothing("under load, what changed since", "--since", "1m")
	if found := audited(t, config); found > 0 {
		t.Errorf("the audit found %d under load", found)
	}
	t.Logf("progress: %d acknowledged, and nothing found under load", users.Acked())
	users.StopSending()
	settle(t, server)

	d := openDamager(t, servers, "damage")
	before := d.checksums()
	d.harm()
	found, code := tl.correct()
	if code != 1 {
		t.Errorf("exit code %d with damage", code)
	}
	for _, kind := range d.expected() {
		if found.Found[kind] == 0 {
			t.Errorf("not found: %s", kind)
		}
	}
	if audited(t, config) == 0 {
		t.Error("the audit did not find the damage")
	}
	wantRepaired := func(when string) {
		t.Helper()
		repaired, code := tl.correct("--repair")
		if code != 0 || correction.Total(repaired.Found) == 0 || correction.Total(repaired.Repaired) != correction.Total(repaired.Found) {
			t.Errorf("%s: exit code %d, repaired %v of %v", when, code, repaired.Repaired, repaired.Found)
		}
	}
	wantRepaired("without load")
	tl.wantNothing("after the repair")
	d.compare(before)
	// The cache is filled again by what is used, and then harmed again, with the
	// rest. What is written meanwhile mends some of it, and must not be harmed.
	users.StartSending()
	await(t, "after the repair without load", users, 500)
	users.StopSending()
	settle(t, server)
	d.harm()
	users.StartSending()
	wantRepaired("under load")
	await(t, "after the repair", users, 500)
	users.StopSending()
	settle(t, server)
	tl.wantNothing("after the repair under load")
	d.compare(before)
	t.Logf("progress: %d found and mended: %v", correction.Total(found.Found), found.Found)
	if found := audited(t, config); found > 0 {
		t.Errorf("the audit found %d when all was mended", found)
	}
	users.Judge("mailbox does not load", "does not decode")
}

// settle waits until the store has everything.
func settle(t *testing.T, server *process.Server) {
	t.Helper()
	for deadline := time.Now().Add(hangLimit); server.Metric("tegami_records_unstored") > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the store does not catch up")
		}
		<-time.After(100 * time.Millisecond)
	}
	<-time.After(2 * time.Second) // the checkpoint is written and synced once a second
}
