package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/persistence/redis"
	"github.com/tegami-im/tegami/telemetry"
)

// storage is where a server keeps its data.
type storage struct {
	journal persistence.Journal
	store   persistence.Store
	keys    persistence.Keys
	cache   persistence.Cache // nil: there is none
	// repairer, cacheRepairer and adopter are store, cache and keys for those who
	// mend or move what is in them.
	repairer      persistence.Repairer
	cacheRepairer persistence.CacheRepairer // nil: there is none
	adopter       persistence.KeyAdopter
	// publisher takes events; nil: there are none.
	publisher persistence.Publisher
	shards    int
	// embedded is nil where the data is not in the data folder.
	embedded *embedded.Storage
	// breakers returns the states of the servers' circuit breakers.
	breakers func() []telemetry.Breaker
	// open are to be closed, the last one first.
	open []io.Closer
}

// openStorage opens what the configuration names. The caller must close it.
func openStorage(ctx context.Context, c *config.Config, log *slog.Logger, p patience) (*storage, error) {
	if c.Store.Kind == config.StoreHybrid {
		return openHybrid(ctx, c, log, p)
	}
	s, err := embedded.Open(storageOptions(c, log)) //nolint:contextcheck // what it starts outlives ctx, until Close
	if err != nil {
		return nil, err
	}
	return &storage{
		journal: s.Journal, store: s.Store, repairer: s.Store, keys: s.Keys, adopter: s.Keys, shards: s.Shards, embedded: s, open: []io.Closer{s},
		breakers: func() []telemetry.Breaker { return nil },
	}, nil
}

func (s *storage) Close() error {
	var errs []error
	for len(s.open) > 0 {
		last := len(s.open) - 1
		errs = append(errs, s.open[last].Close())
		s.open = s.open[:last]
	}
	return errors.Join(errs...)
}

// openHybrid connects to Kafka, HBase and Redis. Redis may be away; the others
// are waited for.
func openHybrid(ctx context.Context, c *config.Config, log *slog.Logger, p patience) (_ *storage, err error) {
	s := &storage{shards: c.Data.Shards}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.MkdirAll(c.Data.Dir, 0o700); err != nil {
		return nil, err
	}
	kafkaOptions, err := kafkaOptions(c, log)
	if err != nil {
		return nil, err
	}
	journal, err := reach(ctx, p, "kafka", c.Kafka.Brokers, func(ctx context.Context) (*kafka.Journal, error) {
		return kafka.Open(ctx, kafkaOptions)
	})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	s.journal, s.open = journal, append(s.open, journal)
	store, err := reach(ctx, p, "hbase", c.HBase.ZooKeeper, func(ctx context.Context) (*hbase.Store, error) {
		return hbase.OpenStore(ctx, hbaseOptions(c, log))
	})
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.store, s.repairer, s.open = store, store, append(s.open, store)
	keys, err := reach(ctx, p, "hbase", c.HBase.ZooKeeper, func(ctx context.Context) (*hbase.Keys, error) {
		return hbase.OpenKeys(ctx, hbaseOptions(c, log))
	})
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	s.keys, s.adopter, s.open = keys, keys, append(s.open, keys)
	s.breakers = func() []telemetry.Breaker {
		return []telemetry.Breaker{
			{Part: "store", Server: c.HBase.ZooKeeper, Open: store.Refusing()},
			{Part: "keys", Server: c.HBase.ZooKeeper, Open: keys.Refusing()},
		}
	}
	if c.Events.Enabled {
		events, err := reach(ctx, p, "kafka", c.Kafka.Brokers, func(ctx context.Context) (*kafka.Events, error) {
			return kafka.OpenEvents(ctx, eventsOptions(c, kafkaOptions))
		})
		if err != nil {
			return nil, err
		}
		s.publisher, s.open = events, append(s.open, events)
	}
	if c.Redis.Addresses == "" {
		return s, nil
	}
	redisOptions, err := redisOptions(c, log)
	if err != nil {
		return nil, err
	}
	cache, err := redis.Open(redisOptions)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	s.cache, s.cacheRepairer, s.open = cache, cache, append(s.open, cache)
	ofHBase := s.breakers
	s.breakers = func() []telemetry.Breaker {
		all := ofHBase()
		for server, open := range cache.Refusing() {
			all = append(all, telemetry.Breaker{Part: "cache", Server: server, Open: open})
		}
		return all
	}
	return s, nil
}

func kafkaOptions(c *config.Config, log *slog.Logger) (kafka.Options, error) {
	options := kafka.Options{
		Brokers:        list(c.Kafka.Brokers),
		Topic:          c.Kafka.Topic,
		Shards:         c.Data.Shards,
		Replicas:       c.Kafka.Replicas,
		AllowOneBroker: c.Kafka.AllowOneBroker,
		Timeout:        c.Kafka.Timeout,
		Keep:           c.Kafka.Keep,

		TruncateInterval: c.Kafka.Truncate,

		Logger: log.With("store", "kafka"),
	}
	if c.Kafka.AllowOneBroker {
		options.Replicas = 1
	}
	var err error
	if c.Kafka.TLS {
		if options.TLS, err = clientTLS(c.Kafka.CA); err != nil {
			return options, fmt.Errorf("kafka.ca: %w", err)
		}
	}
	if c.Kafka.Mechanism != "none" {
		password, err := readPassword(c.Kafka.PasswordFile)
		if err != nil {
			return options, fmt.Errorf("kafka.password_file: %w", err)
		}
		options.SASL = &kafka.SASL{Mechanism: c.Kafka.Mechanism, User: c.Kafka.User, Password: password}
	}
	return options, nil
}

func eventsOptions(c *config.Config, connection kafka.Options) kafka.EventsOptions {
	return kafka.EventsOptions{
		Connection: connection,
		Topic:      c.Events.Topic,
		Partitions: c.Events.Partitions,
		Retention:  c.Events.Retention,
	}
}

func hbaseOptions(c *config.Config, log *slog.Logger) hbase.Options {
	durability := hbase.DurabilitySync
	if c.HBase.Durability == config.HBaseFsync {
		durability = hbase.DurabilityFsync
	}
	return hbase.Options{
		ZooKeeper:      c.HBase.ZooKeeper,
		ZooKeeperRoot:  c.HBase.Root,
		User:           c.HBase.User,
		TablePrefix:    c.HBase.Prefix,
		Shards:         c.Data.Shards,
		Regions:        c.HBase.Regions,
		Compression:    c.HBase.Compression,
		Durability:     durability,
		RequestTimeout: c.HBase.Timeout,
		Requests:       c.HBase.Requests,
		Loads:          c.HBase.Loads,
		Logger:         log.With("store", "hbase"),
	}
}

func redisOptions(c *config.Config, log *slog.Logger) (redis.Options, error) {
	options := redis.Options{
		Addresses:    list(c.Redis.Addresses),
		Cluster:      c.Redis.Cluster,
		Username:     c.Redis.User,
		Prefix:       c.Redis.Prefix,
		Expiry:       c.Redis.Expiry,
		MaxRows:      c.Redis.Rows,
		DialTimeout:  c.Redis.Timeout,
		ReadTimeout:  c.Redis.Timeout,
		WriteTimeout: c.Redis.Timeout,
		PoolSize:     c.Redis.Connections,
		Logger:       log.With("store", "redis"),
	}
	var err error
	if c.Redis.TLS {
		if options.TLS, err = clientTLS(c.Redis.CA); err != nil {
			return options, fmt.Errorf("redis.ca: %w", err)
		}
	}
	if c.Redis.PasswordFile != "" {
		if options.Password, err = readPassword(c.Redis.PasswordFile); err != nil {
			return options, fmt.Errorf("redis.password_file: %w", err)
		}
	}
	return options, nil
}

// list splits a value that is several, separated by commas.
func list(value string) []string {
	var all []string
	for one := range strings.SplitSeq(value, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}

func readPassword(file string) (string, error) {
	content, err := os.ReadFile(file) //nolint:gosec // the operator's own file
	return string(bytes.TrimRight(content, "\r\n")), err
}

// clientTLS trusts the authority in a file, or the system's.
func clientTLS(ca string) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return settings, nil
	}
	pem, err := os.ReadFile(ca) //nolint:gosec // the operator's own file
	if err != nil {
		return nil, err
	}
	settings.RootCAs = x509.NewCertPool()
	if !settings.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return settings, nil
}
