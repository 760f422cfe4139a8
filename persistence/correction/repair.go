package correction

import (
	"context"
	"fmt"
	"slices"

	"github.com/tegami-im/tegami/persistence"
)

const (
	// rounds is how often a mailbox is looked at while it is held: what is mended
	// first shows what is wrong besides.
	rounds = 4
	// mendedAtOnce bounds the rows that one round puts or removes.
	mendedAtOnce = 10_000
)

// repair mends a mailbox while it is held, and notes in the findings what came
// of it.
func (r *run) repair(ctx context.Context, v *view, name string, findings []Finding) error {
	left := map[Kind]string{}
	var last []Finding
	err := r.Hold(ctx, v.shard, name, func(ctx context.Context, through persistence.Position) error {
		held := *v
		held.first = true
		if held.checkpoint.Less(through) {
			held.checkpoint = through
		}
		for round := range rounds {
			b, err := r.look(ctx, &held, name)
			if err != nil {
				return err
			}
			last = b.findings
			if len(last) == 0 || round == rounds-1 {
				return nil
			}
			m := mender{run: r, box: b, through: held.checkpoint, left: left}
			clear(left)
			if changed, err := m.mend(ctx); err != nil || !changed {
				return err
			}
		}
		return nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for i := range findings {
		f := &findings[i]
		switch {
		case err != nil:
			f.Left = err.Error()
		case slices.ContainsFunc(last, func(g Finding) bool { return f.same(&g) }):
			if f.Left = left[f.Kind]; f.Left == "" {
				f.Left = "there is more of it than is mended at a time: run it again"
			}
		default:
			f.Repaired = true
		}
	}
	return nil
}

// mender mends one mailbox by what one look at it found.
type mender struct {
	*run
	*box
	through persistence.Position
	left    map[Kind]string

	entries []entry // of the mailbox, that the journal still has
	copied  *persistence.Mailbox
	derived *derived // nil: the journal does not tell
	repair  persistence.Repair
}

// mend changes what can be, and reports whether that was anything.
func (m *mender) mend(ctx context.Context) (changed bool, err error) {
	m.repair = persistence.Repair{Mailbox: m.name, Through: m.through}
	if m.entries, err = readRecords(ctx, m.Journal, m.shard, m.name, m.through); err != nil {
		return false, err
	}
	if m.cache != nil {
		copied, err := m.cache.Load(ctx, m.shard, m.name, 1<<20, m.checkpoint)
		if err == nil {
			m.copied = copied
		}
	}
	if m.derived, err = m.derive(ctx); err != nil {
		return false, err
	}
	for _, step := range []func(context.Context) error{m.mendState, m.mendRows, m.mendBodies, m.mendPlaces, m.mendDedup, m.mendSources} {
		if err := step(ctx); err != nil {
			return false, err
		}
	}
	changed = m.repair.State != nil || len(m.repair.Rows)+len(m.repair.Remove)+len(m.repair.Places)+len(m.repair.Dedup)+len(m.repair.Sources)+len(m.repair.Parts) > 0
	if changed {
		if err := m.Store.Repair(ctx, m.shard, m.repair); err != nil {
			return false, err
		}
		if err := m.Store.Sync(ctx); err != nil {
			return false, err
		}
	}
	if m.cache == nil {
		return changed, nil
	}
	// The cache's copy is of before, if it is not what is wrong.
	return changed || m.has(CacheState, CacheRow), m.cache.Drop(ctx, m.shard, m.name)
}

// has reports whether anything of some kinds was found.
func (m *mender) has(kinds ...Kind) bool {
	return slices.ContainsFunc(m.findings, func(f Finding) bool { return slices.Contains(kinds, f.Kind) })
}

// revisions returns the revisions of findings of some kinds, not too many.
func (m *mender) revisions(kinds ...Kind) map[int64]bool {
	all := map[int64]bool{}
	for _, f := range m.findings {
		if f.Revision == 0 || !slices.Contains(kinds, f.Kind) {
			continue
		}
		for revision := f.Revision; revision < f.Revision+f.Count && len(all) < mendedAtOnce; revision++ {
			all[revision] = true
		}
	}
	return all
}

// mendState puts a state where none is, or a wrong one.
func (m *mender) mendState(ctx context.Context) error {
	// Where store and cache differ, the journal says which is right, if it is whole.
	arbitrated := m.has(CacheState) && m.derived != nil && m.derived.whole
	if !m.has(MissingState, DamagedState, StateBehind, StateAhead) && !m.headTooHigh() && !arbitrated {
		return nil
	}
	switch {
	case m.derived != nil && m.derived.state != nil:
		m.repair.State, m.repair.Position, m.repair.First = m.derived.state, m.derived.position, m.derived.first
		m.repair.Dedup = append(m.repair.Dedup, m.derived.dedup...)
		m.repair.Sources = append(m.repair.Sources, m.derived.sources...)
		m.repair.Parts = m.derived.parts
		if m.derived.whole {
			return m.removeOtherParts(ctx)
		}
	case m.copied != nil && !m.copied.Position.Less(m.newestRecord()) && !m.copied.Position.Less(m.position):
		m.repair.State, m.repair.Position = m.copied.State, m.copied.Position
		m.repair.Dedup = append(m.repair.Dedup, m.copied.Dedup...)
		m.repair.Sources = append(m.repair.Sources, m.copied.Sources...)
		m.repair.Parts = m.copied.Parts
		return m.removeOtherParts(ctx)
	case m.state != nil && m.above > 0:
		m.raiseHead()
	case m.state != nil && m.has(StateAhead, StateBehind):
		return m.setPosition(ctx)
	case m.headTooHigh():
	default:
		for _, kind := range []Kind{MissingState, DamagedState, StateBehind} {
			m.left[kind] = "neither what the journal still has nor the cache has the state: restore it from a backup"
		}
	}
	return nil
}

// removeOtherParts removes the parts of a state that is replaced whole, but for
// those that replace them.
func (m *mender) removeOtherParts(ctx context.Context) error {
	stays := make(map[string]bool, len(m.repair.Parts))
	for i := range m.repair.Parts {
		stays[m.repair.Parts[i].Key] = true
	}
	return m.Store.ScanMailbox(ctx, m.shard, m.name, func(item *persistence.Item) error {
		if item.Kind == persistence.ItemPart && !stays[item.Part.Key] {
			m.repair.Parts = append(m.repair.Parts, persistence.Part{Key: item.Part.Key})
		}
		return nil
	})
}

// headTooHigh reports whether rows are missing up to the head: they, or the state,
// are wrong.
func (m *mender) headTooHigh() bool {
	return m.state != nil && slices.ContainsFunc(m.findings, func(f Finding) bool {
		return f.Kind == MissingRow && f.Revision+f.Count == m.head+1
	})
}

func (m *mender) newestRecord() (newest persistence.Position) {
	if n := len(m.entries); n > 0 {
		newest = m.entries[n-1].position
	}
	return newest
}

// mendRows puts rows that are missing or wrong, and removes those that should
// not be there. Those above the head go only where the state stays.
func (m *mender) mendRows(ctx context.Context) error {
	wanted := m.revisions(MissingRow, DifferentRow, OutOfOrder, SealedBody)
	if m.derived != nil {
		for revision, row := range m.derived.rows {
			if wanted[revision] || m.repair.State != nil && revision > m.head {
				m.repair.Rows = append(m.repair.Rows, row)
				delete(wanted, revision)
			}
		}
	}
	if err := m.rowsBetween(ctx, wanted); err != nil {
		return err
	}
	if err := m.rowsFromCache(ctx, wanted); err != nil {
		return err
	}
	m.repair.Rows = slices.DeleteFunc(m.repair.Rows, m.shut)
	for _, kind := range []Kind{MissingRow, DifferentRow, OutOfOrder} {
		if len(wanted) > 0 {
			m.left[kind] = fmt.Sprintf("neither what the journal still has nor the cache has revision %d: restore it from a backup", least(wanted))
		}
	}
	if m.repair.State != nil {
		return nil
	}
	extra := m.revisions(ExtraRow)
	rows, _, err := m.pick(ctx, extra, nil)
	if err != nil {
		return err
	}
	for revision := range extra {
		m.repair.Remove = append(m.repair.Remove, revision)
	}
	m.repair.Places = append(m.repair.Places, rows...)
	return nil
}

func least(revisions map[int64]bool) int64 {
	lowest := int64(persistence.MaxRevision)
	for revision := range revisions {
		lowest = min(lowest, revision)
	}
	return lowest
}

func (m *mender) rowsFromCache(ctx context.Context, wanted map[int64]bool) error {
	if m.cache == nil {
		return nil
	}
	for revision := range wanted {
		rows, err := m.cache.Newest(ctx, m.shard, m.name, revision+1, 1)
		if isDamage(err) {
			return nil // its copy is dropped
		}
		if err != nil {
			return m.leaveCache(ctx, err)
		}
		if len(rows) == 1 && rows[0].Revision == revision && decodes(m.name, &rows[0]) {
			m.repair.Rows = append(m.repair.Rows, rows[0])
			delete(wanted, revision)
		}
	}
	return nil
}

// mendPlaces puts rows with their places again, and removes places that no row
// has.
func (m *mender) mendPlaces(ctx context.Context) error {
	rows, _, err := m.pick(ctx, m.revisions(MissingPlace, DifferentPlace), nil)
	if err != nil {
		return err
	}
	m.repair.Rows = append(m.repair.Rows, rows...)
	_, places, err := m.pick(ctx, nil, m.revisions(ExtraPlace))
	if err != nil {
		return err
	}
	for _, place := range places {
		if m.state == nil && m.repair.State == nil {
			m.left[ExtraPlace] = "the state is not known"
			return nil
		}
		m.repair.Places = append(m.repair.Places, place)
	}
	return nil
}

// pick reads some rows and places of the mailbox. Of a revision that has several
// places it returns those that are not its row's.
func (m *mender) pick(ctx context.Context, rows, places map[int64]bool) (pickedRows, pickedPlaces []persistence.Row, err error) {
	if len(rows)+len(places) == 0 {
		return nil, nil, nil
	}
	peers := map[int64]string{}
	err = m.Store.ScanMailbox(ctx, m.shard, m.name, func(item *persistence.Item) error {
		row := item.Row
		switch {
		case item.Kind == persistence.ItemRow && item.Err == nil:
			if places[row.Revision] {
				peers[row.Revision] = row.Peer
			}
			if rows[row.Revision] {
				row.Data = slices.Clone(row.Data)
				pickedRows = append(pickedRows, row)
			}
		case item.Kind == persistence.ItemPlace && item.Err == nil && places[row.Revision]:
			if peer, ok := peers[row.Revision]; !ok || peer != row.Peer || row.Revision > m.head {
				pickedPlaces = append(pickedPlaces, persistence.Row{Revision: row.Revision, Peer: row.Peer})
			}
		}
		return nil
	})
	return pickedRows, pickedPlaces, err
}
