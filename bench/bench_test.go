package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/bench/ledger"
)

// short is a load for tests: long enough for some hundred messages.
func short() Load {
	return Load{Users: 10, Size: 100, Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond, PollTimeout: time.Minute, Seed: 1}
}

// low is a scenario with a few hundred messages.
func low() *Rate { return &Rate{Load: short(), Rate: 500} }

func TestSaturationOfAGoodServer(t *testing.T) {
	f := startFake(t)
	f.fsyncs = 0.5
	result, err := Run(t.Context(), f.config(&Saturation{Load: short(), Window: 16}))
	if err != nil {
		t.Fatal(err)
	}
	m := result.Messages
	if result.Faults.Any() || len(result.Errors) > 0 || m.Late > 0 {
		t.Errorf("a good server has %v, %v, %d late", result.Faults, result.Errors, m.Late)
	}
	if m.AckedPerSecond < 1 || m.DeliveredPerSecond < 1 || m.Window != 16 || m.Connections != 10 {
		t.Errorf("figures %+v", m)
	}
	// What the fake claims to have spent on each send. The counters are read
	// around the window, so a few more sends count.
	if m.Fsyncs == nil || *m.Fsyncs < 0.4 || *m.Fsyncs > 1 || m.ServerCPU < 80 || m.ServerCPU > 200 {
		t.Errorf("fsyncs %v, CPU %v µs; want about 0.5 and 100 µs", m.Fsyncs, m.ServerCPU)
	}
	if m.JournalFsyncs != nil {
		t.Errorf("a metric that is not there was read as %v", *m.JournalFsyncs)
	}
}

func TestRateOfAGoodServer(t *testing.T) {
	for name, connections := range map[string]int{"a connection each": 0, "three connections": 3} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			scenario := low()
			scenario.Connections = connections
			result, err := Run(t.Context(), f.config(scenario))
			if err != nil {
				t.Fatal(err)
			}
			m := result.Messages
			if result.Faults.Any() || len(result.Errors) > 0 || m.Late > 0 {
				t.Errorf("a good server has %v, %v, %d late", result.Faults, result.Errors, m.Late)
			}
			// 150 are due in the window.
			if m.Ack.Count < 80 || m.Ack.Count != m.Delivery.Count || m.Lateness.Count != m.Ack.Count {
				t.Errorf("%d acknowledged, %d delivered, %d due", m.Ack.Count, m.Delivery.Count, m.Lateness.Count)
			}
			if m.Ack.P50 <= 0 || m.Ack.P50 > m.Ack.P99 || m.Ack.P99 > m.Ack.P999 || m.Ack.P999 > m.Ack.Max*1.001 {
				t.Errorf("latencies %+v", m.Ack)
			}
		})
	}
}

// What a server must not do is found, each kind by its name.
func TestPlantedFaults(t *testing.T) {
	const nth = 20
	for name, test := range map[string]struct {
		deliver func() deliver
		want    ledger.Faults
	}{
		"a message is lost": {func() deliver {
			return func(number int, box *fakeMailbox, op *tegamiv1.Operation) {
				if number != nth {
					box.add(op)
				}
			}
		}, ledger.Faults{Lost: 1}},
		"a message is doubled": {func() deliver {
			return func(number int, box *fakeMailbox, op *tegamiv1.Operation) {
				box.add(op)
				if number == nth {
					box.add(op)
				}
			}
		}, ledger.Faults{Duplicated: 1}},
		"a text is changed": {func() deliver {
			return func(number int, box *fakeMailbox, op *tegamiv1.Operation) {
				if number == nth {
					op.GetReceiveMessage().Body = &tegamiv1.Message_Text{Text: "changed"}
				}
				box.add(op)
			}
			// The sender's copy is the same message: both are wrong.
		}, ledger.Faults{Lost: 2, Foreign: 2}},
		"a message overtakes the one before it": {overtake(nth), ledger.Faults{Reordered: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			result := runWith(t, test.deliver())
			if diff := cmp.Diff(test.want, result.Faults); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// overtake keeps a message back until the next one between the same two was
// delivered.
func overtake(nth int) func() deliver {
	return func() deliver {
		var kept *tegamiv1.Operation
		done := false
		return func(number int, box *fakeMailbox, op *tegamiv1.Operation) {
			if number >= nth && kept == nil {
				kept = op
				return
			}
			box.add(op)
			first, next := kept.GetReceiveMessage(), op.GetReceiveMessage()
			if !done && first.GetFrom() == next.From && first.GetTo() == next.To {
				box.add(kept)
				done = true
			}
		}
	}
}

// A revision that is skipped makes the cursor skip what follows, so the count
// is not the point.
func TestSkippedRevisionIsAFault(t *testing.T) {
	result := runWith(t, func(number int, box *fakeMailbox, op *tegamiv1.Operation) {
		box.add(op)
		if number == 20 {
			box.ops[len(box.ops)-1].Revision++
		}
	})
	if result.Faults.Gaps == 0 {
		t.Errorf("found %v", result.Faults)
	}
}

// A read that another poll took over from says nothing of what the mailbox
// holds: what it did not hand over is not lost.
func TestReadThatIsSupersededIsMadeAgain(t *testing.T) {
	f := startFake(t)
	f.supersede = 2
	load := short()
	load.Users = 3
	result, err := Run(t.Context(), f.config(&Saturation{Load: load, Window: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if result.Faults.Any() || result.Errors["read: SUPERSEDED"] != 3*f.supersede {
		t.Errorf("found %v, %v", result.Faults, result.Errors)
	}
}

// runWith sends one message after the other between three users, so that a
// pair comes again soon.
func runWith(t *testing.T, deliver deliver) Result {
	t.Helper()
	f := startFake(t)
	f.deliver = deliver
	load := short()
	load.Users = 3
	result, err := Run(t.Context(), f.config(&Saturation{Load: load, Window: 1}))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestRefusedSendsAreCountedAndNotMissed(t *testing.T) {
	f := startFake(t)
	f.refuse = func(number int) string {
		if number%10 == 0 {
			return "resource_exhausted"
		}
		return ""
	}
	result, err := Run(t.Context(), f.config(&Saturation{Load: short(), Window: 4}))
	if err != nil {
		t.Fatal(err)
	}
	if result.Faults.Any() || result.Errors["send: resource_exhausted"] == 0 {
		t.Errorf("faults %v, errors %v", result.Faults, result.Errors)
	}
}

func TestHeldPolls(t *testing.T) {
	f := startFake(t)
	result, err := Run(t.Context(), f.config(&Held{Connections: 4, Streams: 5}))
	if err != nil {
		t.Fatal(err)
	}
	if h := result.Held; result.Faults.Any() || h.Polls != 20 || h.Connections != 4 {
		t.Errorf("%+v, faults %v", h, result.Faults)
	}
}

func TestHeldPollThatDoesNotWakeIsAnError(t *testing.T) {
	f := startFake(t)
	// 100 messages warm the server up, 200 prove that polls are held: the last
	// of them wakes nobody, and no later one makes up for it.
	f.wake = func(number int) bool { return number != 300 }
	_, err := Run(t.Context(), f.config(&Held{Connections: 20, Streams: 1}))
	if err == nil || !strings.Contains(err.Error(), "did not reach a held poll") {
		t.Errorf("got %v", err)
	}
}

func TestAccounts(t *testing.T) {
	f := startFake(t)
	result, err := Run(t.Context(), f.config(&Accounts{Accounts: 12_000, Active: 10}))
	if err != nil {
		t.Fatal(err)
	}
	// The fake claims 1,000 bytes for each mailbox.
	if a := result.Accounts; a.Accounts != 12_000 || a.Memory != 1<<20+12_000*1000 || a.CreatedPerSecond < 1 {
		t.Errorf("%+v", a)
	}
}

func TestPages(t *testing.T) {
	f := startFake(t)
	rate := low()
	rate.Duration *= 10 // a page is large, and a machine may be busy
	result, err := Run(t.Context(), f.config(&Pages{Rate: *rate, Mailboxes: 2, Readers: 5, Operations: 1600, Think: time.Millisecond}))
	if err != nil || result.Faults.Any() || len(result.Errors) > 0 {
		t.Fatalf("%v, %v, %v", err, result.Faults, result.Errors)
	}
	p := result.Pages
	if p.PerSecond <= 0 || p.Page.Count < 1 || p.AloneAck.Count < 1 || result.Messages.Ack.Count < 1 {
		t.Errorf("figures %+v, messages %+v", p, result.Messages)
	}
}

func TestRestartNeedsAServerOfOurOwn(t *testing.T) {
	f := startFake(t)
	if _, err := Run(t.Context(), f.config(&Restart{Records: 10, Users: 2, Window: 1})); err == nil {
		t.Error("a server that is not ours would have been killed")
	}
}

func TestBadScenarios(t *testing.T) {
	with := func(change func(*Load)) Load {
		l := short()
		change(&l)
		return l
	}
	for name, scenario := range map[string]Scenario{
		"one user":             &Saturation{Load: with(func(l *Load) { l.Users = 1 })},
		"too many connections": &Saturation{Load: with(func(l *Load) { l.Connections = 11 })},
		"no size":              &Saturation{Load: with(func(l *Load) { l.Size = 0 })},
		"no time":              &Saturation{Load: with(func(l *Load) { l.Duration = 0 })},
		"too much time":        &Saturation{Load: with(func(l *Load) { l.Duration = time.Hour })},
		"a hold too long":      &Saturation{Load: with(func(l *Load) { l.PollTimeout = time.Hour })},
		"a negative window":    &Saturation{Load: short(), Window: -1},
		"no rate":              &Rate{Load: short()},
		"no polls":             &Held{},
		"nobody active":        &Accounts{Accounts: 10},
		"no records":           &Restart{Users: 2, Window: 1},
		"readers without end":  &Pages{Rate: *low(), Mailboxes: 1, Readers: 11, Operations: 2000},
		"nothing old":          &Pages{Rate: *low(), Mailboxes: 1, Readers: 1, Operations: 1500},
	} {
		if _, err := Run(t.Context(), Config{Scenario: scenario}); err == nil {
			t.Errorf("%s: was run", name)
		}
	}
}

func TestOutput(t *testing.T) {
	fsyncs := 0.25
	result := Result{
		Scenario: "rate",
		Messages: &MessageFigures{Users: 2, Connections: 2, Rate: 200, AckedPerSecond: 199.6, Fsyncs: &fsyncs, Late: 1},
		Held:     &HeldFigures{Polls: 3, PerPoll: 1500},
		Accounts: &AccountFigures{Accounts: 4},
		Restart:  &RestartFigures{Records: 5},
		Errors:   map[string]int{"send: unavailable": 6},
	}
	var table, encoded bytes.Buffer
	if err := result.write(&table, "table"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"200 a second", "0.25 for each", "1.5 KB", "0 lost, 0 duplicated", "6 × send: unavailable", "1 messages that no held poll"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, table.String())
		}
	}
	if err := result.write(&encoded, "json"); err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(encoded.Bytes(), &back); err != nil || *back.Messages.Fsyncs != 0.25 || back.Restart.Records != 5 {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestFiguresAreJudgedByTheMedian(t *testing.T) {
	var b bytes.Buffer
	writeFigures(&b, judge([]round{
		{saturation: &Result{Messages: &MessageFigures{AckedPerSecond: 3000, ServerCPU: 200}}},
		{saturation: &Result{Messages: &MessageFigures{AckedPerSecond: 5000, ServerCPU: 310}}},
		{saturation: &Result{Messages: &MessageFigures{AckedPerSecond: 4500, ServerCPU: 305}}},
	}))
	for _, want := range []string{
		"| acknowledged at saturation, durable | ≥ 4000/s | 4500/s | 3000, 5000, 4500 | yes |",
		"| server CPU for each delivered message at saturation | ≤ 300 µs | 305 µs | 200, 310, 305 | no |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "fsyncs") || strings.Contains(b.String(), "SIGKILL") {
		t.Errorf("figures that were not measured are judged:\n%s", b.String())
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of 1 to 4 is %v", got)
	}
}

func TestCommandLine(t *testing.T) {
	var line struct {
		Bench Command `cmd:""`
	}
	parser, err := kong.New(&line, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		arguments string
		check     func() bool
	}{
		{"bench --users=5 --window=7", func() bool { s := line.Bench.Saturation; return s.Users == 5 && s.Window == 7 && s.Size == 100 }},
		{"bench rate --rate=1.5 --output=json --uniform", func() bool {
			c := line.Bench.Rate
			return c.Rate.Rate == 1.5 && c.Output == "json" && c.Uniform && c.Users == 2000
		}},
		{"bench held --streams=3 --server-flag=--set=a=b,c --server-flag=x", func() bool {
			c := line.Bench.Held
			return c.Streams == 3 && c.Connections == 8000 && len(c.server().Options.Flags) == 2
		}},
		{"bench accounts --accounts=9 -q", func() bool { return line.Bench.Accounts.Accounts.Accounts == 9 && line.Bench.Accounts.Quiet }},
		{"bench restart", func() bool { return line.Bench.Restart.Records == 1_000_000 }},
		{"bench figures --skip=held,restart --strict", func() bool {
			plan := DefaultPlan().without(line.Bench.Figures.Skip)
			return plan.Alone == nil && plan.Restart == nil && plan.Half != nil && line.Bench.Figures.Strict && line.Bench.Figures.Runs == 3
		}},
	} {
		if _, err := parser.Parse(strings.Fields(test.arguments)); err != nil {
			t.Errorf("%s: %v", test.arguments, err)
		} else if !test.check() {
			t.Errorf("%s: parsed as %+v", test.arguments, line.Bench)
		}
	}
}
