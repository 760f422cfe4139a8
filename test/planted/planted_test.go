// Package planted proves that the project's checkers find bugs: each is planted
// behind a build tag, and the test that guards against it must fail with the
// tag, by failing and not by something else. That the same test passes without
// the tag is what every run of the tests shows.
package planted

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// bugs has a row for each planted bug.
var bugs = []struct {
	tag  string
	does string
	// pkg and test are the checker that must find it.
	pkg, test string
}{
	{"bug_ack_before_fsync", "acknowledges before the fsync", "./persistence/embedded", "TestPowerCutUnderLoad"},
	{"bug_dedup_off", "takes copies of a command for new ones", "./actors/node", "TestRetryGetsTheFirstAnswer"},
	{"bug_state_before_rows", "stores a state before its rows", "./actors/node", "TestNoStateIsStoredWithoutItsRows"},
	{"bug_followup_before_sync", "counts a follow-up before it is durable", "./actors/node", "TestAnswerWaitsForTheSendersCopy"},
	{"bug_passivate_unstored", "lets go of a mailbox that is not stored", "./actors/node", "TestMailboxStaysInMemoryUntilItIsStored"},
	{"bug_panic_skipped", "skips, at one owner only, a record that panics", "./persistence/persisttest", "TestModel"},
	{"bug_wakeup_dropped", "drops every wake-up", "./actors/node", "TestSendReachesHeldPoll"},
}

// limit bounds one row, building included.
const limit = 10 * time.Minute

func TestCheckersFindPlantedBugs(t *testing.T) {
	for _, bug := range bugs {
		t.Run(bug.tag, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			run := exec.CommandContext(ctx, "go", "test", "-count=1", "-tags", bug.tag, "-run", "^"+bug.test+"$", bug.pkg)
			run.Dir = "../.."
			output, err := run.CombinedOutput()
			failed, ok := errors.AsType[*exec.ExitError](err)
			switch {
			case err == nil:
				t.Fatalf("a server that %s passes %s", bug.does, bug.test)
			case !ok || failed.ExitCode() != 1 || !strings.Contains(string(output), "--- FAIL: "+bug.test):
				t.Fatalf("%s did not fail as a test does: %v\n%s", bug.test, err, output)
			}
			t.Logf("%s: found by %s", bug.does, bug.test)
		})
	}
}
