package behaviour_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/behaviour/behaviourtest"
	"github.com/tegami-im/tegami/actors/record"
)

// trial does what it is told by the text of a message. Its state counts the events
// that it dealt with. One that hangs is left behind, and still counts its tries.
type trial struct{ tries *atomic.Int64 }

func (b trial) Handle(c *behaviour.Context, state *wrapperspb.Int64Value, event behaviour.Event) error {
	state.Value++
	if b.tries != nil {
		b.tries.Add(1)
	}
	switch e := event.(type) {
	case *behaviour.Message:
		return b.message(c, state, e)
	case *behaviour.Timer:
		c.Send("alice", fmt.Sprintf("%s %v", e.Name, e.Payload))
	case *behaviour.Call:
		c.Post(e.Body)
	}
	return nil
}

func (b trial) message(c *behaviour.Context, state *wrapperspb.Int64Value, m *behaviour.Message) error {
	c.Send(m.From, fmt.Sprintf("%d %s", state.Value, m.Text()))
	switch m.Text() {
	case "panic":
		panic("planted")
	case "error":
		return errors.New("planted")
	case "exit":
		runtime.Goexit()
	case "hang":
		<-c.Context().Done()
	case "third time":
		if b.tries.Load()%3 != 0 {
			return errors.New("planted")
		}
	case "many":
		for i := range behaviour.MaxEffects {
			c.Send(m.From, fmt.Sprint(i))
		}
	case "some":
		for i := range 5 {
			c.Send(m.From, fmt.Sprint(i))
			c.Send("bob", fmt.Sprint(i))
		}
	case "long":
		c.Send(m.From, strings.Repeat("x", behaviour.MaxText+1))
	case "large":
		c.Post(make([]byte, behaviour.MaxBody+1))
	case "large together":
		for range 3 {
			c.Post(make([]byte, behaviour.MaxBody))
		}
	case "large state":
		state.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType), make([]byte, behaviour.MaxState)))
	case "garbage":
		c.Send(m.From, "\xff")
	case "garbage user":
		c.Send("\xff", "hello")
	case "garbage timer":
		c.SetTimer("\xff", c.Now(), nil)
	case "nobody":
		c.Send("", "hello")
	case "nothing":
		c.Send(m.From, "")
	case "timers":
		for i := range behaviour.MaxEffects - 1 {
			c.SetTimer(fmt.Sprint(state.Value, " ", i), c.Now().Add(time.Hour), nil)
		}
	case "timer":
		c.SetTimer("a", c.Now().Add(time.Minute), wrapperspb.String("payload"))
		c.SetTimer("b", c.Now().Add(time.Minute), nil)
	case "not b":
		c.CancelTimer("b")
	case "long timer":
		c.SetTimer("a", c.Now().Add(time.Minute), wrapperspb.String(strings.Repeat("x", behaviour.MaxPayload)))
	case "no timer":
		c.SetTimer("", c.Now(), nil)
	case "myself":
		c.Send(c.Self(), "hello")
	case "strangers":
		c.Send("nobody", "hello")
	}
	return nil
}

// What a handler fails on is passed over in the end, and leaves no trace.
func TestFailuresArePassedOver(t *testing.T) {
	for _, fails := range []string{
		"panic", "error", "exit", "hang", "many", "long", "large", "large together", "large state", "garbage", "garbage user", "garbage timer",
		"nobody", "nothing", "long timer", "no timer", "myself",
	} {
		t.Run(fails, func(t *testing.T) {
			var tries atomic.Int64
			behaviourtest.Run(t, behaviour.New("trial", trial{&tries}), func(w *behaviourtest.World) {
				w.Say("alice", fails)
				if fails == "hang" {
					w.Wait(behaviour.Attempts * (behaviour.Timeout + time.Second))
				}
				w.Say("alice", "hello")
				w.Expect("alice: 1 hello")
				if failed, passed := w.Count(behaviour.Failed), w.Count(behaviour.PassedOver); failed != behaviour.Attempts || passed != 1 {
					t.Errorf("%d failed, %d passed over", failed, passed)
				}
				if len(w.Timers()) > 0 {
					t.Errorf("timers %v", w.Timers())
				}
			})
			if tries.Load() != behaviour.Attempts+1 {
				t.Errorf("%d tries", tries.Load())
			}
		})
	}
}

func TestFailuresAreTriedAgain(t *testing.T) {
	var tries atomic.Int64
	behaviourtest.Run(t, behaviour.New("trial", trial{&tries}), func(w *behaviourtest.World) {
		w.Say("alice", "third time")
		w.Expect("alice: 1 third time")
		if tries.Load() != 3 || w.Count(behaviour.PassedOver) != 0 {
			t.Errorf("%d tries, %d passed over", tries.Load(), w.Count(behaviour.PassedOver))
		}
	})
}

// Messages to one user go in steps of their own, in order and once.
func TestSeveralMessagesToOneUser(t *testing.T) {
	behaviourtest.Crashes(t, behaviour.New("trial", trial{}), func(w *behaviourtest.World) {
		w.Say("bob", "")
		w.Expect("bob: 1 ")
		w.Say("alice", "some")
		w.ExpectInOrder("alice", "2 some", "0", "1", "2", "3", "4")
		w.ExpectInOrder("bob", "0", "1", "2", "3", "4")
		w.Say("alice", "strangers")
		w.Expect("alice: 3 strangers")
	})
}

// A timer comes once, after its time, whatever died meanwhile.
func TestTimers(t *testing.T) {
	behaviourtest.Crashes(t, behaviour.New("trial", trial{}), func(w *behaviourtest.World) {
		w.Say("alice", "timer")
		w.Say("alice", "not b")
		w.Expect("alice: 1 timer", "alice: 2 not b")
		w.Wait(30 * time.Second)
		w.Expect()
		w.Wait(time.Minute)
		w.Expect(`alice: a value:"payload"`)
		w.Wait(time.Hour)
	})
}

// What was due while the server was away comes when it is back, and so does what was
// sent, unless it is no longer kept.
func TestDown(t *testing.T) {
	behaviourtest.Run(t, behaviour.New("trial", trial{}), func(w *behaviourtest.World) {
		w.Say("alice", "timer")
		w.Expect("alice: 1 timer")
		w.Down(func() {
			w.Wait(time.Hour)
			w.Say("alice", "anyone there?")
		})
		w.Expect(`alice: a value:"payload"`, "alice: b <nil>", "alice: 3 anyone there?") // it has its turn between two timers
		w.Down(func() {
			w.Say("alice", "and now?")
			w.Trim()
		})
		w.Say("alice", "hello")
		w.Expect("alice: 5 hello")
	})
}

// More timers than there may be are the handler's mistake, though only apply finds
// it.
func TestTooManyTimers(t *testing.T) {
	behaviourtest.Run(t, behaviour.New("trial", trial{}), func(w *behaviourtest.World) {
		var want []string
		for i := range behaviour.MaxTimers / (behaviour.MaxEffects - 1) {
			w.Say("alice", "timers")
			want = append(want, fmt.Sprintf("alice: %d timers", i+1))
		}
		w.Expect(want...)
		w.Say("alice", "timers")
		w.Expect()
		if w.Count(behaviour.PassedOver) != 1 {
			t.Errorf("%d passed over", w.Count(behaviour.PassedOver))
		}
		w.Say("alice", "hello")
		w.Expect(fmt.Sprintf("alice: %d hello", len(want)+1))
		w.Wait(2 * time.Hour)
		if len(w.Timers()) > 0 {
			t.Errorf("timers %v", w.Timers())
		}
		w.Forget()
	})
}

// Two behaviours that answer one another fall silent.
func TestHops(t *testing.T) {
	behaviourtest.Run(t, behaviour.New("trial", trial{}), func(w *behaviourtest.World) {
		for hops := range behaviour.MaxHops + 1 {
			w.SayAs("other", "hello", hops)
		}
		want := []string{}
		for i := range behaviour.MaxHops {
			want = append(want, fmt.Sprintf("other: %d hello", i+1))
		}
		w.Expect(want...)
		if w.Count(behaviour.Hops) != 1 {
			t.Errorf("%d messages were a hop too far", w.Count(behaviour.Hops))
		}
		// A timer is no way around it.
		w.SayAs("alice", "timer", behaviour.MaxHops)
		w.Wait(time.Hour)
		w.Expect()
	})
}

// What is posted gets there when the receiver is back, in order, while the
// behaviour goes on.
func TestPosts(t *testing.T) {
	behaviourtest.Crashes(t, behaviour.New("trial", trial{}), func(w *behaviourtest.World) {
		w.Ring("1", []byte("one"))
		w.Ring("1", []byte("one"))
		w.ExpectPosts("one")
		w.Away(errors.New("away"))
		w.Ring("2", []byte("two"))
		w.Say("alice", "meanwhile")
		w.Expect("alice: 3 meanwhile")
		w.Wait(time.Hour)
		w.ExpectPosts()
		w.Away(nil)
		w.Wait(2 * time.Minute)
		w.ExpectPosts("two")
		w.Away(behaviourtest.ErrGone)
		w.Ring("3", []byte("three"))
		w.Away(nil)
		w.Wait(time.Hour)
		w.ExpectPosts()
	})
}

// While much waits to be posted the behaviour waits too, and then catches up.
func TestPostsAreBounded(t *testing.T) {
	behaviourtest.Run(t, behaviour.New("trial", trial{}), func(w *behaviourtest.World) {
		body := strings.Repeat("x", behaviour.MaxBody/2)
		w.Away(errors.New("away"))
		var want []string
		for i := range 4 {
			want = append(want, fmt.Sprint(i, body))
			w.Ring(fmt.Sprint(i), []byte(want[i]))
		}
		if handled := w.Count(behaviour.Handled); handled != 2 {
			t.Errorf("%d calls handled with a backlog of 64 KiB", handled)
		}
		w.Away(nil)
		w.Wait(time.Hour)
		w.ExpectPosts(want...)
	})
}

// old is trial before it kept a number.
type old struct{}

func (old) Handle(c *behaviour.Context, state *wrapperspb.StringValue, event behaviour.Event) error {
	if m, ok := event.(*behaviour.Message); ok {
		state.Value += "x"
		c.Send(m.From, state.Value)
	}
	return nil
}

// upgraded is trial, with the state of old.
type upgraded struct{ trial }

func (upgraded) Upgrade(message string, data []byte) (*wrapperspb.Int64Value, error) {
	var before wrapperspb.StringValue
	if message != string(before.ProtoReflect().Descriptor().FullName()) {
		return nil, fmt.Errorf("state of %s", message)
	}
	err := proto.Unmarshal(data, &before)
	return wrapperspb.Int64(int64(len(before.GetValue()))), err
}

// A behaviour takes over the state of its predecessor, if it knows how to.
func TestUpgrade(t *testing.T) {
	behaviourtest.Run(t, behaviour.New("trial", old{}), func(w *behaviourtest.World) {
		w.Say("alice", "hello")
		w.Say("alice", "hello")
		w.Expect("alice: x", "alice: xx")
		w.Replace(behaviour.New("trial", trial{}))
		w.Say("alice", "hello")
		w.Expect() // it does not know how
		w.Replace(behaviour.New("other", old{}))
		w.Wait(time.Minute)
		w.Expect() // it is another's account
		w.Replace(behaviour.New("trial", upgraded{}))
		w.Wait(time.Minute)
		w.Expect("alice: 3 hello")
	})
}

func TestRegistry(t *testing.T) {
	kind := func(name string) *behaviour.Kind { return behaviour.New[*emptypb.Empty](name, nothing{}) }
	registry, err := behaviour.Register(kind("b"), kind("a-1"))
	if err != nil || strings.Join(registry.Names(), " ") != "a-1 b" || registry["b"].Name() != "b" {
		t.Errorf("registry %v, error %v", registry, err)
	}
	for _, kinds := range [][]*behaviour.Kind{{kind("a"), kind("a")}, {kind("")}, {kind("A")}, {kind("a b")}, {kind(strings.Repeat("a", 33))}} {
		if _, err := behaviour.Register(kinds...); err == nil {
			t.Errorf("%q was registered", kinds[0].Name())
		}
	}
}

type nothing struct{}

func (nothing) Handle(*behaviour.Context, *emptypb.Empty, behaviour.Event) error { return nil }

// What a mailbox knows comes back as it was, and what does not open is an error.
func TestOpen(t *testing.T) {
	memory := &record.Memory{Kind: "trial", State: []byte("s")}
	step := &behaviour.Step{ID: []byte("id"), Memory: memory, Timers: []*record.Timer{{Name: "a", DueTime: 5, SealedPayload: []byte("p")}}}
	sealed, err := step.Record("bot", func(mailbox string, id, body []byte) ([]byte, error) {
		return append([]byte(mailbox+string(id)), body...), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	timer := sealed.Timers[0]
	timer.Step = step.ID
	known := &record.Known{Behaviour: &record.Behaviour{Step: step.ID, SealedMemory: sealed.SealedMemory}, Timers: []*record.Timer{timer}}
	open := func(id, sealed []byte) ([]byte, error) {
		body, found := strings.CutPrefix(string(sealed), "bot"+string(id))
		if !found {
			return nil, errors.New("sealed under another id")
		}
		return []byte(body), nil
	}
	got, err := behaviour.Open(known, open)
	if err != nil || !proto.Equal(got.Memory, memory) || string(got.Timers[0].SealedPayload) != "p" {
		t.Errorf("opened %+v, error %v", got, err)
	}
	timer.Step = []byte("xx")
	if _, err := behaviour.Open(known, open); err == nil {
		t.Error("a timer of another step was opened")
	}
	known.Behaviour.SealedMemory = []byte("botid\xff")
	if _, err := behaviour.Open(known, open); err == nil {
		t.Error("damaged memory was opened")
	}
}
