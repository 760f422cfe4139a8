package shard

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// Retention says how long operations are kept; zero means for ever. What is
// let go is decided by a Trim record, as everything is, so that all owners
// agree on it. A mailbox is looked at when it is loaded and while it is in
// use: one that nobody uses keeps what it has.
type Retention struct {
	// Age is in log time.
	Age time.Duration
	// Operations is per mailbox. Up to a tenth more may be there, so that not
	// every message lets go of one.
	Operations int64
}

const (
	// ageInterval is how often a mailbox in use looks for operations that are
	// too old.
	ageInterval = time.Hour
	// ageBatch bounds how many rows one look reads.
	ageBatch = 1000
)

// trimmed: the Trim that the mailbox asked for was decided, or was refused a
// while ago.
type trimmed struct{ incarnation uint64 }

// retain asks for a Trim when the mailbox holds more than it is to keep.
func (b *mailboxActor) retain(ctx actor.Context) {
	if b.trimming || b.state == nil {
		return
	}
	kept := b.state.Head() - b.state.First() + 1
	if most := b.Retention.Operations; most > 0 && kept > most+most/10 {
		b.trim(ctx, b.state.Head()-most+1)
		return
	}
	if now := time.Now(); b.Retention.Age > 0 && now.Sub(b.aged) >= ageInterval {
		b.aged = now
		b.trimByAge(ctx, now.Add(-b.Retention.Age).UnixMilli())
	}
}

// trimByAge reads the oldest stored operations and trims those before a time.
func (b *mailboxActor) trimByAge(ctx actor.Context, before int64) {
	after, upTo := b.state.First()-1, b.storedRevision
	if after >= upTo {
		return
	}
	root, self, store, shardID, name, incarnation := ctx.ActorSystem().Root, ctx.Self(), b.Store, b.shardID, b.name, b.incarnation
	b.Workers.Page.Submit(func(ctx context.Context) { // when the pool is full, the next look is in an hour
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		defer cancel()
		rows, err := store.Operations(ctx, shardID, name, after, upTo, ageBatch, pageBytes)
		if err != nil {
			return
		}
		operations, err := record.DecodeOperations(dataOf(rows))
		if err != nil {
			return
		}
		first := after + 1
		for _, operation := range operations {
			if operation.GetTime() >= before {
				break
			}
			first = operation.GetRevision() + 1
		}
		if first > after+1 {
			root.Send(self, &trimDue{incarnation: incarnation, first: first})
		}
	})
}

// trimDue: the operations below a revision are too old.
type trimDue struct {
	incarnation uint64
	first       int64
}

// trim asks the shard to append a Trim.
func (b *mailboxActor) trim(ctx actor.Context, first int64) {
	b.trimming = true
	id := make([]byte, 16)
	_, _ = rand.Read(id) // crypto/rand never fails: it ends the program instead
	now := time.Now()
	root, self, done := ctx.ActorSystem().Root, ctx.Self(), &trimmed{b.incarnation}
	ctx.Send(b.shard, &Command{
		Record: &record.Record{
			Id: id, Mailbox: b.name, MintTime: now.UnixMilli(),
			DedupKey: id[:persistence.DedupKeySize], BodyHash: id[persistence.DedupKeySize:],
			Kind: &record.Record_Trim{Trim: &record.Trim{FirstRevision: first}},
		},
		Accepted: now,
		Deadline: now.Add(trimDeadline),
		Answer: func(_ mailbox.Answer, refused *refusal.Refusal) {
			if refused != nil { // the shard is busy, or not open
				time.AfterFunc(trimAgain, func() { root.Send(self, done) })
				return
			}
			root.Send(self, done)
		},
	})
}

const (
	trimDeadline = 5 * time.Second
	// trimAgain is how long a mailbox waits behind a Trim that was refused.
	trimAgain = time.Second
)
