// Package reapply applies records of the journal again, to mailboxes as the
// store has them: it brings to the store, or to whatever else is fed by what
// records do, what is no longer in memory.
package reapply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

const (
	// MaxRecords bounds one call of Apply. It must be below
	// mailbox.MaxDedupInMemory: a dedup entry that a state lets go of is looked
	// up in the store, where those of the call are not yet.
	MaxRecords = 2048
	// parallel is how many mailboxes are read at a time.
	parallel = 8
)

// Applied is a record and what it did.
type Applied struct {
	Position persistence.Position
	Record   *record.Record
	// Outcome is that of a record which the store does not have yet, and
	// Skipped for one that it has. Its FollowUps were sent when the record was
	// first applied. It is the zero value for a record of the shard itself.
	Outcome mailbox.Outcome
}

// Applier applies the records of one shard, call after call. It is not safe
// for concurrent use.
type Applier struct {
	store persistence.Store
	shard uint32
	// states are those that the last call used, so that a busy mailbox is read
	// once.
	states map[string]*mailbox.State
}

// New returns an Applier over the states that a store has of a shard.
func New(store persistence.Store, shard uint32) *Applier {
	return &Applier{store: store, shard: shard}
}

// Apply applies entries of the shard's journal in order, and returns what came
// of them in the same order. It stops early at MaxRecords, or where it would come
// to more than a number of mailboxes, at least 1. All that lies below the first entry
// must be in the store, and before the next call what this one did: the
// Applier goes on from there. After an error, of the store or of a record that
// does not decode, nothing was changed and the Applier is of no more use.
func (a *Applier) Apply(ctx context.Context, entries []persistence.Entry, mailboxes int) ([]Applied, error) {
	applied := make([]Applied, 0, min(len(entries), MaxRecords))
	parts := map[string]*part{}
	var order []*part
	for i := range entries {
		if i == MaxRecords {
			break
		}
		r, err := mailbox.DecodeRecord(entries[i].Data)
		if err != nil {
			return nil, fmt.Errorf("record at offset %d: %w", entries[i].Position.Offset, err)
		}
		name := r.GetMailbox()
		p := parts[name]
		if p == nil && name != "" {
			if len(order) == max(mailboxes, 1) {
				break
			}
			p = &part{name: name, state: a.states[name]}
			parts[name] = p
			order = append(order, p)
		}
		if p != nil {
			p.records = append(p.records, i)
		}
		applied = append(applied, Applied{Position: entries[i].Position, Record: r})
	}
	if err := a.each(ctx, order, func(ctx context.Context, p *part) error {
		return a.run(ctx, p, entries, applied)
	}); err != nil {
		return nil, err
	}
	a.states = make(map[string]*mailbox.State, len(order))
	for _, p := range order {
		a.states[p.name] = p.state
	}
	return applied, nil
}

// part is what one call does with one mailbox.
type part struct {
	name    string
	state   *mailbox.State // nil: to be loaded
	records []int
}

// each calls f for every part, a few at a time, until one fails.
func (a *Applier) each(ctx context.Context, parts []*part, f func(context.Context, *part) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(parallel, len(parts)) {
		group.Go(func() {
			for i := int(next.Add(1)); i <= len(parts) && ctx.Err() == nil; i = int(next.Add(1)) {
				if err := f(ctx, parts[i-1]); err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// run applies the records of one mailbox.
func (a *Applier) run(ctx context.Context, p *part, entries []persistence.Entry, applied []Applied) error {
	if p.state == nil {
		state, err := a.load(ctx, p.name)
		if err != nil {
			return err
		}
		p.state = state
	}
	for _, i := range p.records {
		in := mailbox.Input{Position: entries[i].Position, Time: entries[i].Time, Record: applied[i].Record}
		if notBefore, needed := p.state.LookUp(in.Record, in.Time); needed {
			var key [persistence.DedupKeySize]byte
			copy(key[:], in.Record.GetDedupKey())
			entry, found, err := a.store.Dedup(ctx, a.shard, p.name, key, notBefore)
			if err != nil {
				return err
			}
			if found {
				in.Dedup = &entry
			}
		}
		applied[i].Outcome = p.state.Apply(in)
	}
	return nil
}

func (a *Applier) load(ctx context.Context, name string) (*mailbox.State, error) {
	stored, err := a.store.Load(ctx, a.shard, name, mailbox.MaxDedupLoaded)
	if errors.Is(err, persistence.ErrNotFound) {
		return mailbox.New(name), nil
	}
	if err != nil {
		return nil, err
	}
	return mailbox.Decode(name, stored)
}
