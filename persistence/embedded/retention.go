package embedded

import "github.com/tegami-im/tegami/persistence"

// retention finds out which days of a shard's dedup entries are not needed any
// more. Time in a journal never goes back: once the checkpoint has reached the
// position of some entry, every record still to be applied is at least as young
// as that entry, and looks back 24 hours, into the day before it and no
// further. One entry of each new day is watched for that.
type retention struct {
	watched persistence.Position
	day     int64 // of the watched entry; 0 when none is watched
	reached int64 // the newest day that the checkpoint has reached
	dropped int64 // the days below it are gone
}

func (r *retention) note(entry *persistence.DedupEntry) {
	if day := dayOf(entry.Time); r.day == 0 && day > r.reached {
		r.day, r.watched = day, entry.Position
	}
}

// drop returns the days that can go now: those from one up to another.
func (r *retention) drop(checkpoint persistence.Position) (from, to int64, ok bool) {
	if r.day == 0 || checkpoint.Less(r.watched) {
		return 0, 0, false
	}
	r.reached, r.day = r.day, 0
	from, to = r.dropped, r.reached-1
	r.dropped = to
	return from, to, from < to
}

func (w *batchWriter) dropOldDedup() {
	if from, to, ok := w.retention.drop(w.marks.Checkpoint); ok {
		_ = w.batch.DeleteRange(dedupDay(w.shard, from), dedupDay(w.shard, to), nil)
	}
}
