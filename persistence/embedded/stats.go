package embedded

import "time"

// Stats are counters since the folder was opened, and states of this moment.
type Stats struct {
	Journal, Store, Keys DatabaseStats

	// Commits, Records and RecordBytes are what the journal committed.
	Commits, Records, RecordBytes int64
	// QueuedAppends and QueuedBytes wait for the commit in flight.
	QueuedAppends, QueuedBytes int

	// Refusing: appends are refused, for the disk is full or nearly so.
	Refusing bool
	// Full: something waits for space.
	Full bool
	// FreeBytes of the disk; 0 when it cannot tell.
	FreeBytes uint64
}

// DatabaseStats are those of one database.
type DatabaseStats struct {
	Fsyncs       int64
	FsyncTime    time.Duration
	BytesWritten int64
	// DiskBytes are in use.
	DiskBytes uint64
}

// Stats may be called at any time, also after Close.
func (s *Storage) Stats() Stats {
	j := s.Journal
	stats := Stats{
		Journal:     j.db.stats(),
		Store:       s.Store.db.stats(),
		Keys:        s.Keys.db.stats(),
		Commits:     j.commits.Load(),
		Records:     j.records.Load(),
		RecordBytes: j.bytes.Load(),
		Refusing:    s.volume.refusesAppends(),
		Full:        s.volume.full(),
		FreeBytes:   s.volume.free.Load(),
	}
	stats.QueuedAppends, stats.QueuedBytes = j.queue.depth()
	return stats
}

func (d *database) stats() DatabaseStats {
	stats := DatabaseStats{
		Fsyncs:       d.fs.fsyncs.Load(),
		FsyncTime:    time.Duration(d.fs.fsyncTime.Load()),
		BytesWritten: d.fs.written.Load(),
	}
	if d.enter() == nil {
		stats.DiskBytes = d.Metrics().DiskSpaceUsage()
		d.leave()
	}
	return stats
}
