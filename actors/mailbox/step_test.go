package mailbox

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// step is a step of bob, who is a behaviour, behind another; the first is behind
// none.
func step(id, after string, s *record.Step) *record.Record {
	if after != "" {
		s.After = hash(16, "step", after)
	}
	return &record.Record{Id: hash(16, "step", id), Mailbox: "bob", ApplyVersion: behaviourVersion, Kind: &record.Record_Step{Step: s}}
}

func stepSend(to string, hops int32) *record.StepSend {
	return &record.StepSend{To: to, Message: &record.StepMessage{MessageId: hash(16, "to", to), SealedBody: []byte("b"), Hops: hops}}
}

func timer(name string, due int64) *record.Timer { return &record.Timer{Name: name, DueTime: due} }

// drawStepRecord returns one of those that have to do with behaviours: steps of few
// names, so that some follow one another, some are overtaken and some are copies.
func drawStepRecord(t *rapid.T, offset int) *record.Record {
	name := rapid.SampledFrom([]string{"a", "b", "c"})
	switch rapid.IntRange(0, 5).Draw(t, "step") {
	case 0:
		return &record.Record{
			Id: hash(16, offset), Mailbox: "bob", ApplyVersion: behaviourVersion,
			Source: &record.Source{Mailbox: "carol", Generation: 1, Offset: int64(rapid.IntRange(offset, offset+10).Draw(t, "from"))},
			Kind:   &record.Record_StepMessage{StepMessage: stepSend("bob", int32(rapid.IntRange(0, MaxHops+1).Draw(t, "hops"))).Message},
		}
	case 1:
		r := &record.Record{ApplyVersion: behaviourVersion, Kind: &record.Record_Call{Call: &record.Call{SealedBody: []byte("b")}}}
		return command("call "+name.Draw(t, "call"), r)
	default:
		s := &record.Step{
			Cursor: int64(rapid.IntRange(0, 30).Draw(t, "cursor")), SealedMemory: []byte(name.Draw(t, "memory")), Failed: rapid.Bool().Draw(t, "failed"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "timers") {
			s.Timers = append(s.Timers, timer(name.Draw(t, "timer"), int64(rapid.IntRange(0, 1).Draw(t, "due"))))
		}
		for _, to := range []string{"alice", "carol"}[:rapid.IntRange(0, 2).Draw(t, "sends")] {
			s.Sends = append(s.Sends, stepSend(to, 1))
		}
		return step(name.Draw(t, "id"), rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "after"), s)
	}
}

// Of two steps behind the same one, the first in the log is taken; a copy of one
// that was taken is no mistake.
func TestStepsFollowOneAnother(t *testing.T) {
	b := newAccount(t)
	b.accept(send("alice", "m1", 3))
	first := step("a", "", &record.Step{Cursor: 1, SealedMemory: []byte("one"), Sends: []*record.StepSend{stepSend("alice", 1)}})
	out := b.accept(first)
	if len(out.FollowUps) != 1 || len(out.Operations) != 0 || len(out.Write.Dedup) != 0 {
		t.Fatalf("outcome %+v", out)
	}
	follow := out.FollowUps[0].Record
	if got := follow.GetStepMessage(); follow.Mailbox != "alice" || got.GetHops() != 1 || follow.GetSource().GetMailbox() != "bob" || follow.ApplyVersion != b.version {
		t.Errorf("follow-up %v", follow)
	}
	if out := b.accept(proto.CloneOf(first)); len(out.FollowUps) != 0 {
		t.Error("the copy of a step was taken again")
	}
	for _, late := range []*record.Record{
		step("b", "", &record.Step{SealedMemory: []byte("other")}),
		step("b", "nothing", &record.Step{SealedMemory: []byte("other")}),
	} {
		if out := b.apply(late); out.Answer.Reason != refusal.NotNext || len(out.Write.Parts) != 0 {
			t.Errorf("outcome %+v", out)
		}
	}
	b.accept(step("c", "a", &record.Step{Cursor: 99, SealedMemory: []byte("two"), Failed: true}))
	if got, _ := b.Behaviour(); got.Steps != 2 || got.Cursor != 1 || string(got.SealedMemory) != "two" || got.Failed != 1 {
		t.Errorf("behaviour %v", got)
	}
	b.accept(step("d", "c", &record.Step{Cursor: 0}))
	if got, _ := b.Behaviour(); got.Cursor != 1 {
		t.Errorf("the cursor went back to %d", got.Cursor)
	}
	if out := b.apply(proto.CloneOf(first)); out.Answer.Reason != refusal.NotNext {
		t.Errorf("refused: %v", out.Answer.Reason)
	}
}

// Timers are parts of the state: what is stored and loaded has them.
func TestTimersAreKept(t *testing.T) {
	b := newAccount(t)
	var store history
	for _, r := range []*record.Record{
		step("a", "", &record.Step{Timers: []*record.Timer{timer("x", start+5), timer("y", start+6), timer("x", start+7)}}),
		step("b", "a", &record.Step{Timers: []*record.Timer{timer("y", 0), timer("never", 0), timer("z", start+8)}}),
	} {
		store.keep(b.accept(r))
	}
	loaded := store.load(t, "bob", 100)
	for _, s := range []*State{b.State, loaded} {
		_, timers := s.Behaviour()
		due := map[string]int64{}
		for _, timer := range timers {
			due[timer.Name] = timer.DueTime
		}
		if fmt.Sprint(due) != fmt.Sprint(map[string]int64{"x": start + 7, "z": start + 8}) {
			t.Errorf("timers %v", due)
		}
		if got := s.parts.timers["x"].Step; string(got) != string(hash(16, "step", "a")) {
			t.Errorf("the timer is sealed under %x", got)
		}
	}
}

func TestTimersAreBounded(t *testing.T) {
	b := newAccount(t)
	after := ""
	for n := 0; n < MaxTimers; {
		var s record.Step
		for range min(MaxStepTimers, MaxTimers-n) {
			s.Timers = append(s.Timers, timer(fmt.Sprint(n), start+int64(n)))
			n++
		}
		b.accept(step(fmt.Sprint(n), after, &s))
		after = fmt.Sprint(n)
	}
	out := b.apply(step("over", after, &record.Step{Timers: []*record.Timer{timer("one more", start)}, Sends: []*record.StepSend{stepSend("alice", 1)}}))
	if out.Answer.Reason != refusal.TooManyTimers || len(out.FollowUps) != 0 || len(out.Write.Parts) != 0 {
		t.Errorf("outcome %+v", out)
	}
	b.accept(step("instead", after, &record.Step{Timers: []*record.Timer{timer("one more", start), timer("0", 0)}}))
}

// A server's mistakes are refused, whatever wrote them.
func TestMalformedSteps(t *testing.T) {
	many := func(n int) (sends []*record.StepSend) {
		for i := range n {
			sends = append(sends, stepSend(fmt.Sprint("user", i), 1))
		}
		return sends
	}
	for what, s := range map[string]*record.Step{
		"too large a memory":      {SealedMemory: make([]byte, MaxMemory+1)},
		"too many messages":       {Sends: many(MaxStepSends + 1)},
		"two to one user":         {Sends: []*record.StepSend{stepSend("alice", 1), stepSend("alice", 1)}},
		"to itself":               {Sends: []*record.StepSend{stepSend("bob", 1)}},
		"to nobody":               {Sends: []*record.StepSend{stepSend("", 1)}},
		"no message":              {Sends: []*record.StepSend{{To: "alice"}}},
		"no hop":                  {Sends: []*record.StepSend{stepSend("alice", 0)}},
		"a hop too far":           {Sends: []*record.StepSend{stepSend("alice", MaxHops+1)}},
		"a timer without a name":  {Timers: []*record.Timer{timer("", 1)}},
		"a timer of a long name":  {Timers: []*record.Timer{timer(strings.Repeat("x", MaxTimerName+1), 1)}},
		"a timer a hop too far":   {Timers: []*record.Timer{{Name: "x", DueTime: 1, Hops: MaxHops + 1}}},
		"too many timers at once": {Timers: make([]*record.Timer, MaxStepTimers+1)},
	} {
		b := newAccount(t)
		if out := b.apply(step("a", "", s)); out.Answer.Reason != refusal.Internal || out.Fault == "" || len(out.Write.Parts) != 0 {
			t.Errorf("%s: outcome %+v", what, out)
		}
	}
	if out := newBox(t).apply(step("a", "", new(record.Step))); out.Answer.Reason != refusal.UnknownRecipient {
		t.Errorf("without an account: refused: %v", out.Answer.Reason)
	}
}

// A behaviour's message comes in once from each step, and not at all to who does
// not want it.
func TestStepMessages(t *testing.T) {
	message := func(offset int64) *record.Record {
		return &record.Record{
			Id: hash(16, offset), Mailbox: "bob", ApplyVersion: behaviourVersion,
			Source: &record.Source{Mailbox: "bot", Generation: 1, Offset: offset},
			Kind:   &record.Record_StepMessage{StepMessage: stepSend("bob", 3).Message},
		}
	}
	b := newAccount(t)
	out := b.accept(message(5))
	got := out.Operations[0].GetReceiveMessage()
	if got.GetFrom() != "bot" || got.GetTo() != "bob" || got.GetHops() != 3 || got.GetReceived() != 1 || out.Write.Rows[0].Peer != "bot" {
		t.Errorf("message %v", got)
	}
	if out := b.accept(message(5)); len(out.Operations) != 0 {
		t.Error("the message came in twice")
	}
	b.accept(command("block", editContact("bot", "d1", block(true))))
	if out := b.accept(message(6)); len(out.Operations) != 0 || len(out.Write.Sources) != 1 {
		t.Errorf("outcome %+v", out)
	}
	b.accept(command("unblock", editContact("bot", "d1", block(false))))
	if out := b.accept(message(6)); len(out.Operations) != 0 {
		t.Error("what was refused came in afterwards")
	}
	if out := b.accept(message(7)); len(out.Operations) != 1 {
		t.Error("the message is lost")
	}
	if out := newBox(t).apply(message(5)); out.Answer.Reason != refusal.None || out.Write.State != nil {
		t.Errorf("without an account: %+v", out)
	}
}

// A call comes in once for each id.
func TestCalls(t *testing.T) {
	b := newAccount(t)
	call := func(id string, body byte) *record.Record {
		return command(id, &record.Record{Kind: &record.Record_Call{Call: &record.Call{SealedBody: []byte{body}}}}, body)
	}
	first := b.accept(call("a", 1))
	if got := first.Operations[0].GetCalled(); len(got.GetId()) != persistence.MessageIDSize || got.GetSealedBody()[0] != 1 {
		t.Errorf("operation %v", first.Operations)
	}
	if out := b.accept(call("a", 1)); len(out.Operations) != 0 || out.Answer.Revision != 1 {
		t.Errorf("outcome %+v", out)
	}
	if out := b.apply(call("a", 2)); out.Answer.Reason != refusal.DifferentBody {
		t.Errorf("refused: %v", out.Answer.Reason)
	}
}
