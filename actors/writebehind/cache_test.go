package writebehind

import (
	"context"
	"errors"
	"testing"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// haltingCache takes no writes.
type haltingCache struct{ *memory.Cache }

func (haltingCache) Write(context.Context, uint32, persistence.CacheMark, persistence.Position, []persistence.MailboxWrite) (persistence.CacheMark, error) {
	return persistence.CacheMark{}, errors.New("halted")
}

func at(offset int64) persistence.Position {
	return persistence.Position{Generation: 1, Offset: offset}
}

// A filling may be left, or read, between any two of its steps: a mailbox that
// was loaded and changed since counts only when the change is in its copy too.
func TestANewFillingHasNoCopyThatIsBehindIt(t *testing.T) {
	ctx, cache := t.Context(), memory.NewCache()
	lane := cacheLane{writer: &writer{Options: Options{Lag: new(Lag)}}}
	lane.opened(&Opened{Checkpoint: at(3), End: at(4)})
	lane.fills = map[string]*persistence.Mailbox{"bob": {Position: at(3), State: []byte("old"), DedupComplete: true}}
	lane.pending.put(persistence.MailboxWrite{Mailbox: "bob", Position: at(5), State: []byte("new")})
	lane.through = at(6)
	f := lane.take()
	f.cache = haltingCache{cache}
	if _, err := f.write(ctx); err == nil {
		t.Fatal("written to a cache that takes nothing")
	}
	for _, test := range []struct {
		notBelow, want persistence.Position
	}{{at(3), at(3)}, {at(5), persistence.Position{}}, {at(6), persistence.Position{}}} {
		var got persistence.Position
		if m, err := cache.Load(ctx, 0, "bob", 100, test.notBelow); err == nil {
			got = m.Position
		}
		if got != test.want {
			t.Errorf("loaded at %v by what reaches up to %v, want %v", got, test.notBelow, test.want)
		}
	}
	f.cache = cache
	if mark, err := f.write(ctx); err != nil || mark.Watermark != at(6) {
		t.Errorf("mark %+v, %v", mark, err)
	}
	if m, err := cache.Load(ctx, 0, "bob", 100, at(6)); err != nil || m.Position != at(5) {
		t.Errorf("loaded %+v, %v", m, err)
	}
}

// What is found in the cache is gone on with only where it and the journal are
// of one history.
func TestAFillingIsGoneOnWithInTheSameJournalOnly(t *testing.T) {
	next := func(generation uint32, offset int64) persistence.Position {
		return persistence.Position{Generation: generation, Offset: offset}
	}
	for _, test := range []struct {
		name         string
		opened       Opened
		skipped      persistence.Position
		watermark    persistence.Position
		isGoneOnWith bool
	}{
		{"behind the checkpoint", Opened{Checkpoint: at(5), End: at(9)}, persistence.Position{}, at(4), false},
		{"at the checkpoint", Opened{Checkpoint: at(5), End: at(9)}, persistence.Position{}, at(5), true},
		{"at the end of the journal", Opened{Checkpoint: at(5), End: at(9)}, persistence.Position{}, at(8), true},
		{"beyond the end of the journal", Opened{Checkpoint: at(5), End: at(9)}, persistence.Position{}, at(9), false},
		{"in a new generation", Opened{Checkpoint: at(5), End: next(2, 9)}, persistence.Position{}, at(7), false},
		{"behind what is not put again", Opened{Checkpoint: at(5), End: at(9)}, at(7), at(6), false},
		{"with all that is not put again", Opened{Checkpoint: at(5), End: at(9)}, at(7), at(7), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := memory.NewCache()
			found, err := cache.Begin(t.Context(), 0, test.watermark)
			if err != nil {
				t.Fatal(err)
			}
			lane := cacheLane{writer: &writer{Options: Options{Lag: new(Lag)}}}
			lane.opened(&test.opened)
			lane.skip(test.skipped)
			f := lane.take()
			f.cache = cache
			mark, err := f.write(t.Context())
			if err != nil || (mark.Fill == found.Fill) != test.isGoneOnWith {
				t.Errorf("from %+v to %+v, %v", found, mark, err)
			}
		})
	}
}

func TestStepsAreBounded(t *testing.T) {
	const writes, size = 100, 1 << 18
	all := make([]persistence.MailboxWrite, writes)
	for i := range all {
		all[i].Rows = []persistence.Row{{Revision: 1, Data: make([]byte, size)}}
	}
	for rest := all; len(rest) > 0; {
		n := step(rest)
		if n == 0 || n*size > cacheBytes {
			t.Fatalf("a step of %d bytes", n*size)
		}
		rest = rest[n:]
	}
	if all[0].Rows[0].Data = make([]byte, 2*cacheBytes); step(all) != 1 {
		t.Error("one that is too large does not go alone")
	}
}

// damagedCache has something in it that is not what it was given, until a new
// filling begins.
type damagedCache struct {
	*memory.Cache
	mark, copies bool // what is damaged
}

func (c *damagedCache) Mark(ctx context.Context, shard uint32) (persistence.CacheMark, error) {
	if c.mark {
		return persistence.CacheMark{}, persistence.ErrDamaged
	}
	return c.Cache.Mark(ctx, shard)
}

func (c *damagedCache) Write(ctx context.Context, shard uint32, from persistence.CacheMark, watermark persistence.Position, mailboxes []persistence.MailboxWrite) (persistence.CacheMark, error) {
	if c.copies {
		return persistence.CacheMark{}, persistence.ErrDamaged
	}
	return c.Cache.Write(ctx, shard, from, watermark, mailboxes)
}

func (c *damagedCache) Begin(ctx context.Context, shard uint32, watermark persistence.Position) (persistence.CacheMark, error) {
	c.mark, c.copies = false, false
	return c.Cache.Begin(ctx, shard, watermark)
}

// A cache in which something is damaged is filled anew at once, whether what was
// found is gone on with or what the lane left.
func TestADamagedFillingIsReplaced(t *testing.T) {
	for name, damage := range map[string]func(*damagedCache){
		"its mark": func(c *damagedCache) { c.mark = true },
		"a copy":   func(c *damagedCache) { c.copies = true },
	} {
		for _, state := range []cacheState{adopting, following} {
			c := &damagedCache{Cache: memory.NewCache()}
			mark, err := c.Begin(t.Context(), 0, at(3))
			if err != nil {
				t.Fatal(err)
			}
			damage(c)
			f := filling{
				cache: c, state: state, mark: mark, floor: at(3), since: at(3), end: at(4), through: at(5),
				writes: []persistence.MailboxWrite{{Mailbox: "bob", Position: at(5), State: []byte("new")}},
			}
			wrote, err := f.write(t.Context())
			if err != nil || wrote.Watermark != at(5) {
				t.Errorf("%s, %d: %+v, %v", name, state, wrote, err)
			}
			if left := c.copies || c.mark && state == adopting; left {
				t.Errorf("%s, %d: no new filling was begun", name, state)
			}
		}
	}
}
