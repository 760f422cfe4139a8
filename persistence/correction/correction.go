// Package correction compares journal, store and cache, and mends what they
// disagree on.
//
// A server may run meanwhile. What is compared lies at or below the store's
// checkpoint, which is read first: all of that is in the store, and stays. A
// disagreement counts only when a second look at the mailbox finds it again.
// Nothing is changed but while the mailbox is held ([Options.Hold]), after a
// third look.
//
// One mailbox is looked at at a time, in a stream: memory holds the digests of
// its rows, and of the records of one shard that the journal still has, a
// million of them at a time.
package correction

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// Kind is a kind of disagreement.
type Kind string

// The kinds.
const (
	MissingRow     Kind = "missing row"
	ExtraRow       Kind = "extra row"
	DifferentRow   Kind = "different row"
	OutOfOrder     Kind = "out of order"
	SealedBody     Kind = "body that does not open"
	MissingKey     Kind = "missing key"
	MissingMarks   Kind = "missing marks"
	MissingState   Kind = "missing state"
	DamagedState   Kind = "damaged state"
	StateBehind    Kind = "state behind"
	StateAhead     Kind = "state ahead"
	MissingPlace   Kind = "missing place in a conversation"
	ExtraPlace     Kind = "extra place in a conversation"
	DifferentPlace Kind = "different place in a conversation"
	MissingDedup   Kind = "missing dedup entry"
	DifferentDedup Kind = "different dedup entry"
	MissingSource  Kind = "missing source"
	SourceBehind   Kind = "source behind"
	JournalBehind  Kind = "journal behind the store"
	CacheMark      Kind = "cache ahead of the journal"
	DamagedMark    Kind = "damaged mark in the cache"
	CacheState     Kind = "different state in the cache"
	CacheRow       Kind = "different row in the cache"
)

// Finding is one disagreement, or several of a kind that lie side by side.
type Finding struct {
	Kind    Kind   `json:"kind"`
	Shard   uint32 `json:"shard"`
	Mailbox string `json:"mailbox,omitempty"`
	// Revision is where it begins; 0 where it is about no row.
	Revision int64  `json:"revision,omitempty"`
	Count    int64  `json:"count"`
	Text     string `json:"text,omitempty"`
	Repaired bool   `json:"repaired,omitempty"`
	// Left says why it was not repaired, where that was tried.
	Left string `json:"left,omitempty"`
}

// same reports whether two looks found the same.
func (f *Finding) same(g *Finding) bool { return f.Kind == g.Kind && f.Revision == g.Revision }

// Keyring finds the keys of mailboxes: bodies are opened, and dedup entries made
// anew, with them.
type Keyring interface {
	Get(ctx context.Context, mailbox string) (persistence.Key, error)
}

// Hold runs repair while nobody else changes a mailbox. through is the position
// up to which all its records are in the store.
type Hold func(ctx context.Context, shard uint32, mailbox string, repair func(ctx context.Context, through persistence.Position) error) error

// Options say what is compared, and how. Journal, Store and Shards are
// required.
type Options struct {
	Journal persistence.Journal
	Store   persistence.Repairer
	// Cache is nil where there is none.
	Cache persistence.CacheRepairer
	// Keys is nil where bodies are not to be opened, nor dedup entries made anew.
	Keys Keyring
	// Shards is how many there are.
	Shards uint32
	// Since, unless zero, has only mailboxes looked at that have records since
	// then in the journal.
	Since time.Time
	// Rate is how many operations are read in a second; 0 means no limit.
	Rate float64
	// Hold, unless nil, has what is found repaired.
	Hold Hold
	// Found is told of every finding that counts, Progress of how far it came,
	// after each 1,000 mailboxes and each shard. Nil ones are left out.
	Found    func(Finding)
	Progress func(Progress)
	// WindowRecords bounds the records of a shard's journal that are held at a
	// time; 0 means a million.
	WindowRecords int
	// Now is the clock, to be compared with log time; nil means the system's.
	Now    func() time.Time
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.WindowRecords == 0 {
		o.WindowRecords = 1_000_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Progress tells how far a run came. A run that broke off goes on with Shard,
// from its start: what looked wrong in a shard is looked at again, and counted,
// once all of it was read.
type Progress struct {
	// Shard is the one under way: those below it, from the first of the run on,
	// are done.
	Shard uint32 `json:"shard"`
	// Done is what was found in these; the rest counts what is under way, too.
	Done       Report `json:"done"`
	Mailboxes  int64  `json:"mailboxes"`
	Operations int64  `json:"operations"`
	Found      int64  `json:"found"`
}

// Report is what a run came to.
type Report struct {
	Mailboxes  int64 `json:"mailboxes"`
	Operations int64 `json:"operations"`
	// Records are those of the journal that were compared.
	Records int64 `json:"records"`
	// Found and Repaired count by kind.
	Found    map[Kind]int64 `json:"found"`
	Repaired map[Kind]int64 `json:"repaired"`
	// Unfilled are the shards of which the cache has nothing: no damage.
	Unfilled int `json:"unfilled"`
	// CacheAway says why the cache was not compared; empty when it was.
	CacheAway string `json:"cache_away,omitempty"`
}

// Add adds what an earlier run came to.
func (r *Report) Add(earlier *Report) {
	r.Mailboxes += earlier.Mailboxes
	r.Operations += earlier.Operations
	r.Records += earlier.Records
	r.Unfilled += earlier.Unfilled
	r.CacheAway = cmp.Or(r.CacheAway, earlier.CacheAway)
	r.Found = sum(r.Found, earlier.Found)
	r.Repaired = sum(r.Repaired, earlier.Repaired)
}

// sum returns the counts of both.
func sum(a, b map[Kind]int64) map[Kind]int64 {
	total := map[Kind]int64{}
	for _, counts := range []map[Kind]int64{a, b} {
		for kind, n := range counts {
			total[kind] += n
		}
	}
	return total
}

// Total adds counts up.
func Total(counts map[Kind]int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}

// Run compares the shards from one up to, and not including, another, and
// returns what it found. It stops when ctx ends.
func Run(ctx context.Context, options Options, from, upTo uint32) (*Report, error) {
	options.setDefaults()
	if upTo > options.Shards {
		return nil, fmt.Errorf("shard %d: there are %d", upTo-1, options.Shards)
	}
	if from > upTo {
		return nil, fmt.Errorf("shards from %d up to %d: there are none", from, upTo)
	}
	r := newRun(&options)
	for shard := from; shard < upTo; shard++ {
		if err := r.compareShard(ctx, shard); err != nil {
			return r.report, fmt.Errorf("shard %d: %w", shard, err)
		}
	}
	return r.report, nil
}

// isDamage tells damage, which is a finding, from a store that is away.
func isDamage(err error) bool { return errors.Is(err, persistence.ErrDamaged) }
