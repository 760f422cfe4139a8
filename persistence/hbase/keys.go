package hbase

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"

	"github.com/tegami-im/tegami/persistence"
)

// Keys is a persistence.Keys in HBase: one row for each mailbox, in a table of
// its own, so that it is backed up apart. Every change is one conditional put
// with FSYNC_WAL, from the value that was read, so that those who make a key
// at the same time agree.
//
// The row's value counts its changes, and each change is put with that count as
// its version: no clock decides which of two is the newer. A deleted key leaves
// its count; the key's bytes leave the disk with the compactions that follow.
type Keys struct {
	options Options
	table   []byte
	hbase   *connection
}

var _ persistence.KeyAdopter = (*Keys)(nil)

// OpenKeys returns a key store on the table that ApplySchema made. Close it
// after use. Errors: ErrSchema, ErrUnavailable.
func OpenKeys(ctx context.Context, options Options) (*Keys, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	k := &Keys{options: options, table: tablesOf(options.TablePrefix).keys, hbase: newConnection(options)}
	if err := checkSchema(ctx, k.hbase); err != nil {
		k.hbase.close()
		return nil, fmt.Errorf("open keys: %w", err)
	}
	return k, nil
}

// keyRow is where a mailbox's key lies: behind two bytes of a hash, so that
// keys spread over the regions whatever the names are.
func keyRow(mailbox string) []byte {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(mailbox))
	sum := hash.Sum32()
	row := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(mailbox)), uint16(sum^sum>>16))
	return append(row, mailbox...)
}

// keyValue is the content of a mailbox's row: a count of its changes, 0 for no
// row, and the key, unless it was deleted.
type keyValue struct {
	changes uint64
	key     *persistence.Key
}

func (v keyValue) encode() []byte {
	if v.changes == 0 {
		return nil
	}
	b := binary.BigEndian.AppendUint64(nil, v.changes)
	if v.key != nil {
		b = append(b, v.key[:]...)
	}
	return b
}

func decodeKeyValue(b []byte) (v keyValue, err error) {
	if len(b) == 0 {
		return v, nil
	}
	if len(b) != 8 && len(b) != 8+len(v.key) {
		return v, errRow
	}
	v.changes = binary.BigEndian.Uint64(b)
	if v.changes == 0 {
		return v, errRow
	}
	if rest := b[8:]; len(rest) > 0 {
		v.key = new(persistence.Key)
		copy(v.key[:], rest)
	}
	return v, nil
}

// creators is how many keys one call of Create makes at a time.
const creators = 32

// Create implements persistence.Keys.
func (k *Keys) Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error) {
	keys, err := k.create(ctx, mailboxes, func(int) persistence.Key { return persistence.NewKey() })
	if err != nil {
		return nil, fmt.Errorf("create keys: %w", err)
	}
	return keys, nil
}

// Adopt implements persistence.KeyAdopter.
func (k *Keys) Adopt(ctx context.Context, mailboxes []string, keys []persistence.Key) ([]persistence.Key, error) {
	if len(keys) != len(mailboxes) {
		return nil, fmt.Errorf("%d keys for %d mailboxes", len(keys), len(mailboxes))
	}
	adopted, err := k.create(ctx, mailboxes, func(i int) persistence.Key { return keys[i] })
	if err != nil {
		return nil, fmt.Errorf("adopt keys: %w", err)
	}
	return adopted, nil
}

// create gives each mailbox without a key the one with its index.
func (k *Keys) create(ctx context.Context, mailboxes []string, keyOf func(i int) persistence.Key) ([]persistence.Key, error) {
	if err := k.hbase.usable(ctx); err != nil {
		return nil, err
	}
	rows := make([][]byte, len(mailboxes))
	for i, mailbox := range mailboxes {
		rows[i] = keyRow(mailbox)
		if len(rows[i]) > maxRow {
			return nil, fmt.Errorf("a name of %d bytes is too long for a row key", len(mailbox))
		}
	}
	cells, err := k.hbase.getMany(ctx, k.table, rows, "")
	if err != nil {
		return nil, err
	}
	keys := make([]persistence.Key, len(mailboxes))
	var missing []int // one for each mailbox
	values := make([]keyValue, len(mailboxes))
	firsts := map[string]int{} // the first place of each mailbox that has no key
	for i := range mailboxes {
		if len(cells[i]) > 0 {
			if values[i], err = decodeKeyValue(cells[i][0].GetValue()); err != nil {
				return nil, err
			}
		}
		if values[i].key != nil {
			keys[i] = *values[i].key
		} else if _, ok := firsts[mailboxes[i]]; !ok {
			firsts[mailboxes[i]] = i
			missing = append(missing, i)
		}
	}
	err = eachOf(missing, func(i int) (err error) {
		keys[i], err = k.createOne(ctx, rows[i], values[i], keyOf(i))
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, mailbox := range mailboxes {
		if first, ok := firsts[mailbox]; ok {
			keys[i] = keys[first]
		}
	}
	return keys, nil
}

// eachOf calls f for each index, a bounded number at a time, until one fails.
func eachOf(indices []int, f func(i int) error) error {
	var workers sync.WaitGroup
	var mu sync.Mutex // guards the following
	var first error
	next := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || len(indices) == 0 {
			return 0, false
		}
		i := indices[0]
		indices = indices[1:]
		return i, true
	}
	for range min(creators, len(indices)) {
		workers.Go(func() {
			for {
				i, ok := next()
				if !ok {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return first
}

// createOne makes the key of a mailbox that had none when it was read. When
// another was faster, or an earlier attempt of its own that was taken for
// failed, that one's key is the key.
func (k *Keys) createOne(ctx context.Context, row []byte, before keyValue, key persistence.Key) (persistence.Key, error) {
	for before.key == nil {
		made := keyValue{changes: before.changes + 1, key: &key}
		done, err := k.replace(ctx, row, before, made)
		if err != nil {
			return persistence.Key{}, err
		}
		if done {
			return key, nil
		}
		if before, err = k.read(ctx, row); err != nil {
			return persistence.Key{}, err
		}
	}
	return *before.key, nil
}

// replace puts a value if the row still has the one before.
func (k *Keys) replace(ctx context.Context, row []byte, before, next keyValue) (bool, error) {
	return request(ctx, k.hbase, func(ctx context.Context) (work[bool], error) {
		put, err := hrpc.NewPut(ctx, k.table, row,
			map[string]map[string][]byte{family: {"": next.encode()}},
			hrpc.Durability(hrpc.FsyncWal), hrpc.TimestampUint64(next.changes))
		if err != nil {
			return nil, err
		}
		return func(client gohbase.Client) (bool, error) {
			return client.CheckAndPut(put, family, "", before.encode())
		}, nil
	})
}

func (k *Keys) read(ctx context.Context, row []byte) (keyValue, error) {
	if len(row) > maxRow {
		return keyValue{}, nil // no key was ever made
	}
	cells, err := k.hbase.get(ctx, k.table, row, "")
	if err != nil || len(cells) == 0 {
		return keyValue{}, err
	}
	return decodeKeyValue(bytes.Clone(cells[0].Value))
}

// Get implements persistence.Keys.
func (k *Keys) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	value, err := k.read(ctx, keyRow(mailbox))
	if err != nil {
		return persistence.Key{}, fmt.Errorf("get key: %w", err)
	}
	if value.key == nil {
		return persistence.Key{}, persistence.ErrNotFound
	}
	return *value.key, nil
}

// Delete implements persistence.Keys. A call that failed may have deleted the
// key.
func (k *Keys) Delete(ctx context.Context, mailbox string) error {
	row := keyRow(mailbox)
	for {
		before, err := k.read(ctx, row)
		if err != nil {
			return fmt.Errorf("delete key: %w", err)
		}
		if before.key == nil {
			return k.hbase.usable(ctx)
		}
		done, err := k.replace(ctx, row, before, keyValue{changes: before.changes + 1})
		if err != nil {
			return fmt.Errorf("delete key: %w", err)
		}
		if done {
			return nil
		}
	}
}

// Refusing reports whether calls fail at once, because HBase did not answer.
func (k *Keys) Refusing() bool { return k.hbase.breaker.open() }

// Close implements persistence.Keys. Calls under way fail.
func (k *Keys) Close() error {
	k.hbase.close()
	return nil
}

// keySplits returns the keys at which the key table is split into regions.
func keySplits(regions int) [][]byte {
	var splits [][]byte
	for i := 1; i < regions; i++ {
		splits = append(splits, binary.BigEndian.AppendUint16(nil, uint16(i*(1<<16)/regions)))
	}
	return slices.Clip(splits)
}
