package connection_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/connection"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
)

// gateway is a supervisor of connection actors, with actors in the place of two
// owners, one of which is asked.
type gateway struct {
	system     *actor.ActorSystem
	supervisor *actor.PID
	owner      atomic.Pointer[actor.PID]
	// asked has what the owners were asked, by owner.
	owners [2]*actor.PID
	asked  [2]chan any
	answer chan answer
}

type answer struct {
	page    talk.Page
	refused *refusal.Refusal
}

func test(t *testing.T, run func(t *testing.T, g *gateway)) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{
			answer: make(chan answer, 100),
			system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
				return slog.New(slog.DiscardHandler)
			})),
		}
		for i := range g.owners {
			g.asked[i] = make(chan any, 100)
			g.owners[i] = g.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
				switch m := ctx.Message().(type) {
				case *shard.Fetch, *shard.Unsubscribe:
					g.asked[i] <- m
				}
			}))
		}
		g.owner.Store(g.owners[0])
		dispatcher, watchdog := supervision.NewDispatcher(4), supervision.NewWatchdog(slog.New(slog.DiscardHandler))
		g.supervisor = g.system.Root.Spawn(connection.SupervisorProps(&connection.Environment{
			Route: func(string) *actor.PID { return g.owner.Load() }, Tokens: new(atomic.Uint64), Idle: time.Minute,
			Answered: func(talk.Reason) {}, Dispatcher: dispatcher, Watchdog: watchdog, Logger: slog.New(slog.DiscardHandler),
		}))
		run(t, g)
		for _, pid := range append(g.owners[:], g.supervisor) {
			if err := g.system.Root.StopFuture(pid).Wait(); err != nil {
				t.Error(err)
			}
		}
		watchdog.Close()
		g.system.Shutdown()
		dispatcher.Stop()
		<-time.After(time.Hour) // timers of polls that were given up, and the library's
	})
}

func (g *gateway) poll(id uint64) { g.pollOf("phone", id) }

func (g *gateway) pollOf(device string, id uint64) { g.pollFor(device, id, 100*time.Second) }

func (g *gateway) pollFor(device string, id uint64, timeout time.Duration) {
	g.system.Root.Send(g.supervisor, &connection.Start{ID: id, Poll: talk.Poll{
		Session: talk.Session{User: "bob", Device: device, Epoch: 1}, After: 7, Limit: 10, Timeout: timeout,
		Answer: func(page talk.Page, refused *refusal.Refusal) { g.answer <- answer{page, refused} },
	}})
}

// A subscription that is renewed is the same: nothing is kept for one before it.
func TestRenewalsAreOfTheSameSubscription(t *testing.T) {
	test(t, func(t *testing.T, g *gateway) {
		g.poll(1)
		first := (<-g.asked[0]).(*shard.Fetch)
		if first.After != 7 || !first.Hold {
			t.Errorf("asked %+v", first)
		}
		for range 3 {
			if again := (<-g.asked[0]).(*shard.Fetch); again.Token != first.Token {
				t.Errorf("renewed with token %d, held with %d", again.Token, first.Token)
			}
		}
		if got := <-g.answer; got.page.Reason != talk.Timeout || got.page.Revision != 7 {
			t.Errorf("answered %+v", got)
		}
		if end := (<-g.asked[0]).(*shard.Unsubscribe); end.Token != first.Token {
			t.Errorf("token %d was ended, held was %d", end.Token, first.Token)
		}
		g.poll(2)
		if next := (<-g.asked[0]).(*shard.Fetch); next.Token == first.Token {
			t.Error("two polls have the same token")
		}
	})
}

// The shard goes to another owner while the poll is held: it is asked there, and
// what the old owner says is not heard.
func TestAPollFollowsItsShard(t *testing.T) {
	test(t, func(t *testing.T, g *gateway) {
		g.poll(1)
		old := (<-g.asked[0]).(*shard.Fetch)
		g.owner.Store(g.owners[1])
		g.system.Root.Send(old.Subscriber, &shard.Fetched{Token: old.Token, Reread: true})
		if end := (<-g.asked[0]).(*shard.Unsubscribe); end.Token != old.Token {
			t.Errorf("token %d was ended, held was %d", end.Token, old.Token)
		}
		next := (<-g.asked[1]).(*shard.Fetch)
		g.system.Root.Send(old.Subscriber, &shard.Fetched{Token: old.Token, Refusal: refusal.Of(refusal.CursorAhead)})
		g.system.Root.Send(next.Subscriber, &shard.Fetched{Token: next.Token, Refusal: refusal.After(refusal.NotReady, time.Second)})
		if again := (<-g.asked[1]).(*shard.Fetch); again.Token != next.Token {
			t.Errorf("asked again with token %d, before with %d", again.Token, next.Token)
		}
		g.system.Root.Send(next.Subscriber, &shard.Fetched{Token: next.Token, Page: talk.Page{Revision: 8, Reason: talk.Operations}})
		if got := <-g.answer; got.page.Revision != 8 || got.refused != nil {
			t.Errorf("answered %+v", got)
		}
	})
}

// Whoever was asked has to know when nobody waits for the answer any more, also of a
// poll that is not held: a link keeps whom to answer.
func TestAPollThatIsGivenUpIsForgotten(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"held": 100 * time.Second, "not held": 0} {
		t.Run(name, func(t *testing.T) {
			test(t, func(t *testing.T, g *gateway) {
				g.pollFor("phone", 1, timeout)
				asked := (<-g.asked[0]).(*shard.Fetch)
				g.system.Root.Send(g.supervisor, &connection.Cancel{ID: 1, User: "bob", Device: "phone"})
				select {
				case m := <-g.asked[0]:
					if end, ok := m.(*shard.Unsubscribe); !ok || end.Token != asked.Token {
						t.Errorf("got %+v", m)
					}
				case <-time.After(time.Second):
					t.Error("it is not forgotten")
				}
			})
		})
	}
}

// While nobody has the shard, a poll asks often at first, and then less: thousands
// wait like it. It is never more than an eighth of the time late, nor a second.
func TestAPollAsksLessAndLess(t *testing.T) {
	test(t, func(t *testing.T, g *gateway) {
		g.poll(1)
		began := time.Now()
		var before time.Duration
		asked := 0
		for m := range g.asked[0] {
			fetch, ok := m.(*shard.Fetch)
			if !ok {
				break // its time is up
			}
			at := time.Since(began)
			if wait, most := at-before, max(before/6, 150*time.Millisecond); wait > min(most, 1300*time.Millisecond) {
				t.Errorf("asked at %v, and before at %v", at, before)
			}
			before = at
			asked++
			g.system.Root.Send(fetch.Subscriber, &shard.Fetched{Token: fetch.Token, Refusal: refusal.After(refusal.NotReady, 0)})
		}
		if asked > 200 {
			t.Errorf("asked %d times in 100 s", asked)
		}
	})
}

// A process that is to end sends its polls away one by one; what comes for them
// before that is still theirs, and a poll that comes now goes at once.
func TestDrainingSpreadsTheAnswers(t *testing.T) {
	test(t, func(t *testing.T, g *gateway) {
		const devices, over = 50, 10 * time.Second
		for i := range uint64(devices) {
			g.pollOf(fmt.Sprintf("phone%d", i), i)
		}
		var fetches []*shard.Fetch
		for range devices {
			fetches = append(fetches, (<-g.asked[0]).(*shard.Fetch))
		}
		began := time.Now()
		g.system.Root.Send(g.supervisor, &connection.Drain{Over: over})
		g.system.Root.Send(fetches[0].Subscriber, &shard.Fetched{Token: fetches[0].Token, Page: talk.Page{Revision: 8, Reason: talk.Operations}})
		moments := map[time.Duration]bool{}
		for range devices {
			got := <-g.answer
			moments[time.Since(began)] = true
			if got.refused != nil || got.page.Reason != talk.Draining && got.page.Reason != talk.Operations {
				t.Errorf("answered %+v", got)
			}
		}
		if last := time.Since(began); last > over || len(moments) < devices/2 {
			t.Errorf("answered at %d moments within %v", len(moments), last)
		}
		g.pollOf("late", devices)
		if got := <-g.answer; got.page.Reason != talk.Draining || got.page.Revision != 7 {
			t.Errorf("a poll that comes late was answered %+v", got)
		}
	})
}
