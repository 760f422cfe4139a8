package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tegami-im/tegami/persistence"
)

// volume watches the disk that the data folder lies on.
//
// Pebble ends the process when the disk is full under its log or its manifest.
// So a call that meets a full disk waits here until there is space, and while
// one waits, whoever can still be refused is refused at once. That wait is the
// exception: before it comes to it, appends are refused when free space falls
// below a reserve, while everything else, which frees space in the end, goes
// on.
//
// A table that does not fit is another matter: its writing fails, which Pebble
// survives, so that the part that was written does not fill the disk. The next
// table waits a while.
//
// An fsync that fails ends the process: what the disk holds is then unknown,
// and asking again may report success for data that is gone.
type volume struct {
	fs      vfs.FS
	dir     string
	reserve uint64
	logger  *slog.Logger
	exit    func(code int)

	waiting atomic.Int32  // calls that wait for space
	low     atomic.Bool   // free space is below the reserve
	free    atomic.Uint64 // bytes; 0 when not known

	nextTable atomic.Int64 // when a table may be made, in nanoseconds since 1970

	closing   atomic.Bool
	stuck     chan struct{} // closed when a call must wait while closing
	stuckOnce sync.Once
}

const (
	firstSpaceWait  = 10 * time.Millisecond
	longestWait     = 500 * time.Millisecond
	spaceWatchEvery = 250 * time.Millisecond
	tableRetryAfter = 5 * time.Second
)

func newVolume(fs vfs.FS, o *Options) *volume {
	return &volume{
		fs:      fs,
		dir:     o.Dir,
		reserve: o.ReserveBytes,
		logger:  o.Logger,
		exit:    o.Exit,
		stuck:   make(chan struct{}),
	}
}

// full reports that the disk is full: some call waits for space.
func (v *volume) full() bool { return v.waiting.Load() > 0 }

// refusesAppends reports that the disk is full or nearly so.
func (v *volume) refusesAppends() bool { return v.low.Load() || v.full() }

// fail ends the process. It does not return.
func (v *volume) fail(err error) {
	v.logger.Error("storage failed; the process ends, nothing more is acknowledged", slog.Any("error", err))
	v.exit(1)
	select {} // only where exit was replaced
}

// untilSpace calls op until it returns something else than that the disk is
// full. When that happens while the databases are being closed it never
// returns: nothing may be written after that.
func (v *volume) untilSpace(path string, op func() error) error {
	err := op()
	if !vfs.IsNoSpaceError(err) {
		return err
	}
	v.logger.Error("disk is full; appends are refused until space is freed", slog.String("file", path), slog.Any("error", err))
	v.waiting.Add(1)
	defer v.waiting.Add(-1)
	for wait := firstSpaceWait; ; wait = min(2*wait, longestWait) {
		if v.closing.Load() {
			v.giveUpClosing()
			select {}
		}
		time.Sleep(wait)
		if err = op(); !vfs.IsNoSpaceError(err) {
			v.logger.Info("space was freed; writing goes on", slog.String("file", path))
			return err
		}
	}
}

func (v *volume) giveUpClosing() { v.stuckOnce.Do(func() { close(v.stuck) }) }

// tableFailed notes that a table met a full disk.
func (v *volume) tableFailed(name string, err error) {
	v.logger.Error("disk is full; a table was not written, which is tried again", slog.String("file", name), slog.Any("error", err))
	v.nextTable.Store(time.Now().Add(tableRetryAfter).UnixNano())
	v.measureSpace()
	if v.closing.Load() {
		v.giveUpClosing()
	}
}

// beforeTable waits while the last table that met a full disk is not long ago.
func (v *volume) beforeTable() {
	for time.Now().UnixNano() < v.nextTable.Load() && !v.closing.Load() {
		time.Sleep(spaceWatchEvery)
	}
}

// closeWith calls closeAll and returns when it has, or when it cannot because
// the disk is full. In that case the goroutines of the databases stay where
// they are, waiting for the end of the process.
func (v *volume) closeWith(closeAll func() error) error {
	v.closing.Store(true)
	closed := make(chan error, 1)
	go func() { closed <- closeAll() }()
	select {
	case err := <-closed:
		return err
	case <-v.stuck:
		return fmt.Errorf("close %s: %w", v.dir, persistence.ErrFull)
	}
}

// watchSpace keeps low up to date until ctx ends. A file system that cannot
// tell its free space is not watched.
func (v *volume) watchSpace(ctx context.Context) {
	tick := time.NewTicker(spaceWatchEvery)
	defer tick.Stop()
	for v.measureSpace() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (v *volume) measureSpace() (known bool) {
	usage, err := v.fs.GetDiskUsage(v.dir)
	if err != nil {
		return false
	}
	v.free.Store(usage.AvailBytes)
	low := usage.AvailBytes < min(v.reserve, usage.TotalBytes/20)
	if v.low.Swap(low) != low {
		if low {
			v.logger.Error("disk is nearly full; appends are refused", slog.Uint64("free_bytes", usage.AvailBytes))
		} else {
			v.logger.Info("disk has space again; appends are taken", slog.Uint64("free_bytes", usage.AvailBytes))
		}
	}
	return true
}
