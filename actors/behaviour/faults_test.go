package behaviour_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/behaviour/behaviourtest"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
)

// handler is a behaviour of one function.
type handler func(c *behaviour.Context, state *wrapperspb.Int64Value, event behaviour.Event) error

func (h handler) Handle(c *behaviour.Context, state *wrapperspb.Int64Value, event behaviour.Event) error {
	return h(c, state, event)
}

func kind(h handler) *behaviour.Kind { return behaviour.New("trial", h) }

// Posts are bounded by what is remembered of them, of which their bodies may be
// the least.
func TestSmallPostsAreBounded(t *testing.T) {
	posts := func(c *behaviour.Context, _ *wrapperspb.Int64Value, _ behaviour.Event) error {
		for range behaviour.MaxEffects {
			c.Post(nil)
		}
		return nil
	}
	behaviourtest.Run(t, kind(posts), func(w *behaviourtest.World) {
		w.Away(errors.New("away"))
		const calls = 70
		for i := range calls {
			w.Ring(fmt.Sprint(i), nil)
		}
		if handled := w.Count(behaviour.Handled); handled == 0 || handled == calls {
			t.Errorf("%d of %d calls handled while nothing can be posted", handled, calls)
		}
	})
}

// What is posted is what it was when it was posted, though the handler writes
// into the same memory again.
func TestPostsAreCopies(t *testing.T) {
	var buffer []byte
	posts := func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
		buffer = append(buffer[:0], event.(*behaviour.Call).Body...)
		c.Post(buffer)
		return nil
	}
	behaviourtest.Run(t, kind(posts), func(w *behaviourtest.World) {
		w.Away(errors.New("away"))
		w.Ring("1", []byte("one"))
		w.Ring("2", []byte("two"))
		w.Away(nil)
		w.Wait(2 * time.Minute)
		w.ExpectPosts("one", "two")
	})
}

// A timer is never early: not by a part of a millisecond, nor because what it is
// set for is beyond all numbers.
func TestTimersAreNeverEarly(t *testing.T) {
	for what, after := range map[string]time.Duration{
		"an odd nanosecond": time.Second + time.Nanosecond, "a nanosecond": 1, "now": 0, "long ago": -100 * 365 * 24 * time.Hour,
	} {
		t.Run(what, func(t *testing.T) {
			var set, came time.Time
			behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
				if _, timer := event.(*behaviour.Timer); timer {
					came = c.Now()
				} else {
					set = c.Now().Add(after)
					c.SetTimer("t", set, nil)
				}
				return nil
			}), func(w *behaviourtest.World) {
				w.Say("alice", "go")
				w.Wait(time.Minute)
			})
			if came.IsZero() || came.Before(set) {
				t.Errorf("it was due at %v and came at %v", set, came)
			}
		})
	}
	for _, never := range []time.Time{time.Unix(math.MaxInt64/4, 0), time.Unix(1<<53, 0), time.Date(9_999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
			if m, ok := event.(*behaviour.Message); ok {
				c.SetTimer("t", never, nil)
				c.Send(m.From, "set")
			} else {
				c.Send("alice", "it came")
			}
			return nil
		}), func(w *behaviourtest.World) {
			w.Say("alice", "go")
			w.Wait(24 * time.Hour)
			w.Expect("alice: set")
			if len(w.Timers()) != 1 {
				t.Error("the timer is gone")
			}
		})
	}
}

// The clock of a world stands still while things are said: a timer of seconds comes
// when the test waits for it.
func TestTheClockStandsStill(t *testing.T) {
	behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
		if timer, ok := event.(*behaviour.Timer); ok {
			c.Send(timer.Name, "now")
			return nil
		}
		c.SetTimer("alice", c.Now().Add(time.Second), nil)
		return nil
	}), func(w *behaviourtest.World) {
		w.Say("alice", "hello")
		w.Expect()
		w.Wait(time.Second)
		w.Expect("alice: now")
	})
}

// One who sets timer upon timer, each due at once, hears what others say.
func TestTimersLeaveMessagesTheirTurn(t *testing.T) {
	behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
		switch e := event.(type) {
		case *behaviour.Timer:
			c.SetTimer("tick", e.Due.Add(time.Millisecond), nil)
		case *behaviour.Message:
			c.Send(e.From, e.Text())
			c.SetTimer("tick", time.Time{}, nil)
			if e.Text() == "stop" {
				c.CancelTimer("tick")
			}
		}
		return nil
	}), func(w *behaviourtest.World) {
		w.Say("alice", "start")
		w.Say("alice", "stop")
		w.Expect("alice: start", "alice: stop")
	})
}

// Calls that never return are few: then the behaviour stands still, and not the
// machine, until one does.
func TestHandlersThatNeverReturn(t *testing.T) {
	idle := func(*behaviour.Context, *wrapperspb.Int64Value, behaviour.Event) error { return nil }
	behaviourtest.Run(t, kind(idle), func(w *behaviourtest.World) {
		var calls atomic.Int64
		release := make(chan struct{})
		w.Replace(kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
			calls.Add(1)
			if m := event.(*behaviour.Message); m.Text() != "hang" {
				c.Send(m.From, m.Text())
				return nil
			}
			<-release
			return nil
		}))
		w.Say("alice", "hang")
		w.Say("alice", "hang")
		w.Say("alice", "hello")
		w.Wait(10 * time.Minute)
		if passed := w.Count(behaviour.PassedOver); calls.Load() != behaviour.Attempts || passed != 1 {
			t.Errorf("%d calls that have not returned, %d passed over", calls.Load(), passed)
		}
		w.Expect()
		close(release)
		w.Wait(time.Minute)
		w.Expect("alice: hello")
	})
}

// A handler that returns when its context ends is waited for: when the host has
// ended, nothing of it runs any more.
func TestHostsWaitForTheirHandlers(t *testing.T) {
	running := false
	behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, _ behaviour.Event) error {
		running = true
		<-c.Context().Done()
		<-time.After(time.Millisecond) // as long as it takes to tidy up
		running = false
		return nil
	}), func(w *behaviourtest.World) {
		w.Say("alice", "hello")
		w.Down(func() {
			if running {
				t.Error("a handler runs without a host")
			}
		})
	})
}

// What no client could send, no behaviour sends: others could not read it.
func TestBodiesThatNobodyCouldRead(t *testing.T) {
	mention := func(user string, start, length int32) []*record.Mention {
		return []*record.Mention{{UserId: user, Start: start, Length: length}}
	}
	for what, body := range map[string]talk.Body{
		"text and data":              {Text: "hello", MimeType: "text/plain", Data: []byte("hello")},
		"data without a type":        {Text: "hello", Data: []byte("hello")},
		"a long type":                {MimeType: strings.Repeat("x", 256)},
		"a type of two lines":        {MimeType: "text/plain\n"},
		"a reply to no message":      {Text: "hello", ReplyTo: "12"},
		"a mention behind the end":   {Text: "hello", Mentions: mention("bob", 3, 3)},
		"a mention before the start": {Text: "hello", Mentions: mention("bob", -1, 1)},
		"a mention of nothing":       {Text: "hello", Mentions: mention("bob", 1, 0)},
		"a mention of nobody":        {Text: "hello", Mentions: mention("", 0, 1)},
		"a mention in other letters": {Text: "hello", Mentions: mention("\xff", 0, 1)},
		"a mention of far too much":  {Text: "hello", Mentions: mention("bob", math.MaxInt32, math.MaxInt32)},
		"many mentions":              {Text: "hello", Mentions: make([]*record.Mention, 21)},
	} {
		t.Run(what, func(t *testing.T) {
			behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
				c.SendBody(event.(*behaviour.Message).From, body)
				return nil
			}), func(w *behaviourtest.World) {
				w.Say("alice", "hello")
				w.Expect()
				if w.Count(behaviour.PassedOver) != 1 {
					t.Error("it was not refused")
				}
			})
		})
	}
	good := talk.Body{Text: "hello", ReplyTo: "0123456789abcdef", Mentions: mention("bob", 0, 5)}
	behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, event behaviour.Event) error {
		m := event.(*behaviour.Message)
		c.SendBody(m.From, good)
		c.Send(strings.Repeat("x", 64), "nobody has this name")
		if m.Text() == "long" {
			c.Send(strings.Repeat("x", 65), "and nobody can have this")
		}
		return nil
	}), func(w *behaviourtest.World) {
		w.Say("alice", "hello")
		w.Expect("alice: hello")
		w.Say("alice", "long")
		w.Expect()
	})
}

// lost is trial with an Upgrade that forgets what it has.
type lost struct{ handler }

func (lost) Upgrade(string, []byte) (*wrapperspb.Int64Value, error) { return nil, nil }

// An upgrade that comes to nothing leaves the behaviour standing, not its events
// passed over.
func TestUpgradeToNothing(t *testing.T) {
	counts := func(c *behaviour.Context, state *wrapperspb.Int64Value, event behaviour.Event) error {
		state.Value++
		c.Send(event.(*behaviour.Message).From, fmt.Sprint(state.Value))
		return nil
	}
	behaviourtest.Run(t, behaviour.New("trial", old{}), func(w *behaviourtest.World) {
		w.Say("alice", "hello")
		w.Expect("alice: x")
		w.Replace(behaviour.New[*wrapperspb.Int64Value]("trial", lost{counts}))
		w.Say("alice", "hello")
		w.Wait(time.Minute)
		if passed := w.Count(behaviour.PassedOver); passed != 0 {
			t.Errorf("%d passed over", passed)
		}
		w.Replace(behaviour.New("trial", upgraded{}))
		w.Wait(time.Minute)
		w.Expect("alice: 2 hello")
	})
}

// member joins the chats that it is invited to, and does there what it is told.
type member struct{}

func (member) Handle(c *behaviour.Context, state *wrapperspb.Int64Value, event behaviour.Event) error {
	state.Value++
	switch e := event.(type) {
	case *behaviour.Membership:
		switch e.Is {
		case behaviour.Invited:
			if e.Name == "spam" {
				c.Leave(e.Chat)
				return nil
			}
			c.Join(e.Chat)
			c.Send(e.Chat, "thank you, "+e.By)
		case behaviour.Joined:
			c.Send(e.Chat, "here I am, in "+e.Name)
		case behaviour.Alone:
		case behaviour.Gone:
			c.Send("alice", "no more of "+e.Name)
		}
	case *behaviour.Message:
		switch {
		case e.Chat == "":
			c.Send(e.From, "alone")
		case e.Text() == "go":
			c.Send(e.Chat, "bye")
			c.Leave(e.Chat)
			c.Send(e.Chat, "this is too late")
		default:
			c.Send(e.Chat, e.From+" says "+e.Text())
		}
	case *behaviour.Timer, *behaviour.Call:
	}
	return nil
}

// A behaviour is in chats as users are, and does what it does there once and in
// order, whatever dies.
func TestChats(t *testing.T) {
	behaviourtest.Crashes(t, behaviour.New("member", member{}), func(w *behaviourtest.World) {
		w.Chat("lunch", "alice", "bob")
		w.ExpectInOrder("lunch", "thank you, alice", "here I am, in lunch")
		long := strings.Repeat("x", 2000) // more than is copied to members
		w.SayIn("lunch", "bob", long)
		w.SayIn("lunch", "alice", "hello")
		w.Say("bob", "hello")
		w.ExpectInOrder("lunch", "bob says "+long, "alice says hello")
		w.Expect("bob: alone")
		w.SayIn("lunch", "bob", "go")
		w.SayIn("lunch", "bob", "is it away?")
		w.Expect("lunch: bye", "alice: no more of lunch")
		if n := w.Members("lunch"); n != 2 {
			t.Errorf("%d members", n)
		}
		w.Chat("spam", "mallory")
		w.Chat("dinner", "alice")
		w.Remove("dinner", "alice", behaviourtest.Self)
		w.SayIn("dinner", "alice", "hello")
		w.ExpectInOrder("dinner", "thank you, alice", "here I am, in dinner")
		w.Expect("alice: no more of spam", "alice: no more of dinner")
	})
}

// A chat that all people have left, the behaviour leaves too: else chats without
// people would be all that it is in one day.
func TestNoBehaviourStaysAlone(t *testing.T) {
	behaviourtest.Crashes(t, behaviour.New("member", member{}), func(w *behaviourtest.World) {
		w.Chat("lunch", "alice", "bob")
		w.Forget()
		w.Leave("lunch", "alice")
		w.SayIn("lunch", "bob", "where is everybody?")
		w.Expect("lunch: bob says where is everybody?")
		w.Leave("lunch", "bob")
		w.Expect("alice: no more of lunch")
		if n := w.Members("lunch"); n != 0 {
			t.Errorf("%d members", n)
		}
	})
}

// What is none of a chat's names is the handler's mistake.
func TestChatsThatAreNone(t *testing.T) {
	for _, name := range []string{"", "alice", "C1", "C\xff" + strings.Repeat("0", 31), strings.Repeat("C", 4000)} {
		behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, _ behaviour.Event) error {
			c.Join(name)
			return nil
		}), func(w *behaviourtest.World) {
			w.Say("alice", "hello")
			if w.Count(behaviour.PassedOver) != 1 {
				t.Errorf("%q was joined", name)
			}
		})
	}
	behaviourtest.Run(t, kind(func(c *behaviour.Context, _ *wrapperspb.Int64Value, _ behaviour.Event) error {
		for _, chat := range []string{behaviourtest.ChatID("none"), behaviourtest.ChatID("other")} {
			c.Send(chat, "hello")
			c.Join(chat)
			c.Leave(chat)
		}
		return nil
	}), func(w *behaviourtest.World) {
		w.Say("alice", "hello")
		w.Expect()
		if w.Count(behaviour.Handled) != 1 {
			t.Error("to do something in a chat that there is not is no mistake")
		}
	})
}
