package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/worker"
	"github.com/tegami-im/tegami/worker/analytics"
)

// adminCommand is what is done to the stores of a hybrid store, apart from
// running on them.
type adminCommand struct {
	Schema struct {
		Apply schemaApplyCommand `cmd:"" help:"Make topics and tables, and check those that are there."`
	} `cmd:"" help:"Topics of Kafka and tables of HBase."`
	Cert struct {
		Authority certAuthorityCommand `cmd:"" help:"Make an authority in a folder."`
		Node      certNodeCommand      `cmd:"" help:"Make the certificate of a node."`
	} `cmd:"" help:"Certificates for the nodes of a cluster, for those who have no authority of their own."`
	Quotas quotasCommand `cmd:"" help:"What each client of Kafka may take."`
}

type schemaApplyCommand struct {
	configFlags
	AcceptNewTopic bool `help:"The topic was deleted and made again: accept that its records are lost, and start a new generation of every shard."`
}

func (schemaApplyCommand) Help() string {
	return `Makes the topics and tables that a hybrid store needs, and checks the settings of those that exist: it says what is wrong with them and how to mend it. It may be run again at any time. The number of shards is fixed from then on.

Examples:
  tegami admin schema apply --config deploy/local/hybrid.yaml`
}

func (c *schemaApplyCommand) Run(ctx context.Context, std streams) error {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	if loaded.Store.Kind != config.StoreHybrid {
		return usagef("store.kind is %s: only a hybrid store has a schema", loaded.Store.Kind)
	}
	log := newLogger(loaded.Log, std)
	options, err := kafkaOptions(&loaded.Config, log)
	if err != nil {
		return err
	}
	options.AcceptNewTopic = c.AcceptNewTopic
	topics := append(workerTopics(&loaded.Config).Specs(), analytics.Spec(loaded.Analytics.Topic))
	err = errors.Join(
		named("kafka", kafka.ApplySchema(ctx, options)),
		named("kafka", applyEvents(ctx, &loaded.Config, options)),
		named("kafka", worker.ApplyTopics(ctx, options, topics...)),
		named("hbase", hbase.ApplySchema(ctx, hbaseOptions(&loaded.Config, log))),
	)
	if err == nil {
		std.printf("Topics and tables are there and as they should be, for %d shards.\n", loaded.Data.Shards)
	}
	return err
}

// applyEvents makes and checks the topic of events, where there are events.
func applyEvents(ctx context.Context, c *config.Config, connection kafka.Options) error {
	if !c.Events.Enabled {
		return nil
	}
	return kafka.ApplyEventsSchema(ctx, eventsOptions(c, connection))
}

func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
