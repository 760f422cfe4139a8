// Package hostile has a real server face clients that are slow, broken or
// malicious, one kind after the other, while two friends talk to each other.
// Each kind is limited in time and number. The friends must not notice: no
// error, and the server's memory stays within a bound. How long their messages
// took is printed, not judged.
package hostile

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	// attackTime bounds each attack; the slow ones take all of it.
	attackTime = 6 * time.Second
	// hangLimit is a limit against hanging, far above what anything takes.
	hangLimit = 60 * time.Second
)

// memoryBound is the most that a server may use under attack.
func memoryBound(before int64) int64 { return before*3/2 + 64<<20 }

func TestFriendsDoNotNotice(t *testing.T) {
	for _, attack := range []struct {
		name string
		run  func(*arena) (did string)
	}{
		{"pollers that never read", neverRead},
		{"pollers that open no window", noWindow},
		{"bodies sent one byte a second", slowBodies},
		{"headers sent one byte a second", slowHeaders},
		{"1,000 idle connections", idle},
		{"a rapid-reset burst", rapidReset},
		{"garbage bytes", garbage},
		{"a CONTINUATION flood", continuationFlood},
		{"header bombs", headerBombs},
		{"floods of PING, SETTINGS and empty DATA", controlFloods},
		{"bodies far above the limit", hugeBodies},
		{"half of a TLS handshake and other protocols", otherProtocols},
	} {
		t.Run(attack.name, func(t *testing.T) {
			a := enter(t)
			friends := a.meet()
			goroutines := a.metric("go_goroutines")
			before := a.memory("VmRSS")
			a.resetPeak()

			began := time.Now()
			did := attack.run(a)
			took := time.Since(began)
			friends.sayMore() // what a short attack has left behind to do

			a.leave()
			peak := a.memory("VmHWM")
			t.Logf("progress: %s: %s in %.1f s; memory %s before, %s at most; friends: %s",
				attack.name, did, took.Seconds(), mebibytes(before), mebibytes(peak), friends.part())
			if bound := memoryBound(before); peak > bound {
				t.Errorf("memory reached %s, above the bound of %s", mebibytes(peak), mebibytes(bound))
			}
			// What the attackers held is given back.
			const slack = 50
			a.await("the goroutines of the attack to end", func() bool {
				return a.metric("go_goroutines") <= goroutines+slack
			})
		})
	}
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }

// memory reads one of the server's figures from the system, in bytes.
func (a *arena) memory(name string) int64 {
	a.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.server.Pid()))
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				a.t.Fatal(err)
			}
			return kib << 10
		}
	}
	a.t.Fatalf("the system does not tell %s", name)
	return 0
}

// resetPeak has the system forget the most that the server used so far.
func (a *arena) resetPeak() {
	a.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", a.server.Pid()), []byte("5"), 0); err != nil {
		a.t.Fatal(err)
	}
}
