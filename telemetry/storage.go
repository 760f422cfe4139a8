package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tegami-im/tegami/persistence"
)

// The parts of a storage, as label values.
const (
	partStore = "store"
	partKeys  = "keys"
	partCache = "cache"
	// partEvents is what waits before the store.
	partEvents = "events"
)

// storageMetrics are of what stands behind the interfaces of package
// persistence, whatever that is.
type storageMetrics struct {
	appends    *prometheus.CounterVec
	appendTime prometheus.Histogram
	readErrors prometheus.Counter
	calls      *prometheus.CounterVec
	callTime   *prometheus.HistogramVec
}

func newStorageMetrics(m *Metrics) storageMetrics {
	s := storageMetrics{
		appends: m.counters("tegami_journal_appends_total", "Appends to the journal, by outcome.", "outcome"),
		appendTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tegami_journal_append_seconds", Help: "Time from an append to its outcome.", Buckets: latencies,
		}),
		readErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tegami_journal_read_errors_total", Help: "Reads of the journal, and of its bounds, that failed.",
		}),
		calls:    m.counters("tegami_storage_calls_total", "Calls of store, keys and cache, by operation and outcome.", "part", "operation", "outcome"),
		callTime: m.histograms("tegami_storage_call_seconds", "Time that calls of store, keys and cache take.", "part", "operation"),
	}
	m.registry.MustRegister(s.appendTime, s.readErrors)
	return s
}

// called counts a call of a part that began some time ago.
func (s *storageMetrics) called(part, operation string, began time.Time, err error) {
	s.calls.WithLabelValues(part, operation, outcomeOf(err)).Inc()
	s.callTime.WithLabelValues(part, operation).Observe(time.Since(began).Seconds())
}

// outcomeOf tells what is in order from what is not: a mailbox that is not there
// and a mark that has moved are answers.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, persistence.ErrNotFound):
		return "absent"
	case errors.Is(err, persistence.ErrMarkMoved):
		return "moved"
	default:
		return "failed"
	}
}

// Journal measures the appends and reads of a journal.
func (m *Metrics) Journal(of persistence.Journal) persistence.Journal {
	return &journal{
		Journal: of, metrics: &m.storage,
		ok:      m.storage.appends.WithLabelValues("ok"),
		unknown: m.storage.appends.WithLabelValues("unknown"),
		failed:  m.storage.appends.WithLabelValues("failed"),
	}
}

type journal struct {
	persistence.Journal
	metrics             *storageMetrics
	ok, unknown, failed prometheus.Counter
}

// Append implements persistence.Journal.
func (j *journal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	began := time.Now()
	j.Journal.Append(shard, records, func(appended persistence.Appended, err error) {
		j.metrics.appendTime.Observe(time.Since(began).Seconds())
		switch {
		case err == nil:
			j.ok.Inc()
		case errors.Is(err, persistence.ErrUnknownOutcome):
			j.unknown.Inc()
		default:
			j.failed.Inc()
		}
		done(appended, err)
	})
}

// Read implements persistence.Journal.
func (j *journal) Read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]persistence.Entry, error) {
	entries, err := j.Journal.Read(ctx, shard, offset, maxBytes)
	j.read(err)
	return entries, err
}

// Bounds implements persistence.Journal.
func (j *journal) Bounds(ctx context.Context, shard uint32) (persistence.Bounds, error) {
	bounds, err := j.Journal.Bounds(ctx, shard)
	j.read(err)
	return bounds, err
}

func (j *journal) read(err error) {
	if err != nil && !errors.Is(err, persistence.ErrTruncated) && !errors.Is(err, persistence.ErrClosed) {
		j.metrics.readErrors.Inc()
	}
}

// Store measures the calls of a store.
func (m *Metrics) Store(of persistence.Store) persistence.Store { return &store{of, &m.storage} }

type store struct {
	persistence.Store
	metrics *storageMetrics
}

// Load implements persistence.Store.
func (s *store) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (loaded *persistence.Mailbox, err error) {
	defer func(began time.Time) { s.metrics.called(partStore, "load", began, err) }(time.Now())
	return s.Store.Load(ctx, shard, mailbox, maxDedup)
}

// Write implements persistence.Store.
func (s *store) Write(ctx context.Context, shard uint32, batch persistence.Batch) (err error) {
	defer func(began time.Time) { s.metrics.called(partStore, "write", began, err) }(time.Now())
	return s.Store.Write(ctx, shard, batch)
}

// Dedup implements persistence.Store.
func (s *store) Dedup(ctx context.Context, shard uint32, mailbox string, key [persistence.DedupKeySize]byte, notBefore int64) (entry persistence.DedupEntry, found bool, err error) {
	defer func(began time.Time) { s.metrics.called(partStore, "dedup", began, err) }(time.Now())
	return s.Store.Dedup(ctx, shard, mailbox, key, notBefore)
}

// Operations implements persistence.Store.
func (s *store) Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) (rows []persistence.Row, err error) {
	defer func(began time.Time) { s.metrics.called(partStore, "operations", began, err) }(time.Now())
	return s.Store.Operations(ctx, shard, mailbox, after, upTo, limit, maxBytes)
}

// Conversation implements persistence.Store.
func (s *store) Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) (rows []persistence.Row, err error) {
	defer func(began time.Time) { s.metrics.called(partStore, "conversation", began, err) }(time.Now())
	return s.Store.Conversation(ctx, shard, mailbox, peer, before, limit, maxBytes)
}

// Sync implements persistence.Store.
func (s *store) Sync(ctx context.Context) (err error) {
	defer func(began time.Time) { s.metrics.called(partStore, "sync", began, err) }(time.Now())
	return s.Store.Sync(ctx)
}

// Marks implements persistence.Store.
func (s *store) Marks(ctx context.Context, shard uint32) (marks persistence.Marks, err error) {
	defer func(began time.Time) { s.metrics.called(partStore, "marks", began, err) }(time.Now())
	return s.Store.Marks(ctx, shard)
}

// Keys measures the calls of a key store.
func (m *Metrics) Keys(of persistence.Keys) persistence.Keys { return &keys{of, &m.storage} }

type keys struct {
	persistence.Keys
	metrics *storageMetrics
}

// Create implements persistence.Keys.
func (k *keys) Create(ctx context.Context, mailboxes []string) (created []persistence.Key, err error) {
	defer func(began time.Time) { k.metrics.called(partKeys, "create", began, err) }(time.Now())
	return k.Keys.Create(ctx, mailboxes)
}

// Get implements persistence.Keys.
func (k *keys) Get(ctx context.Context, mailbox string) (key persistence.Key, err error) {
	defer func(began time.Time) { k.metrics.called(partKeys, "get", began, err) }(time.Now())
	return k.Keys.Get(ctx, mailbox)
}

// Cache measures the calls of a cache.
func (m *Metrics) Cache(of persistence.Cache) persistence.Cache { return &cache{of, &m.storage} }

type cache struct {
	persistence.Cache
	metrics *storageMetrics
}

// Mark implements persistence.Cache.
func (c *cache) Mark(ctx context.Context, shard uint32) (mark persistence.CacheMark, err error) {
	defer func(began time.Time) { c.metrics.called(partCache, "mark", began, err) }(time.Now())
	return c.Cache.Mark(ctx, shard)
}

// Begin implements persistence.Cache.
func (c *cache) Begin(ctx context.Context, shard uint32, watermark persistence.Position) (mark persistence.CacheMark, err error) {
	defer func(began time.Time) { c.metrics.called(partCache, "begin", began, err) }(time.Now())
	return c.Cache.Begin(ctx, shard, watermark)
}

// Write implements persistence.Cache.
func (c *cache) Write(ctx context.Context, shard uint32, from persistence.CacheMark, watermark persistence.Position, mailboxes []persistence.MailboxWrite) (mark persistence.CacheMark, err error) {
	defer func(began time.Time) { c.metrics.called(partCache, "write", began, err) }(time.Now())
	return c.Cache.Write(ctx, shard, from, watermark, mailboxes)
}

// Fill implements persistence.Cache.
func (c *cache) Fill(ctx context.Context, shard uint32, from persistence.CacheMark, mailbox string, m *persistence.Mailbox) (err error) {
	defer func(began time.Time) { c.metrics.called(partCache, "fill", began, err) }(time.Now())
	return c.Cache.Fill(ctx, shard, from, mailbox, m)
}

// Load implements persistence.Cache.
func (c *cache) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int, notBelow persistence.Position) (loaded *persistence.Mailbox, err error) {
	defer func(began time.Time) { c.metrics.called(partCache, "load", began, err) }(time.Now())
	return c.Cache.Load(ctx, shard, mailbox, maxDedup, notBelow)
}

// Operations implements persistence.Cache.
func (c *cache) Operations(ctx context.Context, shard uint32, mailbox string, generation uint32, after, upTo int64, limit, maxBytes int) (rows []persistence.Row, err error) {
	defer func(began time.Time) { c.metrics.called(partCache, "operations", began, err) }(time.Now())
	return c.Cache.Operations(ctx, shard, mailbox, generation, after, upTo, limit, maxBytes)
}

// Breaker is the circuit breaker of calls to a server.
type Breaker struct {
	// Part of the storage that the server is for: store, keys or cache.
	Part string
	// Server is its address.
	Server string
	// Open says that calls are refused at once, but for one now and then that
	// finds out whether the server is back.
	Open bool
}

// WatchBreakers adds the states of breakers, which are read when they are asked
// for.
func (m *Metrics) WatchBreakers(read func() []Breaker) {
	m.registry.MustRegister(breakerCollector(read))
}

type breakerCollector func() []Breaker

var breakerOpen = prometheus.NewDesc("tegami_breaker_open", "1 while calls to a server are refused at once, since it did not answer; 0 otherwise.", []string{"part", "server"}, nil)

// Describe implements prometheus.Collector.
func (breakerCollector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- breakerOpen }

// Collect implements prometheus.Collector.
func (read breakerCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, b := range read() {
		value := 0.0
		if b.Open {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(breakerOpen, prometheus.GaugeValue, value, b.Part, b.Server)
	}
}
