package link_test

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/link"
	"github.com/tegami-im/tegami/actors/link/linktest"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// shards is how many the clusters of these tests have.
const shards = 4

// side is a node with a hub, and with one actor in the place of all its shards.
type side struct {
	t      *testing.T
	hub    *link.Hub
	system *actor.ActorSystem
	self   cluster.Member
	end    *linktest.Node
	// got has what the shards were asked; owns says whether this node has any.
	got  chan any
	owns bool
}

func newSide(t *testing.T, network *linktest.Network, name string, role cluster.Role, shards int) *side {
	t.Helper()
	s := &side{
		t: t, got: make(chan any, 100), owns: role == cluster.RoleTalk, end: network.Node(name),
		self: cluster.Member{ID: name + ".1", Name: name, Address: name, Role: role, State: cluster.StateActive, Weight: 1},
		system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
			return slog.New(slog.DiscardHandler)
		})),
	}
	dispatcher, watchdog := supervision.NewDispatcher(4), supervision.NewWatchdog(slog.New(slog.DiscardHandler))
	workers := supervision.NewWorkers(2, 100)
	owner := s.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *shard.Command, *shard.FollowUps, *shard.Fetch, *shard.Unsubscribe, *shard.Inspect, *shard.History:
			s.got <- m
		}
	}))
	var err error
	s.hub, err = link.NewHub(link.Options{
		Self: s.self, Shards: shards, System: s.system, Network: s.end, Keys: memory.NewKeys(), Workers: workers,
		Dispatcher: dispatcher, Watchdog: watchdog, Logger: slog.New(slog.DiscardHandler),
		Local: func(uint32) *actor.PID {
			if s.owns {
				return owner
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.hub.Close(), s.system.Root.StopFuture(owner).Wait()); err != nil {
			t.Error(err)
		}
		workers.Close()
		watchdog.Close()
		s.system.Shutdown()
		dispatcher.Stop()
		s.end.Close()
		// The library watches for a second whether there are many dead letters.
		<-time.After(2 * time.Second)
	})
	return s
}

// ask sends the peer of another node what an actor asks.
func (s *side) ask(other *side, message any) { s.system.Root.Send(s.hub.Peer(other.self), message) }

// asked waits for what the shards of a node are asked.
func asked[M any](s *side) M {
	s.t.Helper()
	select {
	case got := <-s.got:
		m, ok := got.(M)
		if !ok {
			s.t.Fatalf("the shard was asked %T", got)
		}
		return m
	case <-time.After(time.Minute):
		s.t.Fatal("the shard was asked nothing")
		panic("not reached")
	}
}

// subscriber takes what polls are answered.
func (s *side) subscriber() (*actor.PID, chan *shard.Fetched) {
	answers := make(chan *shard.Fetched, 10)
	pid := s.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*shard.Fetched); ok {
			answers <- m
		}
	}))
	s.t.Cleanup(func() { _ = s.system.Root.StopFuture(pid).Wait() })
	return pid, answers
}

type answer struct {
	mailbox.Answer
	refused *refusal.Refusal
}

func someRecord() *record.Record {
	return &record.Record{Id: []byte{1}, Mailbox: "bob", Kind: &record.Record_SignOut{SignOut: &record.SignOut{}}}
}

func command(answers chan answer) *shard.Command {
	return &shard.Command{
		Record:   someRecord(),
		Deadline: time.Now().Add(10 * time.Second),
		Answer:   func(a mailbox.Answer, refused *refusal.Refusal) { answers <- answer{a, refused} },
	}
}

// pair has a gateway and a talk node in a bubble of time.
func pair(t *testing.T, test func(t *testing.T, network *linktest.Network, gateway, owner *side)) {
	synctest.Test(t, func(t *testing.T) {
		network := new(linktest.Network)
		test(t, network, newSide(t, network, "gateway", cluster.RoleGateway, shards), newSide(t, network, "talk", cluster.RoleTalk, shards))
	})
}

func TestWhatIsAskedArrivesAndIsAnswered(t *testing.T) {
	pair(t, func(t *testing.T, _ *linktest.Network, gateway, owner *side) {
		answers := make(chan answer, 1)
		gateway.ask(owner, command(answers))
		got := asked[*shard.Command](owner)
		if got.Record.GetMailbox() != "bob" || time.Until(got.Deadline) > 10*time.Second {
			t.Errorf("the shard was asked %+v", got)
		}
		got.Answer(mailbox.Answer{Revision: 7, Time: 5}, nil)
		if a := <-answers; a.Revision != 7 || a.Time != 5 || a.refused != nil {
			t.Errorf("the answer is %+v", a)
		}

		subscriber, pages := gateway.subscriber()
		session := talk.Session{User: "bob", Device: "phone", Epoch: 3}
		gateway.ask(owner, &shard.Fetch{Session: session, After: 6, Limit: 10, Hold: true, First: true, Subscriber: subscriber, Token: 99})
		fetch := asked[*shard.Fetch](owner)
		if fetch.Session != session || fetch.After != 6 || fetch.Limit != 10 || !fetch.Hold || !fetch.First || fetch.Token != 99 {
			t.Errorf("the shard was asked %+v", fetch)
		}
		owner.system.Root.Send(fetch.Subscriber, &shard.Fetched{Token: 99, Page: talk.Page{
			Operations: [][]byte{{1 << 3, 7}}, Revision: 7, Reason: talk.Operations,
		}})
		if page := <-pages; page.Token != 99 || page.Page.Revision != 7 || len(page.Page.Operations) != 1 || page.Refusal != nil {
			t.Errorf("the page is %+v", page)
		}
		gateway.ask(owner, &shard.Unsubscribe{Session: session, Token: 100})
		if got := asked[*shard.Unsubscribe](owner); got.Session != session || got.Token != 100 {
			t.Errorf("the shard was asked %+v", got)
		}

		appended := make(chan struct{})
		gateway.ask(owner, &shard.FollowUps{
			Source: "shard-1", Sequence: 4, Records: []*record.Record{someRecord(), someRecord()},
			Appended: func() { close(appended) }, Lost: func() { t.Error("the follow-ups were lost") },
		})
		batch := asked[*shard.FollowUps](owner)
		if batch.Source != "gateway.1/shard-1" || batch.Sequence != 4 || len(batch.Records) != 2 {
			t.Errorf("the shard was given %+v", batch)
		}
		batch.Appended()
		<-appended
	})
}

func TestANodeThatDoesNotOwnAShardIsNotReady(t *testing.T) {
	pair(t, func(t *testing.T, _ *linktest.Network, gateway, owner *side) {
		owner.owns = false
		answers := make(chan answer, 1)
		gateway.ask(owner, command(answers))
		if a := <-answers; a.refused == nil || a.refused.Reason != refusal.NotReady || a.refused.RetryAfter == 0 {
			t.Errorf("the answer is %+v", a)
		}
	})
}

// lossy loses frames one way while it is told to.
type lossy struct {
	mu    sync.Mutex
	loses map[string]bool // by sender
}

func (l *lossy) set(sender string, loses bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loses[sender] = loses
}

func (l *lossy) lose(from, _ string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loses[from]
}

// A frame is lost, either way. Within a second the gateway knows: the command's
// outcome is unknown, and the poll is fetched again.
func TestLostFramesAreNoticedWithinASecond(t *testing.T) {
	for _, loser := range []string{"gateway", "talk"} {
		t.Run("of the "+loser, func(t *testing.T) {
			pair(t, func(t *testing.T, network *linktest.Network, gateway, owner *side) {
				losses := &lossy{loses: map[string]bool{}}
				network.Lose(losses.lose)
				subscriber, pages := gateway.subscriber()
				answers := make(chan answer, 1)
				gateway.ask(owner, &shard.Fetch{
					Session: talk.Session{User: "bob", Device: "phone"}, Limit: 1, Hold: true, Subscriber: subscriber, Token: 1,
				})
				asked[*shard.Fetch](owner)
				synctest.Wait()
				losses.set(loser, true)
				gateway.ask(owner, command(answers))
				synctest.Wait()
				if loser == "talk" {
					asked[*shard.Command](owner).Answer(mailbox.Answer{Revision: 1}, nil)
					synctest.Wait()
				}
				losses.set(loser, false)
				began := time.Now()
				if a := <-answers; a.refused == nil || a.refused.Reason != refusal.OutcomeUnknown {
					t.Errorf("the answer is %+v", a)
				}
				if page := <-pages; !page.Reread {
					t.Errorf("the poll was answered %+v", page)
				}
				// The gateway's loss is noticed by the other, which says so with its
				// next frame.
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("noticed after %v", took)
				}
			})
		})
	}
}

func TestASilentNodeIsGivenUpAndHeardAgain(t *testing.T) {
	pair(t, func(t *testing.T, network *linktest.Network, gateway, owner *side) {
		losses := &lossy{loses: map[string]bool{}}
		network.Lose(losses.lose)
		answers := make(chan answer, 1)
		losses.set("talk", true)
		gateway.ask(owner, command(answers))
		began := time.Now()
		if a := <-answers; a.refused == nil || a.refused.Reason != refusal.OutcomeUnknown {
			t.Errorf("the answer is %+v", a)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("given up after %v", took)
		}
		gateway.ask(owner, command(answers))
		if a := <-answers; a.refused == nil || a.refused.Reason != refusal.NotReady {
			t.Errorf("while it is silent the answer is %+v", a)
		}
		asked[*shard.Command](owner)
		losses.set("talk", false)
		<-time.After(2 * time.Second)
		gateway.ask(owner, command(answers))
		asked[*shard.Command](owner).Answer(mailbox.Answer{Revision: 2}, nil)
		if a := <-answers; a.Revision != 2 {
			t.Errorf("when it is heard again the answer is %+v", a)
		}
	})
}

func TestAMemberThatLeavesIsGivenUpAtOnce(t *testing.T) {
	pair(t, func(t *testing.T, _ *linktest.Network, gateway, owner *side) {
		gateway.hub.Update(cluster.Snapshot{Members: []cluster.Member{owner.self}})
		answers := make(chan answer, 2)
		gateway.ask(owner, command(answers))
		asked[*shard.Command](owner)
		peer := gateway.hub.Peer(owner.self)
		gateway.hub.Update(cluster.Snapshot{})
		if a := <-answers; a.refused == nil || a.refused.Reason != refusal.OutcomeUnknown {
			t.Errorf("the answer is %+v", a)
		}
		gateway.system.Root.Send(peer, command(answers)) // by one who has not heard
		if a := <-answers; a.refused == nil || a.refused.Reason != refusal.NotReady {
			t.Errorf("one who comes late is answered %+v", a)
		}
	})
}

func TestNodesOfClustersWithOtherShardsDoNotMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(linktest.Network)
		gateway := newSide(t, network, "gateway", cluster.RoleGateway, shards)
		owner := newSide(t, network, "talk", cluster.RoleTalk, shards+1)
		answers := make(chan answer, 1)
		gateway.ask(owner, command(answers))
		if a := <-answers; a.refused == nil {
			t.Errorf("the answer is %+v", a)
		}
		select {
		case got := <-owner.got:
			t.Errorf("the shard was asked %T", got)
		default:
		}
	})
}

func TestKeysComeFromAnotherNode(t *testing.T) {
	pair(t, func(t *testing.T, _ *linktest.Network, gateway, owner *side) {
		type result struct {
			keys    int
			refused *refusal.Refusal
		}
		results := make(chan result, 1)
		ask := func(create bool) result {
			gateway.ask(owner, keysOf(create, func(n int, refused *refusal.Refusal) { results <- result{n, refused} }))
			return <-results
		}
		if got := ask(false); got.refused == nil || got.refused.Reason != refusal.UnknownRecipient {
			t.Errorf("keys that nobody made: %+v", got)
		}
		if got := ask(true); got.keys != 2 {
			t.Errorf("making keys: %+v, %v", got, got.refused)
		}
		if got := ask(false); got.keys != 2 {
			t.Errorf("keys that were made: %+v, %v", got, got.refused)
		}
	})
}

// Whatever a stranger sends, the node goes on.
func TestMalformedMessagesDoNoHarm(t *testing.T) {
	pair(t, func(t *testing.T, network *linktest.Network, gateway, owner *side) {
		stranger := network.Node("stranger")
		defer stranger.Close()
		tooNew := someRecord()
		tooNew.ApplyVersion = mailbox.ApplyVersion + 1
		kinds := []*wire.Message{
			{},
			{Kind: &wire.Message_Command{}},
			{Kind: &wire.Message_Command{Command: &wire.Command{Record: &record.Record{}}}},
			{Kind: &wire.Message_Command{Command: &wire.Command{Record: &record.Record{Mailbox: "bob"}}}},
			{Kind: &wire.Message_Command{Command: &wire.Command{Record: tooNew}}},
			{Kind: &wire.Message_CommandAnswer{CommandAnswer: &wire.CommandAnswer{Id: 1, MessageId: []byte{1}}}},
			{Kind: &wire.Message_FollowUps{FollowUps: &wire.FollowUps{}}},
			{Kind: &wire.Message_FollowUps{FollowUps: &wire.FollowUps{Shard: 77, Records: []*record.Record{{}, {Mailbox: "a"}}}}},
			{Kind: &wire.Message_FollowUps{FollowUps: &wire.FollowUps{Shard: cluster.ShardOf("bob", shards), Records: []*record.Record{tooNew}}}},
			{Kind: &wire.Message_FollowUpsAppended{}},
			{Kind: &wire.Message_Fetch{Fetch: &wire.Fetch{Session: &wire.Session{User: "bob"}, After: -1}}},
			{Kind: &wire.Message_Fetched{Fetched: &wire.Fetched{}}},
			{Kind: &wire.Message_Inspect{}},
			{Kind: &wire.Message_History{History: &wire.History{User: "bob", Limit: -1}}},
			{Kind: &wire.Message_Keys{}},
			{Kind: &wire.Message_Unsubscribe{}},
		}
		for _, from := range []string{"", "stranger", string(make([]byte, 1000))} {
			stranger.Send("talk", &wire.Frame{From: from, To: owner.self.ID, FromAddress: "stranger", Shards: shards, Run: 1, Number: 1 << 63, Messages: kinds})
		}
		synctest.Wait()
		if len(owner.got) > 0 {
			t.Errorf("the shard was asked %T", <-owner.got)
		}
		answers := make(chan answer, 1)
		gateway.ask(owner, command(answers))
		asked[*shard.Command](owner).Answer(mailbox.Answer{Revision: 1}, nil)
		if a := <-answers; a.Revision != 1 {
			t.Errorf("the answer is %+v", a)
		}
	})
}

func keysOf(create bool, answer func(int, *refusal.Refusal)) *link.Keys {
	return &link.Keys{Mailboxes: []string{"alice", "bob"}, Create: create, Answer: func(keys []persistence.Key, refused *refusal.Refusal) {
		answer(len(keys), refused)
	}}
}

// A node of a static membership returns under its id. What the run before had
// asked is not taken for the answer to what this one asks.
func TestAnswersToTheRunBeforeAreNotTaken(t *testing.T) {
	pair(t, func(t *testing.T, network *linktest.Network, gateway, owner *side) {
		before, now := make(chan answer, 1), make(chan answer, 1)
		gateway.ask(owner, command(before))
		late := asked[*shard.Command](owner)
		if err := gateway.hub.Close(); err != nil {
			t.Fatal(err)
		}
		again := newSide(t, network, "gateway", cluster.RoleGateway, shards)
		again.system.Root.Send(again.hub.Peer(owner.self), &shard.Unsubscribe{})
		<-time.After(3 * time.Second) // both ends know each other's runs
		again.ask(owner, command(now))
		fresh := asked[*shard.Command](owner)
		late.Answer(mailbox.Answer{Revision: 1}, nil)
		synctest.Wait()
		fresh.Answer(mailbox.Answer{Revision: 2}, nil)
		if a := <-now; a.refused != nil || a.Revision != 2 {
			t.Errorf("the answer is %+v", a)
		}
	})
}

// A node notices that others know of a newer membership, or that it hears nobody.
func TestANodeNoticesThatItIsOutdated(t *testing.T) {
	pair(t, func(t *testing.T, network *linktest.Network, gateway, owner *side) {
		know := func(s *side, revision uint64) {
			s.hub.Update(cluster.Snapshot{Revision: revision, Members: []cluster.Member{gateway.self, owner.self}})
		}
		expect := func(want bool, when string) {
			t.Helper()
			<-time.After(3 * time.Second)
			if got := owner.hub.Outdated(); got != want {
				t.Errorf("%s: %v", when, got)
			}
		}
		know(owner, 5)
		know(gateway, 5)
		expect(false, "all know the same")
		know(gateway, 6)
		expect(true, "the other knows more")
		know(owner, 7)
		expect(false, "the other knows less")
		network.Lose(func(string, string) bool { return true })
		expect(true, "nobody is heard")
	})
}
