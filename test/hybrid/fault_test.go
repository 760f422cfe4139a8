package hybrid

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/stack"
)

// fault is something that happens to the servers.
type fault struct {
	name string
	// make makes it happen, heal mends it.
	make, heal func(*system)
	// lasts is for how long, at the least.
	lasts time.Duration

	// goesOn: sends do meanwhile, so many of them at the least.
	goesOn int64
	// undisturbed: meanwhile no send is refused or has an unknown outcome, and no
	// poll fails.
	undisturbed bool
	// drops: it lasts until records were dropped from memory.
	drops bool
	// doubtful: it lasts until sends have had an unknown outcome.
	doubtful bool
	// opens: a server that is killed meanwhile opens again before it is mended.
	opens bool
	// check is what else holds meanwhile.
	check func(*system)
	// killOnly: without the server being killed it is none.
	killOnly bool
}

// lengths say for how long servers are away, and how much is acknowledged
// between two faults.
type lengths struct {
	hbase, kafka, others time.Duration

	between int64
}

var short = lengths{hbase: 20 * time.Second, kafka: 8 * time.Second, others: 3 * time.Second, between: 300}

// faults are all that there are.
func faults(last lengths) []fault {
	return []fault{
		{name: "nothing", make: nothing, heal: nothing, killOnly: true, opens: true},

		{name: "Redis killed, restarted empty", make: kill(stack.Redis), heal: emptyRedis, lasts: last.others, goesOn: 1000, opens: true, check: oldPagesAreThere},
		{name: "Redis forgets everything", make: flushRedis, heal: nothing, goesOn: 1000, undisturbed: true, opens: true},
		{name: "Redis comes back with older data", make: restoreOldRedis, heal: nothing, goesOn: 1000, opens: true},
		{name: "Redis hangs", make: pause(stack.Redis), heal: resume(stack.Redis), lasts: last.others, goesOn: 1000, opens: true},
		{name: "Redis slow: replies 300 ms late", make: delay(stack.Redis, 0, 300*time.Millisecond), heal: prompt(stack.Redis), lasts: last.others, goesOn: 1000, opens: true},

		{name: "HBase killed, restarted", make: kill(stack.HBase), heal: up(stack.HBase), lasts: last.hbase, goesOn: 2000, drops: true, check: oldPagesAreUnavailable},
		{name: "HBase hangs", make: pause(stack.HBase), heal: resume(stack.HBase), lasts: last.others, goesOn: 1000, check: oldPagesAreUnavailable},
		{
			name: "HBase slow: requests 500 ms late", make: delay(stack.HBase, 500*time.Millisecond, 0), heal: prompt(stack.HBase),
			lasts: last.others, goesOn: 1000, undisturbed: true, opens: true, check: oldPagesAreThere,
		},
		{name: "HBase's disk full", make: fill(stack.HBase), heal: free(stack.HBase), lasts: last.others, goesOn: 1000},

		{name: "Kafka killed, restarted", make: kill(stack.Kafka), heal: up(stack.Kafka), lasts: last.kafka, check: oldPagesAreThere},
		{name: "Kafka hangs", make: pause(stack.Kafka), heal: resume(stack.Kafka), lasts: last.others},
		{
			name: "Kafka slow: replies 1.5 s late", make: delay(stack.Kafka, 0, 1500*time.Millisecond), heal: prompt(stack.Kafka),
			lasts: last.others, goesOn: 50,
		},
		{name: "Kafka too slow: replies 4 s late", make: delay(stack.Kafka, 0, 4*time.Second), heal: prompt(stack.Kafka), lasts: 2 * last.others, doubtful: true},
		{name: "Kafka's replies lost", make: loseReplies, heal: replyAgain, lasts: last.others, doubtful: true},
		{name: "Kafka's disk full", make: fill(stack.Kafka), heal: free(stack.Kafka), lasts: last.others},

		{name: "Redis and HBase killed together", make: kill(stack.Redis, stack.HBase), heal: up(stack.Redis, stack.HBase), lasts: last.others},
		{
			name: "Redis, HBase and Kafka killed at once", make: kill(stack.Redis, stack.HBase, stack.Kafka),
			heal: up(stack.Redis, stack.HBase, stack.Kafka), lasts: last.others,
		},
	}
}

func nothing(*system) {}

func kill(services ...string) func(*system) {
	return func(s *system) {
		for _, service := range services {
			s.stack.Kill(s.t, service)
			s.relays[service].Refuse()
		}
	}
}

func up(services ...string) func(*system) {
	return func(s *system) {
		for _, service := range services {
			s.relays[service].Accept(s.t)
		}
		s.stack.Up(s.t, services...)
	}
}

func pause(service string) func(*system) {
	return func(s *system) { s.stack.Pause(s.t, service) }
}

func resume(service string) func(*system) {
	return func(s *system) { s.stack.Resume(s.t, service) }
}

func delay(service string, requests, replies time.Duration) func(*system) {
	return func(s *system) { s.relays[service].Delay(requests, replies) }
}

func prompt(service string) func(*system) { return delay(service, 0, 0) }

// fill leaves a server no room, and returns when it has noticed.
func fill(service string) func(*system) {
	return func(s *system) {
		before := s.complaintsOf(service)
		s.disks[service].Fill(s.t)
		s.awaitThat("the server notices that its disk is full", func() bool { return s.complaintsOf(service) > before })
	}
}

// complaintsOf counts how often a server says that its disk is full.
func (s *system) complaintsOf(service string) int {
	log, err := os.ReadFile(s.stack.Folder(service) + "/log")
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes.Count(log, []byte("No space left on device"))
}

// free makes room for a server and starts it again.
func free(service string) func(*system) {
	return func(s *system) {
		s.stack.Kill(s.t, service)
		s.disks[service].Free(s.t)
		s.stack.Up(s.t, service)
	}
}

func loseReplies(s *system) {
	relay := s.relays[stack.Kafka]
	before := relay.Swallowed()
	relay.SwallowReplies(true)
	s.awaitThat("a reply is lost", func() bool { return relay.Swallowed() > before })
}

func replyAgain(s *system) { s.relays[stack.Kafka].SwallowReplies(false) }

func emptyRedis(s *system) {
	s.stack.Wipe(s.t, stack.Redis)
	up(stack.Redis)(s)
}

func flushRedis(s *system) { s.redis("FLUSHALL") }

// restoreOldRedis has Redis start on a copy of its data that is some hundreds of
// messages old.
func restoreOldRedis(s *system) {
	folder := s.stack.Folder(stack.Redis)
	older := s.t.TempDir() + "/older"
	s.redis("CONFIG", "SET", "auto-aof-rewrite-percentage", "0") // files are to stay where they are
	s.awaitThat("no file is being rewritten", func() bool {
		state := s.redis("INFO", "persistence")
		return strings.Contains(state, "aof_rewrite_in_progress:0") && strings.Contains(state, "aof_rewrite_scheduled:0")
	})
	s.stack.Pause(s.t, stack.Redis)
	copyFolder(s.t, folder+"/data", older)
	s.stack.Resume(s.t, stack.Redis)
	s.await("old data", afterwards)
	kill(stack.Redis)(s)
	if err := os.RemoveAll(folder + "/data"); err != nil {
		s.t.Fatal(err)
	}
	copyFolder(s.t, older, folder+"/data")
	up(stack.Redis)(s)
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "cp", "-r", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, output)
	}
}
