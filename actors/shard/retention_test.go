package shard

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// A shard that is busy, or not open yet, has the more to do the more often it
// is asked.
func TestTrimThatIsRefusedWaits(t *testing.T) {
	environment := &Environment{
		Limits:     DefaultLimits(),
		Retention:  Retention{Operations: 1},
		Dispatcher: actor.NewDefaultDispatcher(300),
		Observe:    Observer{Stage: func(Stage, time.Duration) {}},
		Logger:     slog.New(slog.DiscardHandler),
	}
	now := time.Now().UnixMilli()
	replayed := []applyRecord{{
		position: persistence.Position{Generation: 1},
		time:     now,
		record: &record.Record{
			Mailbox: "bob", MintTime: now, DedupKey: make([]byte, persistence.DedupKeySize), BodyHash: make([]byte, persistence.BodyHashSize),
			Kind: &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{}},
		},
	}}
	for i := range int64(3) {
		replayed = append(replayed, applyRecord{
			position: persistence.Position{Generation: 1, Offset: 1 + i},
			time:     now,
			record: &record.Record{Mailbox: "bob", Kind: &record.Record_SentCopy{SentCopy: &record.SentCopy{
				Source: "alice", SourceGeneration: 1, SourceOffset: i, MessageId: make([]byte, persistence.MessageIDSize),
			}}},
		})
	}
	var asked atomic.Int64
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return environment.Logger }))
	defer system.Shutdown()
	parent := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *actor.Started:
			bob := ctx.Spawn(mailboxProps(environment, 0, new(Status)))
			ctx.Send(bob, &begin{1})
			ctx.Send(bob, &loaded{incarnation: 1, state: mailbox.New("bob"), records: replayed})
		case *Command:
			asked.Add(1)
			m.refuse(refusal.Of(refusal.Busy))
		}
	}))
	<-time.After(trimAgain / 4)
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	<-time.After(trimAgain)
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times after a while", n)
	}
	if err := system.Root.StopFuture(parent).Wait(); err != nil {
		t.Error(err)
	}
}
