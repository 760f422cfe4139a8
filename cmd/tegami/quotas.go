package main

import (
	"context"
	"strconv"
	"text/tabwriter"

	"github.com/tegami-im/tegami/persistence/kafka"
)

// quotasCommand is what is done with the quotas of Kafka's clients.
type quotasCommand struct {
	Set    quotasSetCommand    `cmd:"" help:"Limit a client."`
	List   quotasListCommand   `cmd:"" help:"List the limits of all clients."`
	Remove quotasRemoveCommand `cmd:"" help:"Take a client's limits away."`
}

// kafkaFlags are the flags of commands that connect to Kafka alone.
type kafkaFlags struct{ configFlags }

func (f *kafkaFlags) options(std streams) (kafka.Options, error) {
	loaded, err := loadHybrid(&f.configFlags, std)
	if err != nil {
		return kafka.Options{}, err
	}
	return kafkaOptions(&loaded.Config, newLogger(loaded.Log, std))
}

type quotasSetCommand struct {
	kafkaFlags
	Client  string  `arg:"" help:"The client id; * for all that have no limits of their own."`
	Produce float64 `placeholder:"BYTES" help:"Bytes a second that it may write to each broker."`
	Fetch   float64 `placeholder:"BYTES" help:"Bytes a second that it may read from each broker."`
	Request float64 `placeholder:"PERCENT" help:"Share of a broker's threads, where 100 is one thread."`
}

func (quotasSetCommand) Help() string {
	return `What is not given is not limited. A client that takes more is slowed down by the brokers, which answer it later. The client ids of Tegami's own parts begin with tegami-: a limit for * holds for them too, unless they have limits of their own.

Examples:
  tegami admin quotas set --config /etc/tegami.yaml search-indexer --fetch 1048576 --request 25`
}

func (c *quotasSetCommand) Run(ctx context.Context, std streams) error {
	if c.Produce <= 0 && c.Fetch <= 0 && c.Request <= 0 {
		return usagef("give --produce, --fetch or --request, above 0")
	}
	options, err := c.options(std)
	if err != nil {
		return err
	}
	return kafka.SetQuota(ctx, options, kafka.Quota{Client: c.Client, ProduceBytes: c.Produce, FetchBytes: c.Fetch, RequestPercent: c.Request})
}

type quotasListCommand struct{ kafkaFlags }

func (c *quotasListCommand) Run(ctx context.Context, std streams) error {
	options, err := c.options(std)
	if err != nil {
		return err
	}
	quotas, err := kafka.Quotas(ctx, options)
	if err != nil {
		return err
	}
	limit := func(value float64) string {
		if value == 0 {
			return "-"
		}
		return strconv.FormatFloat(value, 'f', -1, 64)
	}
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = table.Write([]byte("CLIENT\tPRODUCE\tFETCH\tREQUEST\n"))
	for _, q := range quotas {
		_, _ = table.Write([]byte(q.Client + "\t" + limit(q.ProduceBytes) + "\t" + limit(q.FetchBytes) + "\t" + limit(q.RequestPercent) + "\n"))
	}
	return table.Flush()
}

type quotasRemoveCommand struct {
	kafkaFlags
	Client string `arg:"" help:"The client id; * for the limits of all that have none of their own."`
}

func (c *quotasRemoveCommand) Run(ctx context.Context, std streams) error {
	options, err := c.options(std)
	if err != nil {
		return err
	}
	return kafka.SetQuota(ctx, options, kafka.Quota{Client: c.Client})
}
