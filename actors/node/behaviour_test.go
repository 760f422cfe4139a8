package node

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// counter answers each message with its number, and each call to the last who
// wrote; "later" has it answered by a timer.
type counter struct{}

func (counter) Handle(c *behaviour.Context, state *wrapperspb.Int64Value, event behaviour.Event) error {
	switch e := event.(type) {
	case *behaviour.Message:
		state.Value++
		if e.Text() == "later" {
			c.SetTimer(fmt.Sprint("later ", state.Value), c.Now().Add(20*time.Millisecond), wrapperspb.String(e.From))
			return nil
		}
		c.Send(e.From, fmt.Sprintf("%d: %s", state.Value, e.Text()))
	case *behaviour.Timer:
		c.Send(e.Payload.(*wrapperspb.StringValue).Value, "timer")
	case *behaviour.Call:
		c.Send("alice", "call: "+string(e.Body))
	}
	return nil
}

func counting(user string) []Behaviour {
	return []Behaviour{{User: user, Kind: behaviour.New("counter", counter{})}}
}

// heard polls a mailbox until it has received so many messages, and returns them.
func (c cell) heard(user talk.Session, count int) (texts []string) {
	c.t.Helper()
	for after := int64(0); len(texts) < count; {
		answers, _ := c.poll(user, after, patience)
		got := c.await(answers)
		if got.refused != nil || len(got.page.Operations) == 0 {
			c.t.Fatalf("%d of %d messages: %v", len(texts), count, got.refused)
		}
		operations := c.decoded(got.page)
		for i, text := range c.textsOf(user.User, operations) {
			if operations[i].GetReceiveMessage() != nil {
				texts = append(texts, text)
			}
		}
		after = got.page.Revision
	}
	return texts
}

// A behaviour answers what it is sent, and goes on where it was, on the next node.
func TestBehaviourGoesOn(t *testing.T) {
	options := Options{
		Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(),
		Behaviours: counting("bot"),
	}
	first := start(t, options)
	alice := first.join("alice")["alice"]
	first.until("an account of the bot", func() bool { _, err := first.Account(first.context(), "bot"); return err == nil })
	for i := range 3 {
		if _, err := first.send(alice, "bot", fmt.Sprint(i), "hello"); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"1: hello", "2: hello", "3: hello"}
	if got := first.heard(alice, 3); !slices.Equal(got, want) {
		t.Errorf("alice got %q", got)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := start(t, options)
	if _, err := second.send(alice, "bot", "later", "later"); err != nil {
		t.Fatal(err)
	}
	if err := second.Call(second.context(), "bot", "id", []byte("ring")); err != nil {
		t.Fatal(err)
	}
	if err := second.Call(second.context(), "bot", "id", []byte("ring")); err != nil {
		t.Errorf("the same call again: %v", err)
	}
	if err := second.Call(second.context(), "bot", "id", []byte("other")); !reasonIs(err, refusal.DifferentBody) {
		t.Errorf("another call under the id: %v", err)
	}
	got := second.heard(alice, 5)
	if slices.Sort(got); !slices.Equal(got, append(want, "call: ring", "timer")) {
		t.Errorf("alice got %q", got)
	}
}

// Behaviours move with their shards, and each message is answered once.
func TestBehavioursMoveWithTheirShards(t *testing.T) {
	f := newFleet(t)
	f.options.Behaviours = counting("bot")
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.start("talk-1", cluster.RoleTalk)
	f.ready()
	alice := gateway.join("alice")["alice"]
	gateway.until("an account of the bot", func() bool { _, err := gateway.Account(gateway.context(), "bot"); return err == nil })
	var want []string
	say := func() {
		t.Helper()
		want = append(want, fmt.Sprintf("%d: hello", len(want)+1))
		if _, err := gateway.send(alice, "bot", fmt.Sprint(len(want)), "hello"); err != nil {
			t.Fatal(err)
		}
		if got := gateway.heard(alice, len(want)); !slices.Equal(got, want) {
			t.Fatalf("alice got %q", got)
		}
	}
	say()
	f.start("talk-2", cluster.RoleTalk)
	f.start("talk-3", cluster.RoleTalk)
	say()
	f.leave("talk-1")
	say()
	f.leave("talk-2")
	say()
}

// A person's account is not taken over.
func TestBehaviourLeavesPeopleAlone(t *testing.T) {
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys()}
	before := start(t, options)
	sessions := before.join("alice", "bob")
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	options.Behaviours = append(counting("bob"), counting("bot")...)
	c := start(t, options)
	c.until("an account of the bot", func() bool { _, err := c.Account(c.context(), "bot"); return err == nil })
	for _, to := range []string{"bob", "bot"} {
		if _, err := c.send(sessions["alice"], to, to, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.heard(sessions["alice"], 1); !slices.Equal(got, []string{"1: hello"}) {
		t.Errorf("alice got %q", got)
	}
	h := &home{node: c.Node, user: "bob"}
	if _, err := h.Load(c.context()); err == nil {
		t.Error("bob's account was taken for a behaviour's")
	}
}

// Two nodes that both run a behaviour, as a split makes of a cluster, have it
// answer each message once, with a state that both agree on.
func TestTwoOwnersRunOneBehaviour(t *testing.T) {
	// Appends take a while, in which the other decides, too.
	plan := persisttest.NewPlan(3, 5*time.Millisecond, map[persisttest.Fault]float64{persisttest.AppendSlow: 0.8})
	options := Options{
		Journal: persisttest.NewFaultyJournal(memory.NewJournal(persistence.DurabilityFsync), plan),
		Store:   memory.NewStore(), Keys: memory.NewKeys(),
		Behaviours: counting("bot"),
	}
	overtaken := countOvertaken(&options)
	nodes := []cell{start(t, options), start(t, options)}
	alice := nodes[0].join("alice")["alice"]
	nodes[0].until("an account of the bot", func() bool {
		_, err := nodes[0].Account(nodes[0].context(), "bot")
		return err == nil
	})
	const messages = 40
	var want []string
	for i := range messages {
		text := "hello"
		if i%4 == 3 {
			text = "later"
			want = append(want, "timer")
		} else {
			want = append(want, fmt.Sprintf("%d: hello", i+1))
		}
		if _, err := nodes[i%2].send(alice, "bot", fmt.Sprint(i), text); err != nil {
			t.Fatal(err)
		}
	}
	got := nodes[1].heard(alice, messages)
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("alice got %q, want %q", got, want)
	}
	if overtaken.Load() == 0 {
		t.Error("no step was overtaken, which proves too little")
	}
}

// countOvertaken counts the steps that another owner's came before.
func countOvertaken(options *Options) *atomic.Int64 {
	overtaken := new(atomic.Int64)
	options.Observe.Behaviours.Outcome = func(_ string, o behaviour.Outcome) {
		if o == behaviour.Overtaken {
			overtaken.Add(1)
		}
	}
	return overtaken
}

// Appends whose outcome is unknown, that come late or twice, and a store that
// fails, under two nodes that both run the behaviour: each message is answered
// once all the same.
func TestBehaviourOverFaultyStores(t *testing.T) {
	plan := persisttest.NewPlan(2, 5*time.Millisecond, map[persisttest.Fault]float64{
		persisttest.AppendHappened: 0.05, persisttest.AppendLost: 0.05, persisttest.AppendLate: 0.05,
		persisttest.AppendFull: 0.02, persisttest.AppendBusy: 0.02, persisttest.AppendSlow: 0.05,
		persisttest.ReadFailed: 0.1, persisttest.WriteLost: 0.1, persisttest.WriteDone: 0.05, persisttest.LoadFailed: 0.1,
	})
	options := Options{
		Journal:    persisttest.NewFaultyJournal(memory.NewJournal(persistence.DurabilityFsync), plan),
		Store:      persisttest.NewFaultyStore(memory.NewStore(), plan),
		Keys:       memory.NewKeys(),
		Behaviours: counting("bot"),
	}
	overtaken := countOvertaken(&options)
	nodes := []cell{start(t, options), start(t, options)}
	var alice talk.Session
	nodes[0].until("alice signed in", func() (ok bool) {
		if _, err := nodes[0].CreateAccounts(nodes[0].context(), []talk.NewAccount{{User: "alice"}}); err != nil {
			return false
		}
		session, err := nodes[0].SignIn(nodes[0].context(), "alice", "phone", [32]byte{1})
		alice = session
		return err == nil
	})
	const messages = 60
	var want, got []string
	for i := range messages {
		want = append(want, fmt.Sprintf("%d: hello", i+1))
		nodes[i%2].until("answered", func() bool {
			_, err := nodes[i%2].send(alice, "bot", fmt.Sprint(i), "hello")
			return err == nil
		})
	}
	deadline := time.Now().Add(patience)
	for after := int64(0); len(got) < messages; {
		if time.Now().After(deadline) {
			t.Fatalf("alice got %d of %d answers", len(got), messages)
		}
		answers, _ := nodes[0].poll(alice, after, time.Second)
		answer := nodes[0].await(answers)
		if answer.refused != nil || len(answer.page.Operations) == 0 {
			continue // the store failed, or nothing came
		}
		operations := nodes[0].decoded(answer.page)
		for i, text := range nodes[0].textsOf("alice", operations) {
			if operations[i].GetReceiveMessage() != nil {
				got = append(got, text)
			}
		}
		after = answer.page.Revision
	}
	if !slices.Equal(got, want) {
		t.Errorf("alice got %q, want %q", got, want)
	}
	if overtaken.Load() == 0 {
		t.Error("no step was overtaken, which proves too little")
	}
}
