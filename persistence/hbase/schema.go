package hbase

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"

	"github.com/tegami-im/tegami/persistence"
)

// tables are the names of the tables.
type tables struct{ mailboxes, operations, conversations, keys []byte }

func tablesOf(prefix string) tables {
	name := func(table string) []byte { return []byte(prefix + table) }
	return tables{name("mailboxes"), name("operations"), name("conversations"), name("keys")}
}

func (t tables) all() [][]byte {
	return [][]byte{t.mailboxes, t.operations, t.conversations, t.keys}
}

// schemaVersion is that of the rows and cells as this program writes them.
const schemaVersion = 1

// schemaRow is where the schema of a set of tables is recorded: behind the
// last shard of the mailboxes' table.
var schemaRow = []byte("\xff\xffschema")

// schema is what is recorded of a set of tables.
type schema struct {
	Version int `json:"version"`
	Shards  int `json:"shards"`
}

// attributes that the one family of every table must have, and why:
//   - VERSIONS 1: the highest version is the content.
//   - TTL forever and MIN_VERSIONS 0: versions are positions, not times, so
//     that HBase must not judge a cell's age by them.
//   - KEEP_DELETED_CELLS false: what is masked by a removal may leave the disk.
//   - NEW_VERSION_BEHAVIOR false (the default): a removal masks every cell up
//     to its version, also one that is put after it.
var attributes = map[string]string{
	"VERSIONS":           "1",
	"MIN_VERSIONS":       "0",
	"TTL":                "2147483647",
	"KEEP_DELETED_CELLS": "FALSE",
}

// shardsWhole are attributes of the tables of shards: HBase splits them between
// shards and never within one, so that all rows of a shard are in one log.
var shardsWhole = map[string]string{
	"SPLIT_POLICY": "org.apache.hadoop.hbase.regionserver.KeyPrefixRegionSplitPolicy",
	"KeyPrefixRegionSplitPolicy.prefix_length": "2",
}

// familyOf returns the attributes with which a table's family is created. Row
// keys repeat most of what is before them, which FAST_DIFF leaves out.
func familyOf(compression string) map[string]string {
	f := map[string]string{
		"BLOOMFILTER":         "ROW",
		"DATA_BLOCK_ENCODING": "FAST_DIFF",
		"COMPRESSION":         compression,
	}
	maps.Copy(f, attributes)
	return f
}

// ApplySchema creates the tables that are missing, checks those that are there
// and records the number of shards. It may run again, at any time. An error
// that wraps ErrSchema says what differs; ErrUnavailable: HBase did not answer.
func ApplySchema(ctx context.Context, options Options) error {
	options, err := options.withDefaults()
	if err != nil {
		return err
	}
	a := newAdmin(options)
	defer a.close()
	if err := a.apply(ctx); err != nil {
		return fmt.Errorf("apply schema: %w", err)
	}
	c := newConnection(options)
	defer c.close()
	recorded, err := readSchema(ctx, c)
	if err != nil {
		return fmt.Errorf("apply schema: %w", err)
	}
	if recorded != nil {
		if err := recorded.check(&options); err != nil {
			return fmt.Errorf("apply schema: %w", err)
		}
		return nil
	}
	text, err := json.Marshal(schema{Version: schemaVersion, Shards: options.Shards})
	if err != nil {
		return err
	}
	// Two that apply at the same time agree: the first is recorded.
	_, err = request(ctx, c, func(ctx context.Context) (work[bool], error) {
		put, err := hrpc.NewPut(ctx, tablesOf(options.TablePrefix).mailboxes, schemaRow,
			map[string]map[string][]byte{family: {"": text}}, hrpc.Durability(hrpc.FsyncWal), hrpc.TimestampUint64(1))
		if err != nil {
			return nil, err
		}
		return func(client gohbase.Client) (bool, error) { return client.CheckAndPut(put, family, "", nil) }, nil
	})
	if err != nil {
		return fmt.Errorf("apply schema: record it: %w", err)
	}
	return checkSchema(ctx, c)
}

// apply creates the tables that are missing and checks the others.
func (a *admin) apply(ctx context.Context) error {
	t := tablesOf(a.options.TablePrefix)
	there, err := a.describe(ctx, t.all())
	if err != nil {
		return err
	}
	for _, table := range t.all() {
		splits, whole := shardSplits(a.options.Shards, a.options.Regions), shardsWhole
		if slices.Equal(table, t.keys) {
			splits, whole = keySplits(a.options.Regions), nil
		}
		if found, ok := there[string(table)]; ok {
			if err := found.check(whole); err != nil {
				return fmt.Errorf("%w: table %s: %w", ErrSchema, table, err)
			}
			continue
		}
		if err := a.create(ctx, table, whole, familyOf(a.options.Compression), splits); err != nil {
			return fmt.Errorf("create table %s: %w", table, err)
		}
	}
	return nil
}

// shardSplits returns the keys at which a table of shards is split into
// regions.
func shardSplits(shards, regions int) [][]byte {
	var splits [][]byte
	for i := 1; i < regions; i++ {
		shard := i * shards / regions
		splits = append(splits, []byte{byte(shard >> 8), byte(shard)})
	}
	return splits
}

// readSchema returns what is recorded; nil for nothing.
func readSchema(ctx context.Context, c *connection) (*schema, error) {
	cells, err := c.get(ctx, tablesOf(c.options.TablePrefix).mailboxes, schemaRow)
	if err != nil {
		return nil, err
	}
	text := valueOf(cells, "")
	if text == nil {
		return nil, nil // nothing is recorded yet
	}
	s := &schema{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("recorded schema: %w: %w", persistence.ErrDamaged, err)
	}
	return s, nil
}

// checkSchema returns an error unless the tables are those that the options
// speak of.
func checkSchema(ctx context.Context, c *connection) error {
	recorded, err := readSchema(ctx, c)
	// The first request of a new client asks where the table is, and of that
	// region whether it is there, before its own question. Where each of these
	// takes long it comes too late, but what it found out is known to the next.
	for range tolerated - 1 {
		if errors.Is(err, ErrUnavailable) {
			recorded, err = readSchema(ctx, c)
		}
	}
	if err != nil {
		return err
	}
	if recorded == nil {
		return fmt.Errorf("%w: the tables %s* are not complete: run tegami admin schema apply", ErrSchema, c.options.TablePrefix)
	}
	return recorded.check(&c.options)
}

func (s *schema) check(options *Options) error {
	if s.Version != schemaVersion {
		return fmt.Errorf("%w: the tables %s* have version %d, and this program knows version %d only: use the release that made them, or a newer one",
			ErrSchema, options.TablePrefix, s.Version, schemaVersion)
	}
	if s.Shards != options.Shards {
		return fmt.Errorf("%w: the tables %s* were made for %d shards and the configuration says %d: a mailbox's shard follows from their number, which therefore cannot change; set it back, or take another table prefix",
			ErrSchema, options.TablePrefix, s.Shards, options.Shards)
	}
	return nil
}

// check returns an error unless a table and its families are as they must be.
func (d *tableDescription) check(whole map[string]string) error {
	f, ok := d.families[family]
	if !ok || len(d.families) != 1 {
		return fmt.Errorf("has the families %v, not the one that is needed, %q: it is not Tegami's", d.names(), family)
	}
	var errs []error
	for name, want := range attributes {
		if got, ok := f[name]; ok && !equalFold(got, want) {
			errs = append(errs, fmt.Errorf("%s is %s and must be %s: set it back with alter in the HBase shell", name, got, want))
		}
	}
	if equalFold(f["NEW_VERSION_BEHAVIOR"], "true") {
		errs = append(errs, errors.New("NEW_VERSION_BEHAVIOR is true and must be false: set it back with alter in the HBase shell"))
	}
	for name, want := range whole {
		if got := d.attributes[name]; got != want {
			errs = append(errs, fmt.Errorf("the table's %s is %q and must be %q: set it back with alter in the HBase shell", name, got, want))
		}
	}
	return errors.Join(errs...)
}
