package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/persistence"
)

// Target is what is imported into. No server runs on it.
type Target struct {
	Journal persistence.Journal
	Store   persistence.Repairer
	Keys    persistence.KeyAdopter
	// Cache is nil where there is none.
	Cache  persistence.Cache
	Shards int
	// ShardOf returns the shard of a mailbox.
	ShardOf func(mailbox string) uint32
	// Writers is how many batches are written at a time; 0 means 8.
	Writers int
}

func (t *Target) writers() int { return cmp.Or(t.Writers, 8) }

// has reports whether the target has a mailbox in just this state. Errors:
// ErrNotEmpty: in another.
func (t *Target) has(ctx context.Context, shard uint32, mailbox string, at persistence.Position, state []byte) (bool, error) {
	stored, err := t.Store.Load(ctx, shard, mailbox, 0)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case stored.Position != at || !bytes.Equal(stored.State, state):
		return false, fmt.Errorf("mailbox %q: %w", mailbox, ErrNotEmpty)
	default:
		return true, nil
	}
}

// ErrNotEmpty says that the target has a mailbox already, and another than that
// of the file.
var ErrNotEmpty = errors.New("it exists already, and is another")

// plan is what a file asks of its target.
type plan struct {
	header  *Header
	secrets map[string][]byte
	total   Counts
	shards  map[uint32]*Shard
	// above has, by shard, the highest generation in the file: new records must
	// lie above it.
	above map[uint32]uint32
}

// verify reads a file to its end.
func verify(file io.Reader, target *Target) (*plan, error) {
	p := &plan{secrets: map[string][]byte{}, shards: map[uint32]*Shard{}, above: map[uint32]uint32{}}
	var shard *Shard
	var current *Mailbox
	var counted Counts
	trailer, err := read(file, func(f *Frame) error {
		switch kind := f.GetKind().(type) {
		case *Frame_Header:
			p.header = kind.Header
			return p.checkHeader(target)
		case *Frame_Secret:
			p.secrets[kind.Secret.GetName()] = kind.Secret.GetContent()
		case *Frame_Shard:
			shard, current = kind.Shard, nil
			if shard.GetId() >= p.header.GetShards() || p.shards[shard.GetId()] != nil {
				return fmt.Errorf("%w: shard %d is twice in it, or one too many", ErrFile, shard.GetId())
			}
			p.shards[shard.GetId()] = shard
			p.raise(shard.GetId(), shard.GetCheckpoint(), shard.GetHighest())
		case *Frame_Mailbox:
			current = kind.Mailbox
			if shard == nil || target.ShardOf(current.GetName()) != shard.GetId() {
				return fmt.Errorf("%w: mailbox %q lies in another shard than here", ErrFile, current.GetName())
			}
			if n := len(current.GetKey()); n != 0 && n != len(persistence.Key{}) {
				return fmt.Errorf("%w: a key of %d bytes", ErrFile, n)
			}
			p.raise(shard.GetId(), current.GetPosition())
			counted.add(current, nil)
		case *Frame_Part:
			if current == nil {
				return fmt.Errorf("%w: a part of no mailbox", ErrFile)
			}
			for _, source := range kind.Part.GetSources() {
				p.raise(target.ShardOf(source.GetMailbox()), source.GetPosition())
			}
			counted.add(nil, kind.Part)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.total = Counts{trailer.GetMailboxes(), trailer.GetRows(), trailer.GetDedup(), trailer.GetSources(), trailer.GetStateParts()}
	if p.total != counted {
		return nil, fmt.Errorf("%w: it has %+v, and says %+v", ErrFile, counted, p.total)
	}
	return p, nil
}

// errFits ends the reading of a file behind its header.
var errFits = errors.New("the header fits")

// Fits returns an error when a file is no export, or one that does not go into a
// store with so many shards. It reads the beginning of the file, and goes back.
func Fits(file io.ReadSeeker, shards int) error {
	_, err := read(file, func(f *Frame) error {
		p := plan{header: f.GetHeader()} // read sees to it that this comes first
		return cmp.Or(p.checkHeader(&Target{Shards: shards}), errFits)
	})
	if !errors.Is(err, errFits) {
		return err
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

func (p *plan) checkHeader(target *Target) error {
	switch h := p.header; {
	case h.GetVersion() != fileVersion:
		return fmt.Errorf("%w: version %d, and this program reads %d", ErrFile, h.GetVersion(), fileVersion)
	case h.GetApplyVersion() > mailbox.ApplyVersion:
		return fmt.Errorf("%w: its states are of version %d, and this program knows %d: use a newer one", ErrFile, h.GetApplyVersion(), mailbox.ApplyVersion)
	case h.GetShards() != uint32(target.Shards):
		return fmt.Errorf("the file is of %d shards, and the target has %d: positions are of a shard's journal; make the target with data.shards: %d", h.GetShards(), target.Shards, h.GetShards())
	default:
		return nil
	}
}

func (p *plan) raise(shard uint32, positions ...*Position) {
	for _, position := range positions {
		p.above[shard] = max(p.above[shard], position.GetGeneration())
	}
}

// Import writes what is in a file to a target. It reads the file to its end
// first: nothing is written before it was found to be whole, and its mailboxes
// absent. It starts a new generation of the
// journal of each shard whose positions, or sources, are in the file. One that
// broke off may be made again. It returns how much was in the file, and the
// server's secrets. Errors: ErrFile, ErrNotEmpty, ErrNotStopped.
func Import(ctx context.Context, target Target, file io.ReadSeeker, progress func(Counts)) (Counts, map[string][]byte, error) {
	p, err := verify(file, &target)
	if err != nil {
		return Counts{}, nil, err
	}
	for shard := range p.shards {
		if _, err := stopped(ctx, target.Journal, target.Store, shard); err != nil {
			return Counts{}, nil, fmt.Errorf("target: shard %d: %w", shard, err)
		}
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Counts{}, nil, err
	}
	if err := refuseOthers(ctx, &target, file); err != nil {
		return Counts{}, nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Counts{}, nil, err
	}
	for shard, generation := range p.above {
		if err := startAbove(ctx, target.Journal, shard, generation); err != nil {
			return Counts{}, nil, fmt.Errorf("shard %d: start generation: %w", shard, err)
		}
	}
	im := newImporter(ctx, &target, progress)
	_, err = read(file, im.take)
	if err = errors.Join(err, im.finish()); err != nil {
		return Counts{}, nil, err
	}
	return p.total, p.secrets, p.settle(ctx, &target)
}

// refuseOthers returns an error when the target has a mailbox of the file in
// another state: then nothing is imported.
func refuseOthers(ctx context.Context, target *Target, file io.Reader) error {
	var shard uint32
	var looks sync.WaitGroup
	free := make(chan struct{}, target.writers())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_, err := read(file, func(f *Frame) error {
		switch kind := f.GetKind().(type) {
		case *Frame_Shard:
			shard = kind.Shard.GetId()
		case *Frame_Mailbox:
			id, m := shard, kind.Mailbox
			free <- struct{}{}
			looks.Go(func() {
				defer func() { <-free }()
				if _, err := target.has(ctx, id, m.GetName(), m.GetPosition().position(), m.GetState()); err != nil {
					cancel(err)
				}
			})
		}
		return context.Cause(ctx)
	})
	looks.Wait()
	return cmp.Or(context.Cause(ctx), err)
}

// startAbove raises the generation of a shard's journal above one.
func startAbove(ctx context.Context, journal persistence.Journal, shard, generation uint32) error {
	for {
		bounds, err := journal.Bounds(ctx, shard)
		if err != nil || bounds.Generation > generation {
			return err
		}
		if err := journal.StartGeneration(ctx, shard); err != nil {
			return err
		}
	}
}

// settle writes the marks of whole shards, makes all durable, and has caches
// forget what they had.
func (p *plan) settle(ctx context.Context, target *Target) error {
	for id, shard := range p.shards {
		batch := persistence.Batch{Highest: shard.GetHighest().position()}
		if p.header.GetWholeShards() {
			batch.Checkpoint = shard.GetCheckpoint().position()
		}
		if err := target.Store.Write(ctx, id, batch); err != nil {
			return err
		}
	}
	if err := target.Store.Sync(ctx); err != nil {
		return err
	}
	if target.Cache == nil {
		return nil
	}
	for id := range p.shards {
		marks, err := target.Store.Marks(ctx, id)
		if err != nil {
			return err
		}
		if _, err := target.Cache.Begin(ctx, id, marks.Checkpoint); err != nil {
			return fmt.Errorf("cache: %w: what it has is of before", err)
		}
	}
	return nil
}

const (
	batchMailboxes = 250
	batchBytes     = 1 << 20
	// largeRows and largeBytes end the gathering of a mailbox: what is more is
	// written ahead of its state.
	largeRows  = 4000
	largeBytes = 2 << 20
)

// importer writes mailboxes in batches, several at a time.
type importer struct {
	ctx      context.Context //nolint:containedctx // of one import
	cancel   context.CancelCauseFunc
	target   *Target
	progress func(Counts)
	jobs     chan job
	workers  sync.WaitGroup

	shard   *Shard
	batch   job
	current *incoming

	mu   sync.Mutex // guards the following
	done Counts
}

// job is a batch of one shard.
type job struct {
	shard     uint32
	mailboxes []*incoming
	bytes     int
}

// incoming is a mailbox as it comes.
type incoming struct {
	write   persistence.MailboxWrite
	key     []byte
	bytes   int
	ahead   bool // some of it was written
	present bool // the target has it already
	counts  Counts
}

func newImporter(ctx context.Context, target *Target, progress func(Counts)) *importer {
	im := &importer{target: target, progress: progress, jobs: make(chan job)}
	im.ctx, im.cancel = context.WithCancelCause(ctx)
	for range target.writers() {
		im.workers.Go(func() {
			for j := range im.jobs {
				if err := im.write(&j); err != nil {
					im.cancel(err)
				}
			}
		})
	}
	return im
}

// take takes the next frame.
func (im *importer) take(f *Frame) error {
	switch kind := f.GetKind().(type) {
	case *Frame_Shard:
		im.endMailbox()
		im.send()
		im.shard = kind.Shard
	case *Frame_Mailbox:
		im.endMailbox()
		m := kind.Mailbox
		im.current = &incoming{key: m.GetKey(), bytes: len(m.GetState()), write: persistence.MailboxWrite{
			Mailbox: m.GetName(), Position: m.GetPosition().position(), State: m.GetState(), First: m.GetFirst(),
		}}
		im.current.counts.add(m, nil)
	case *Frame_Part:
		if err := im.current.add(kind.Part); err != nil {
			return err
		}
		if len(im.current.write.Rows) > largeRows || im.current.bytes > largeBytes {
			return im.writeAhead()
		}
	}
	return context.Cause(im.ctx)
}

func (in *incoming) add(p *Part) error {
	for _, source := range p.GetSources() {
		in.write.Sources = append(in.write.Sources, persistence.Source{Mailbox: source.GetMailbox(), Position: source.GetPosition().position()})
		in.bytes += len(source.GetMailbox()) + 16
	}
	for _, part := range p.GetStateParts() {
		in.write.Parts = append(in.write.Parts, persistence.Part{Key: string(part.GetKey()), Position: in.write.Position, Data: part.GetData()})
		in.bytes += len(part.GetKey()) + len(part.GetData())
	}
	for _, dedup := range p.GetDedup() {
		entry, err := dedup.entry()
		if err != nil {
			return err
		}
		in.write.Dedup = append(in.write.Dedup, entry)
		in.bytes += 64
	}
	for _, row := range p.GetRows() {
		in.write.Rows = append(in.write.Rows, persistence.Row{Revision: row.GetRevision(), Peer: row.GetPeer(), Data: row.GetData()})
		in.bytes += len(row.GetData())
	}
	in.counts.add(nil, p)
	return nil
}

// endMailbox puts the mailbox that has come into the batch.
func (im *importer) endMailbox() {
	if im.current == nil {
		return
	}
	im.batch.shard = im.shard.GetId()
	im.batch.mailboxes = append(im.batch.mailboxes, im.current)
	im.batch.bytes += im.current.bytes
	im.current = nil
	if len(im.batch.mailboxes) >= batchMailboxes || im.batch.bytes >= batchBytes {
		im.send()
	}
}

func (im *importer) send() {
	if len(im.batch.mailboxes) == 0 {
		return
	}
	select {
	case im.jobs <- im.batch:
	case <-im.ctx.Done():
	}
	im.batch = job{}
}

// finish waits for all that is on its way.
func (im *importer) finish() error {
	if context.Cause(im.ctx) == nil {
		im.endMailbox()
		im.send()
	}
	close(im.jobs)
	im.workers.Wait()
	err := context.Cause(im.ctx)
	im.cancel(nil)
	return err
}

// writeAhead writes rows and dedup entries of a large mailbox. Nobody sees them
// before its state.
func (im *importer) writeAhead() error {
	in := im.current
	if !in.ahead {
		if err := im.prepare(im.shard.GetId(), []*incoming{in}); err != nil {
			return err
		}
		in.ahead = true
	}
	if !in.present {
		err := im.target.Store.Repair(im.ctx, im.shard.GetId(), persistence.Repair{
			Mailbox: in.write.Mailbox, Through: in.write.Position, Rows: in.write.Rows, Dedup: in.write.Dedup,
		})
		if err != nil {
			return err
		}
	}
	in.write.Rows, in.write.Dedup, in.bytes = nil, nil, 0
	return nil
}

// prepare refuses mailboxes that are there and others, and gives the rest their
// keys, which are to be durable first.
func (im *importer) prepare(shard uint32, mailboxes []*incoming) error {
	var names []string
	var keys []persistence.Key
	for _, in := range mailboxes {
		if in.ahead {
			continue
		}
		var err error
		if in.present, err = im.target.has(im.ctx, shard, in.write.Mailbox, in.write.Position, in.write.State); err != nil {
			return err
		}
		if len(in.key) > 0 {
			names, keys = append(names, in.write.Mailbox), append(keys, persistence.Key(in.key))
		}
	}
	adopted, err := im.target.Keys.Adopt(im.ctx, names, keys)
	if err != nil {
		return err
	}
	for i := range names {
		if adopted[i] != keys[i] {
			return fmt.Errorf("the key of mailbox %q: %w", names[i], ErrNotEmpty)
		}
	}
	return nil
}

// write writes a batch. It runs on a worker.
func (im *importer) write(j *job) error {
	if err := im.prepare(j.shard, j.mailboxes); err != nil {
		return err
	}
	batch := persistence.Batch{}
	var written Counts
	for _, in := range j.mailboxes {
		written = written.plus(in.counts)
		if in.present {
			continue
		}
		if batch.Highest.Less(in.write.Position) {
			batch.Highest = in.write.Position
		}
		batch.Mailboxes = append(batch.Mailboxes, in.write)
	}
	if err := im.target.Store.Write(im.ctx, j.shard, batch); err != nil {
		return err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.done = im.done.plus(written)
	if im.progress != nil {
		im.progress(im.done)
	}
	return nil
}
