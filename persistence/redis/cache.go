package redis

import (
	"context"
	"crypto/rand"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence"
)

var (
	//go:embed begin.lua
	beginSource string
	//go:embed write.lua
	writeSource string
	//go:embed fill.lua
	fillSource string
	//go:embed load.lua
	loadSource string
	//go:embed operations.lua
	operationsSource string

	beginScript      = goredis.NewScript(beginSource)
	writeScript      = goredis.NewScript(writeSource)
	fillScript       = goredis.NewScript(fillSource)
	loadScript       = goredis.NewScript(loadSource)
	operationsScript = goredis.NewScript(operationsSource)
)

// tagged begins the keys of a shard, all of which a cluster keeps together.
func (c *Cache) tagged(shard uint32) string {
	return fmt.Sprintf("%s:{%04d}:", c.options.Prefix, shard)
}

func (c *Cache) markKey(shard uint32) string { return c.tagged(shard) + "mark" }

type mailboxKeys struct{ copy, dedup, rows string }

// mailboxKeys names a mailbox's keys. Fills have one length, so that no two
// mailboxes share a key whatever they are called.
func (c *Cache) mailboxKeys(shard uint32, fill, mailbox string) mailboxKeys {
	prefix := c.tagged(shard) + fill
	return mailboxKeys{copy: prefix + ":c:" + mailbox, dedup: prefix + ":d:" + mailbox, rows: prefix + ":r:" + mailbox}
}

// newName names a filling or a write: 80 random bits in 16 characters.
func newName() string { return rand.Text()[:16] }

// fill returns the filling that a shard was last seen to have.
func (c *Cache) fill(shard uint32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fills[shard]
}

func (c *Cache) saw(shard uint32, fill string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fills[shard] = fill
}

// Mark implements persistence.Cache.
func (c *Cache) Mark(ctx context.Context, shard uint32) (persistence.CacheMark, error) {
	mark, err := c.readMark(ctx, shard)
	if err != nil {
		return persistence.CacheMark{}, fmt.Errorf("read mark: %w", err)
	}
	c.saw(shard, mark.Fill)
	return mark, nil
}

func (c *Cache) readMark(ctx context.Context, shard uint32) (persistence.CacheMark, error) {
	if err := c.ready(ctx); err != nil {
		return persistence.CacheMark{}, err
	}
	values, err := c.client.HMGet(ctx, c.markKey(shard), "fill", "watermark", "write").Result()
	if err != nil {
		return persistence.CacheMark{}, c.explain(ctx, err)
	}
	if !slices.ContainsFunc(values, func(value any) bool { return value != nil }) {
		return persistence.CacheMark{}, nil
	}
	parts, err := texts(values)
	if err != nil {
		return persistence.CacheMark{}, err
	}
	watermark, err := parsePosition(parts[1])
	if err == nil && parts[0] == "" {
		err = fmt.Errorf("a filling without a name: %w", persistence.ErrDamaged)
	}
	return persistence.CacheMark{Fill: parts[0], Watermark: watermark, Write: parts[2]}, err
}

// Begin implements persistence.Cache.
func (c *Cache) Begin(ctx context.Context, shard uint32, watermark persistence.Position) (persistence.CacheMark, error) {
	mark := persistence.CacheMark{Fill: newName(), Watermark: watermark}
	r := &request{keys: []string{c.markKey(shard)}}
	r.add(mark.Fill, positionString(watermark), c.expiry())
	if _, err := c.run(ctx, beginScript, r); err != nil {
		return persistence.CacheMark{}, fmt.Errorf("begin filling: %w", err)
	}
	c.saw(shard, mark.Fill)
	return mark, nil
}

// Write implements persistence.Cache. A batch beyond MaxBatchMailboxes or
// MaxBatchBytes is refused. Dedup entries above a mailbox's position are left
// out.
func (c *Cache) Write(ctx context.Context, shard uint32, from persistence.CacheMark, watermark persistence.Position, mailboxes []persistence.MailboxWrite) (persistence.CacheMark, error) {
	to := from
	to.Write = newName()
	if to.Watermark.Less(watermark) {
		to.Watermark = watermark
	}
	r, err := c.writeRequest(shard, from, to, mailboxes)
	if err == nil {
		err = c.runFrom(ctx, writeScript, r)
	}
	if err != nil {
		return persistence.CacheMark{}, fmt.Errorf("write batch: %w", err)
	}
	c.saw(shard, to.Fill)
	return to, nil
}

// Fill implements persistence.Cache. A mailbox with more than MaxDedup dedup
// entries is not kept.
func (c *Cache) Fill(ctx context.Context, shard uint32, from persistence.CacheMark, mailbox string, m *persistence.Mailbox) error {
	if err := c.ready(ctx); err != nil {
		return fmt.Errorf("fill mailbox: %w", err)
	}
	r := c.fillRequest(shard, from, mailbox, m)
	if r == nil {
		return nil
	}
	if err := c.runFrom(ctx, fillScript, r); err != nil {
		return fmt.Errorf("fill mailbox: %w", err)
	}
	return nil
}

// runFrom runs a script that returns 0 where the mark has moved.
func (c *Cache) runFrom(ctx context.Context, script *goredis.Script, r *request) error {
	reply, err := c.run(ctx, script, r)
	if err != nil {
		return err
	}
	if reply != int64(1) {
		return persistence.ErrMarkMoved
	}
	return nil
}

// Load implements persistence.Cache.
func (c *Cache) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int, notBelow persistence.Position) (*persistence.Mailbox, error) {
	m, err := c.load(ctx, shard, mailbox, notBelow)
	if err == nil && len(m.Dedup) > maxDedup {
		err = persistence.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("load mailbox: %w", err)
	}
	return m, nil
}

func (c *Cache) load(ctx context.Context, shard uint32, mailbox string, notBelow persistence.Position) (*persistence.Mailbox, error) {
	reply, err := c.runInFill(ctx, loadScript, shard, func(fill string) *request {
		keys := c.mailboxKeys(shard, fill, mailbox)
		r := &request{keys: []string{c.markKey(shard), keys.copy, keys.dedup, keys.rows}}
		r.add(fill, positionString(notBelow), c.expiry())
		return r
	})
	if err != nil {
		return nil, err
	}
	if len(reply) < 2 {
		return nil, persistence.ErrNotFound
	}
	fields, err := texts(reply[0])
	if err != nil {
		return nil, err
	}
	blocks, err := texts(reply[1])
	if err != nil {
		return nil, err
	}
	return parseCopy(fields, blocks)
}

// Operations implements persistence.Cache.
func (c *Cache) Operations(ctx context.Context, shard uint32, mailbox string, generation uint32, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	after = max(0, after)
	if err := c.ready(ctx); err != nil {
		return nil, fmt.Errorf("read operations: %w", err)
	}
	if after >= upTo || limit <= 0 {
		return nil, nil
	}
	reply, err := c.runInFill(ctx, operationsScript, shard, func(fill string) *request {
		keys := c.mailboxKeys(shard, fill, mailbox)
		r := &request{keys: []string{c.markKey(shard), keys.rows}}
		r.add(fill, positionString(persistence.Position{Generation: generation}), c.expiry(), rowID(after+1), rowID(upTo),
			strconv.Itoa(min(limit, maxNumber)), strconv.Itoa(min(max(0, maxBytes), maxNumber)))
		return r
	})
	var rows []persistence.Row
	if err == nil {
		rows, err = parseRows(reply, after, maxBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read operations: %w", err)
	}
	return rows, nil
}

// maxNumber bounds what is given to Lua as a number.
const maxNumber = 1 << 31

// parseRows reads ids and contents of rows up to where they are no longer
// dense, or would have more than maxBytes.
func parseRows(reply []any, after int64, maxBytes int) ([]persistence.Row, error) {
	values, err := texts(reply)
	if err != nil {
		return nil, err
	}
	rows := make([]persistence.Row, 0, len(values)/2)
	size := 0
	for i := 0; i+1 < len(values); i += 2 {
		row, err := parseRow(values[i], values[i+1])
		if err != nil {
			return nil, err
		}
		size += len(row.Data)
		if row.Revision != after+1 || len(rows) > 0 && size > maxBytes {
			break
		}
		rows = append(rows, row)
		after++
	}
	if len(rows) == 0 {
		return nil, persistence.ErrNotFound
	}
	return rows, nil
}

// runInFill runs a script whose keys are those of the shard's filling. It
// returns the shard's filling first: when that is another, another node has
// begun it, and the script is run once more with its keys.
func (c *Cache) runInFill(ctx context.Context, script *goredis.Script, shard uint32, prepare func(fill string) *request) ([]any, error) {
	fill := c.fill(shard)
	for range 2 {
		reply, err := c.run(ctx, script, prepare(fill))
		if err != nil {
			return nil, err
		}
		values, _ := reply.([]any)
		if len(values) == 0 {
			return nil, errUnexpected
		}
		actual, _ := values[0].(string)
		c.saw(shard, actual)
		if actual == "" {
			return nil, persistence.ErrNotFound
		}
		if actual == fill {
			return values[1:], nil
		}
		fill = actual
	}
	return nil, persistence.ErrNotFound
}

// run runs a script by its hash and, where the server does not know it, by its
// source: what it does not know it has not run.
func (c *Cache) run(ctx context.Context, script *goredis.Script, r *request) (any, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	reply, err := script.Run(ctx, c.client, r.keys, r.arguments...).Result()
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	return reply, nil
}

var errUnexpected = fmt.Errorf("unexpected reply: %w", persistence.ErrDamaged)

// texts reads a list of strings.
func texts(reply any) ([]string, error) {
	values, ok := reply.([]any)
	if !ok {
		return nil, errUnexpected
	}
	texts := make([]string, len(values))
	for i, value := range values {
		if texts[i], ok = value.(string); !ok {
			return nil, errUnexpected
		}
	}
	return texts, nil
}

// ready refuses calls to a closed cache or with an ended context.
func (c *Cache) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.closed.Load() {
		return persistence.ErrClosed
	}
	return nil
}

// explain says what the client's error means.
func (c *Cache) explain(ctx context.Context, err error) error {
	switch {
	case c.closed.Load():
		return persistence.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err() // the client may say that its socket timed out instead
	case goredis.IsOOMError(err):
		return fmt.Errorf("%w: %w", persistence.ErrFull, err)
	case damaged(err):
		return fmt.Errorf("%w: %w", persistence.ErrDamaged, err)
	case unreachable(err) && !errors.Is(err, ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		return err
	}
}

// scriptFailures are in what a server says when a script meets what it did not
// write: Lua's own errors, and commands that refuse it.
var scriptFailures = []string{
	"attempt to ", "arguments must be strings or integers", "Wrong number of args", "not an integer",
	"equal or smaller", "smaller than", "Invalid stream ID",
}

// damaged reports whether a server says that a key is of another type than Tegami
// made it, or that a script failed on what it found in one.
func damaged(err error) bool {
	reply, ok := errors.AsType[goredis.Error](err)
	if !ok {
		return false
	}
	text := reply.Error()
	return strings.Contains(text, "WRONGTYPE") || strings.Contains(text, "user_script") &&
		slices.ContainsFunc(scriptFailures, func(failure string) bool { return strings.Contains(text, failure) })
}
