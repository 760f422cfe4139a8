package doctor

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tegami-im/tegami/config"
)

const (
	gib = 1 << 30
	// fewFiles is too few descriptors for more than a handful of users: each
	// connection takes one, the store some hundreds.
	fewFiles = 4096
)

// diskSpace compares the free space with what the server keeps free.
func diskSpace(_ context.Context, c *config.Config) Finding {
	dir := existing(c.Data.Dir)
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return problem("df "+dir, "%v", err)
	}
	free := disk.Bavail * uint64(disk.Bsize)
	text := "%.1f GiB free"
	left := float64(free) / gib
	switch {
	case disk.Files > 0 && disk.Ffree < 1000:
		return problem("df -i "+dir, "%d inodes left", disk.Ffree)
	case free <= uint64(c.Data.Reserve):
		return problem("df -h "+dir, text+": sends are refused below %v", left, c.Data.Reserve)
	case free < 2*gib:
		return warning("df -h "+dir, text, left)
	default:
		return ok(text, left)
	}
}

// volatile reports whether a folder lies in memory.
func volatile(dir string) bool {
	var disk unix.Statfs_t
	return unix.Statfs(dir, &disk) == nil && (disk.Type == unix.TMPFS_MAGIC || disk.Type == unix.RAMFS_MAGIC)
}

// openFiles checks the limit of this shell, which a server started from it
// inherits. Go raises the soft limit to the hard one by itself.
func openFiles(context.Context, *config.Config) Finding {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return problem("ulimit -n", "%v", err)
	}
	if limit.Max < fewFiles {
		return warning("ulimit -Hn 65536, or LimitNOFILE=65536 in the systemd unit",
			"at most %d: one connection takes one", limit.Max)
	}
	return ok("up to %d", limit.Max)
}

// clock checks that log time will not go back behind what is stored, and
// whether something keeps the clock right.
func clock(_ context.Context, c *config.Config) Finding {
	if newest := newestChange(c.Data.Dir); time.Until(newest) > time.Minute {
		return problem("set the clock: sudo timedatectl set-ntp true",
			"behind the data folder, which was last written at %s", newest.Format(time.DateTime))
	}
	var state unix.Timex
	if status, err := unix.Adjtimex(&state); err == nil && status == unix.TIME_ERROR {
		return warning("sudo timedatectl set-ntp true", "nothing keeps it right: tokens and retention follow it")
	}
	return ok("kept right")
}

func newestChange(dir string) (newest time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return newest // no data yet
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}
