// Package planted shows that the checkers find what they are for. Each bug
// that a build tag plants in the server is compiled in, the tests that ought to
// find it are run as they are, and they must fail, for the right reason. A
// checker that never failed proves nothing.
package planted

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bug is a build tag and a test that finds it.
type bug struct {
	tag string
	// promise is what the bug breaks.
	promise string
	// folder and test are what is run.
	folder, test string
	// finding is what the test must say: that it fails for another reason
	// proves nothing.
	finding string
	// cycles is how often the test is to break its server, where it does.
	cycles int
	// root: the test mounts a file system.
	root bool
	// tags are further build tags of the test.
	tags string
	// limit is how long the test may take, and the server's build.
	limit time.Duration
}

var bugs = []bug{
	{
		tag: "bug_ack_before_fsync", promise: "what was acknowledged survives a power cut (in memory)",
		folder: "./persistence/embedded", test: "TestPowerCutUnderLoad",
		finding: `load_test.go:\d+: `, limit: 3 * time.Minute,
	},
	{
		tag: "bug_ack_before_fsync", promise: "what was acknowledged survives a power cut (on a disk)",
		folder: "./test/power", test: "TestPowerCutWithFsync",
		finding: `lost: .*acknowledged, (sender|recipient) does not have it`, root: true, cycles: 1, limit: 5 * time.Minute,
	},
	{
		tag: "bug_dedup_off", promise: "a retry gets the first answer",
		folder: "./test/crash", test: "TestStop",
		finding: `duplicated: .*has it 2 times`, limit: 5 * time.Minute,
	},
	{
		tag: "bug_state_before_rows", promise: "no state without its rows",
		folder: "./actors/node", test: "TestNoStateIsStoredWithoutItsRows",
		finding: `head \d+ with \d+ rows`, limit: 3 * time.Minute,
	},
	{
		tag: "bug_state_before_rows", promise: "everything is there after kill -9",
		folder: "./test/crash", test: "TestKill", cycles: 8,
		finding: `lost: |gaps: `, limit: 5 * time.Minute,
	},
	{
		tag: "bug_followup_before_sync", promise: "the sender's copy is durable before its record is done with",
		folder: "./test/crash", test: "TestKill", cycles: 12,
		finding: `lost: .*acknowledged, sender does not have it|half: |reordered: .*stands before it`, limit: 5 * time.Minute,
	},
	{
		tag: "bug_passivate_unstored", promise: "a mailbox stays in memory until it is stored",
		folder: "./actors/node", test: "TestMailboxStaysInMemoryUntilItIsStored",
		finding: `rules_test.go:\d+: `, limit: 3 * time.Minute,
	},
	{
		tag: "bug_panic_skipped", promise: "all owners of a mailbox compute the same state",
		folder: "./persistence/persisttest", test: "TestModel",
		finding: `got another answer|revision \d+ of \w+ changed`, limit: 3 * time.Minute,
	},
	{
		tag: "bug_unknown_is_success", promise: "an append whose outcome is unknown is made again",
		folder: "./actors/node", test: "TestNothingIsLostOverFaultyStores",
		finding: `failure_test.go:\d+: `, limit: 3 * time.Minute,
	},
	{
		tag: "bug_cached_is_stored", promise: "the store gets what only the cache has",
		folder: "./actors/node", test: "TestTheStoreGetsWhatOnlyTheCacheHas",
		finding: `want \d+ operations`, limit: 3 * time.Minute,
	},
	{
		tag: "bug_write_while_rereading", promise: "the store skips nothing that was dropped from memory",
		folder: "./actors/node", test: "TestSendsGoOnWithoutTheStore",
		finding: `what was decided, and what is stored|a retry was answered`, limit: 3 * time.Minute,
	},
	{
		tag: "bug_state_without_position", promise: "an older state never replaces a newer one (on HBase)",
		folder: "./persistence/hbase", test: "TestPutsArriveInAnyOrder", tags: "stores",
		finding: `order_test.go:\d+: `, limit: 5 * time.Minute,
	},
	{
		tag: "bug_step_order", promise: "of two steps of a behaviour one counts",
		folder: "./actors/node", test: "TestTwoOwnersRunOneBehaviour",
		finding: `alice got`, limit: 3 * time.Minute,
	},
	{
		tag: "bug_step_order", promise: "a behaviour decides once, whichever host dies (in its test kit)",
		folder: "./behaviours/echo", test: "TestEcho",
		finding: `sent \[.*\], want`, limit: 3 * time.Minute,
	},
	{
		tag: "bug_wakeup_dropped", promise: "a held poll is woken",
		folder: "./test/e2e", test: "TestHeldPollIsWoken",
		finding: `polls are not woken`, limit: 5 * time.Minute,
	},
}

func TestPlantedBugsAreFound(t *testing.T) {
	for _, b := range bugs {
		t.Run(b.tag+"/"+b.test, func(t *testing.T) {
			if b.root && os.Geteuid() != 0 {
				t.Fatal("this test mounts a file system and needs root: sudo make planted")
			}
			isPlanted(t, b.tag)
			begin := time.Now()
			output, failed := run(t, b)
			if !failed {
				t.Fatalf("%s is planted and %s passes: it would not find that %q is broken\n%s", b.tag, b.test, b.promise, output)
			}
			found := regexp.MustCompile(b.finding).FindString(output)
			if found == "" {
				t.Fatalf("%s failed, but not with a finding like %q\n%s", b.test, b.finding, output)
			}
			t.Logf("progress: %s: %s finds it in %.0f s: %s", b.tag, b.test, time.Since(begin).Seconds(), lineOf(output, found))
		})
	}
}

// isPlanted fails when no file of the product has the tag: then there would be
// nothing to find.
func isPlanted(t *testing.T, tag string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "grep", "-rlx", "--include=*.go", "//go:build "+tag, "../../actors", "../../persistence", "../../api")
	if output, err := command.Output(); err != nil || len(output) == 0 {
		t.Fatalf("no file is built for %s alone: nothing is planted (%v)", tag, err)
	}
}

// run runs the test that ought to find a bug and reports whether it failed.
func run(t *testing.T, b bug) (output string, failed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), b.limit)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-tags="+b.tag+","+b.tags, "-timeout="+b.limit.String(),
		"-run=^"+b.test+"$", b.folder)
	command.Dir = "../.."
	// The server under test has the bug as well.
	command.Env = append(os.Environ(), "TEGAMI_TEST_TAGS="+b.tag, "TEGAMI_TEST_CYCLES="+strconv.Itoa(b.cycles))
	command.WaitDelay = 10 * time.Second
	data, err := command.CombinedOutput()
	output = string(data)
	switch {
	case ctx.Err() != nil:
		t.Fatalf("%s hung: more than %v\n%s", b.test, b.limit, output)
	case strings.Contains(output, "[build failed]"):
		t.Fatalf("with %s it does not build\n%s", b.tag, output)
	}
	return output, err != nil
}

// lineOf is the line of a text that a word stands in.
func lineOf(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return word
}
