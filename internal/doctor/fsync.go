package doctor

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/tegami-im/tegami/config"
)

const (
	fsyncs = 50
	// fsyncLimit ends the measurement on a disk that takes very long.
	fsyncLimit = 5 * time.Second
	// slowFsync is what a disk without a protected cache takes: a send waits
	// for about two of them.
	slowFsync = 10 * time.Millisecond
)

// fsync measures what a send waits for.
func fsync(ctx context.Context, c *config.Config) Finding {
	dir := existing(c.Data.Dir)
	if volatile(dir) {
		return warning("choose a folder on a disk by --data", "%s lies in memory: a restart of the machine loses everything", dir)
	}
	took, err := measureFsync(ctx, dir)
	if err != nil {
		return problem("see dmesg, and the health of the disk", "cannot be measured: %v", err)
	}
	half, worst := took[len(took)/2].Round(10*time.Microsecond), took[len(took)-1].Round(10*time.Microsecond)
	if half > slowFsync {
		return warning("use a faster disk, or accept journal.durability=os",
			"takes %v (the slowest of %d took %v): each send waits about twice as long", half, len(took), worst)
	}
	return ok("takes %v (the slowest of %d took %v)", half, len(took), worst)
}

// measureFsync returns how long fsyncs of small writes take, shortest first.
func measureFsync(ctx context.Context, dir string) (took []time.Duration, err error) {
	file, err := os.CreateTemp(dir, ".tegami-doctor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	block := make([]byte, 4096)
	for began := time.Now(); len(took) < fsyncs && (len(took) == 0 || time.Since(began) < fsyncLimit); {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, err := file.Write(block); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := file.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}
