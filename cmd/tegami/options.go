package main

import (
	"log/slog"

	"github.com/tegami-im/tegami/actors/node"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/api/limit"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/telemetry"
)

func storageOptions(c *config.Config, log *slog.Logger) embedded.Options {
	durability := persistence.DurabilityFsync
	if c.Journal.Durability == config.DurabilityOS {
		durability = persistence.DurabilityOS
	}
	return embedded.Options{
		Dir:          c.Data.Dir,
		Durability:   durability,
		Shards:       c.Data.Shards,
		CacheBytes:   int64(c.Data.CacheSize),
		ReserveBytes: uint64(c.Data.Reserve),
		Logger:       log,
	}
}

// measure has the metrics tell of the storage.
func (s *storage) measure(metrics *telemetry.Metrics) {
	s.journal, s.store, s.keys = metrics.Journal(s.journal), metrics.Store(s.store), metrics.Keys(s.keys)
	if s.cache != nil {
		s.cache = metrics.Cache(s.cache)
	}
	if s.publisher != nil {
		s.publisher = metrics.Publisher(s.publisher)
	}
	metrics.WatchBreakers(s.breakers)
	if s.embedded != nil {
		watchStorage(metrics, s.embedded)
	}
}

// watchStorage adds the counters and states of the storage to the metrics.
func watchStorage(metrics *telemetry.Metrics, storage *embedded.Storage) {
	stat := func(read func(embedded.Stats) float64) func() float64 {
		return func() float64 { return read(storage.Stats()) }
	}
	metrics.Counter("tegami_fsyncs_total", "Fsyncs of journal, store and keys.", stat(func(s embedded.Stats) float64 {
		return float64(s.Journal.Fsyncs + s.Store.Fsyncs + s.Keys.Fsyncs)
	}))
	metrics.Counter("tegami_journal_fsyncs_total", "Fsyncs of the journal.", stat(func(s embedded.Stats) float64 {
		return float64(s.Journal.Fsyncs)
	}))
	metrics.Counter("tegami_journal_fsync_seconds_total", "Time spent in fsyncs of the journal.", stat(func(s embedded.Stats) float64 {
		return s.Journal.FsyncTime.Seconds()
	}))
	metrics.Counter("tegami_journal_commits_total", "Group commits of the journal.", stat(func(s embedded.Stats) float64 {
		return float64(s.Commits)
	}))
	metrics.Counter("tegami_journal_records_total", "Records appended to the journal.", stat(func(s embedded.Stats) float64 {
		return float64(s.Records)
	}))
	metrics.Gauge("tegami_journal_queued_appends", "Appends that wait for the commit in flight.", stat(func(s embedded.Stats) float64 {
		return float64(s.QueuedAppends)
	}))
	metrics.Gauge("tegami_disk_free_bytes", "Free space on the disk of the data folder.", stat(func(s embedded.Stats) float64 {
		return float64(s.FreeBytes)
	}))
}

func nodeOptions(c *config.Config, s *storage, keys node.Keyring) node.Options {
	limits := shard.DefaultLimits()
	limits.CommandsPerShard = c.Limits.ShardCommands
	limits.CommandsPerMailbox = c.Limits.MailboxCommands
	limits.MailboxesPerShard = c.Mailbox.IdlePerShard
	limits.Idle = c.Mailbox.PassivateAfter
	limits.WriteAge = c.Store.WriteAge
	limits.Unstored = c.Store.UnstoredRecords
	limits.WriteRecords = min(c.Store.WriteRecords, c.Store.UnstoredRecords/2) // before the shard is full
	limits.TailOperations = c.Mailbox.TailOperations
	limits.TailBytes = int(c.Mailbox.TailSize)
	writers := 0 // as many as a node has by itself
	if c.Store.Kind == config.StoreHybrid {
		writers = c.HBase.Writers
	}
	return node.Options{
		Journal:  s.journal,
		Store:    s.store,
		Cache:    s.cache,
		Keys:     keys,
		Shards:   s.shards,
		Limits:   limits,
		Commands: c.Limits.Commands,

		ChatCopies: c.Mailbox.ChatCopies,
		Publisher:  s.publisher,

		Retention:          shard.Retention{Age: c.Retention.Age, Operations: c.Retention.Operations},
		CheckpointInterval: c.Store.CheckpointInterval,
		StoreWriters:       writers,
	}
}

func serverOptions(c *config.Config) server.Options {
	registrations := map[string]server.Registration{
		config.RegistrationLoopback: server.RegistrationLoopback,
		config.RegistrationOpen:     server.RegistrationOpen,
		config.RegistrationClosed:   server.RegistrationClosed,
	}
	proxies, _ := config.Networks(c.Server.Proxies) // validated
	options := server.Options{
		Listen:              c.Server.Listen,
		AdminListen:         c.Admin.Listen,
		TLS:                 server.TLSFiles{Cert: c.TLS.Cert, Key: c.TLS.Key},
		AllowCleartext:      c.Server.AllowPlaintext,
		Proxies:             proxies,
		AllowAdminCleartext: c.Admin.AllowPlaintext,
		Registration:        registrations[c.Auth.Registration],
		Passwords:           server.PasswordOptions{Concurrent: c.Auth.Hashes, Wait: c.Auth.HashWait},
		Limits: server.Limits{
			Requests:  c.Limits.Requests,
			HeldPolls: c.Limits.HeldPolls,
			Sends:     limit.Rate{PerSecond: float64(c.Limits.SendRate), Burst: c.Limits.SendBurst},
			Polls:     limit.Rate{PerSecond: float64(c.Limits.PollRate), Burst: c.Limits.PollBurst},
			Finds:     limit.Rate{PerSecond: float64(c.Limits.FindRate), Burst: c.Limits.FindBurst},
			SignIns:   limit.Rate{PerSecond: float64(c.Limits.AddressRate), Burst: c.Limits.AddressBurst},
		},
		HTTP: server.HTTPOptions{
			MaxConnections:       c.Limits.Connections,
			MaxHandshakes:        c.Limits.Handshakes,
			MaxStreams:           c.Limits.Streams,
			MaxRequestBytes:      int64(c.Limits.RequestSize),
			MaxAdminRequestBytes: int64(c.Limits.AdminSize),
		},
		Deadlines: server.Deadlines{Hold: c.Limits.PollTimeout},
	}
	options.Tokens.AccessTTL = c.Auth.AccessToken
	options.Tokens.RefreshTTL = c.Auth.RefreshToken
	return options
}
