// Package hbase keeps mailboxes and keys in HBase: everything, for ever or as
// retention says. docs/storage.md has the schema with its reasons and what
// survives what; layout.go has the bytes.
//
// HBase's unit is a row. A mailbox's state, its sources and the store's own
// notes on it lie in one row and are put and read in one step; what a state
// speaks of (operations, dedup entries) is in place before it. Cells carry the
// journal's position as their HBase version, so that the highest position wins
// in whatever order puts arrive, and a put that was sent twice, or whose
// outcome nobody knows, does no harm.
//
// Every call ends by its context and by Options.RequestTimeout. While HBase
// does not answer, calls fail at once with ErrUnavailable.
package hbase

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"
)

// ErrUnavailable is wrapped by calls that failed, or were refused at once,
// because HBase does not answer. A write that failed so may have happened in
// part; writing it again is harmless.
var ErrUnavailable = errors.New("hbase does not answer")

// ErrSchema is wrapped when the tables are absent or are not as this program
// needs them.
var ErrSchema = errors.New("hbase schema")

// Durability says what an acknowledged write survives.
type Durability uint8

const (
	// DurabilitySync says that the write is in the write-ahead log of every
	// replica (HBase's SYNC_WAL, an hflush). It survives the end of processes,
	// and of machines as long as one replica's machine lives on; Sync makes it
	// survive a power cut of all.
	DurabilitySync Durability = iota
	// DurabilityFsync says that the write-ahead log is on disk (FSYNC_WAL, an
	// hsync).
	DurabilityFsync
)

// String returns the setting's name: sync or fsync.
func (d Durability) String() string {
	if d == DurabilityFsync {
		return "fsync"
	}
	return "sync"
}

// MarshalText returns the setting's name.
func (d Durability) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a setting's name: sync or fsync.
func (d *Durability) UnmarshalText(text []byte) error {
	switch string(text) {
	case "sync":
		*d = DurabilitySync
	case "fsync":
		*d = DurabilityFsync
	default:
		return fmt.Errorf("durability %q: must be sync or fsync", text)
	}
	return nil
}

// Options say where HBase is and how it is used.
type Options struct {
	// ZooKeeper is the quorum that knows HBase: host:port, several separated
	// by commas.
	ZooKeeper string
	// ZooKeeperRoot is HBase's node in it; /hbase unless set.
	ZooKeeperRoot string
	// User is the name under which HBase sees the calls; tegami unless set.
	User string
	// TablePrefix begins the names of all tables; tegami_ unless set.
	TablePrefix string
	// Shards is the number of shards, 1 to 65,535. It is recorded by
	// ApplySchema and cannot change.
	Shards int

	// Regions is the number of regions that ApplySchema splits a table that it
	// creates into, at most one for each shard; 16 unless set. HBase splits
	// them further as they grow.
	Regions int
	// Compression of tables that ApplySchema creates: NONE, GZ, SNAPPY, LZ4 or
	// ZSTD, as far as every region server has the codec; NONE unless set.
	Compression string

	// Durability of a store's writes. Keys are always written with fsync.
	Durability Durability
	// RequestTimeout bounds each request to HBase, its retries included; 2 s
	// unless set. A call makes a handful of requests, one after another.
	RequestTimeout time.Duration
	// Requests is how many requests may be in flight; 64 unless set.
	Requests int
	// Loads is how many mailboxes are loaded at a time, so that many cold
	// mailboxes at once, after an outage say, leave room for writes; 16 unless
	// set.
	Loads int
	// BatchRows and BatchBytes bound what goes to HBase in one request; 500
	// rows and 1 MiB unless set.
	BatchRows, BatchBytes int

	// Logger gets what the client library has to say, too. Required.
	Logger *slog.Logger
}

const (
	maxShards = 1<<16 - 1 // the shard 65,535 is where the schema's own row lies
	// maxRow is HBase's bound on the length of a row key.
	maxRow = 1<<15 - 1
)

var (
	compressions = []string{"NONE", "GZ", "SNAPPY", "LZ4", "ZSTD"}
	tablePrefix  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*$`)
)

// withDefaults returns options with what was not set, or says what is wrong.
func (o Options) withDefaults() (Options, error) {
	setDefault(&o.ZooKeeperRoot, "/hbase")
	setDefault(&o.User, "tegami")
	setDefault(&o.TablePrefix, "tegami_")
	setDefault(&o.Regions, 16)
	setDefault(&o.Compression, "NONE")
	setDefault(&o.RequestTimeout, 2*time.Second)
	setDefault(&o.Requests, 64)
	setDefault(&o.Loads, 16)
	setDefault(&o.BatchRows, 500)
	setDefault(&o.BatchBytes, 1<<20)
	switch {
	case o.ZooKeeper == "":
		return o, errors.New("hbase: no ZooKeeper address")
	case o.Shards < 1 || o.Shards > maxShards:
		return o, fmt.Errorf("hbase: %d shards: must be 1 to %d", o.Shards, maxShards)
	case !tablePrefix.MatchString(o.TablePrefix):
		return o, fmt.Errorf("hbase: table prefix %q: must be letters, digits and . _ -", o.TablePrefix)
	case !slices.Contains(compressions, o.Compression):
		return o, fmt.Errorf("hbase: compression %q: must be one of %v", o.Compression, compressions)
	case o.Logger == nil:
		return o, errors.New("hbase: no logger")
	case o.Regions < 1 || o.RequestTimeout <= 0 || o.Requests < 1 || o.Loads < 1 || o.BatchRows < 1 || o.BatchBytes < 1:
		return o, errors.New("hbase: regions, request timeout, requests, loads and the bounds of a batch must be positive")
	}
	o.Regions = min(o.Regions, o.Shards)
	return o, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
