package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/IBM/sarama"
)

// DefaultClient stands for all clients that have no quota of their own.
const DefaultClient = "*"

// Quota is what a client, by its client id, may take of each broker; 0 stands
// for no limit. A client that takes more is not refused: the broker answers it
// later, and reads nothing from it meanwhile, so that others go on.
type Quota struct {
	Client string
	// ProduceBytes and FetchBytes are bytes a second.
	ProduceBytes, FetchBytes float64
	// RequestPercent is the time of a broker's network and I/O threads, where 100
	// is one thread.
	RequestPercent float64
}

// The keys of Kafka's for quotas.
const (
	produceRate = "producer_byte_rate"
	fetchRate   = "consumer_byte_rate"
	requestRate = "request_percentage"
)

// withAdmin runs a call of the admin protocol. Error: ErrUnavailable. It is left behind when the
// context ends: each has a limit of its own.
func withAdmin(ctx context.Context, o Options, call func(sarama.ClusterAdmin) error) error {
	config, err := ClientConfig(o, "tegami-admin")
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		admin, err := sarama.NewClusterAdmin(o.Brokers, config)
		if err != nil {
			done <- err
			return
		}
		done <- errors.Join(call(admin), admin.Close())
	}()
	select {
	case err := <-done:
		return Unanswered(ctx, err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SetQuota sets all limits of a client, and takes away those that are 0.
func SetQuota(ctx context.Context, o Options, q Quota) error {
	if q.Client == "" {
		return errors.New("a quota needs a client")
	}
	for _, limit := range []float64{q.ProduceBytes, q.FetchBytes, q.RequestPercent} {
		if !(limit >= 0 && limit <= math.MaxInt64) { // nor NaN
			return fmt.Errorf("a limit of %v: it must be 0 or more, and a number", limit)
		}
	}
	entity := sarama.QuotaEntityComponent{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: q.Client}
	if q.Client == DefaultClient {
		entity.MatchType, entity.Name = sarama.QuotaMatchDefault, ""
	}
	return withAdmin(ctx, o, func(admin sarama.ClusterAdmin) error {
		for _, limit := range []struct {
			key   string
			value float64
		}{{produceRate, q.ProduceBytes}, {fetchRate, q.FetchBytes}, {requestRate, q.RequestPercent}} {
			op := sarama.ClientQuotasOp{Key: limit.key, Value: limit.value, Remove: limit.value == 0}
			if err := admin.AlterClientQuotas([]sarama.QuotaEntityComponent{entity}, op, false); err != nil {
				return fmt.Errorf("set %s of %s: %w", limit.key, q.Client, err)
			}
		}
		return nil
	})
}

// Quotas returns those of all clients, by name. Quotas of users or addresses
// are not among them.
func Quotas(ctx context.Context, o Options) ([]Quota, error) {
	var quotas []Quota
	err := withAdmin(ctx, o, func(admin sarama.ClusterAdmin) error {
		entries, err := admin.DescribeClientQuotas([]sarama.QuotaFilterComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchAny}}, true)
		if err != nil {
			return fmt.Errorf("ask for the quotas: %w", err)
		}
		for _, entry := range entries {
			q := Quota{ProduceBytes: entry.Values[produceRate], FetchBytes: entry.Values[fetchRate], RequestPercent: entry.Values[requestRate]}
			for _, part := range entry.Entity {
				q.Client = part.Name
				if part.MatchType == sarama.QuotaMatchDefault {
					q.Client = DefaultClient
				}
			}
			quotas = append(quotas, q)
		}
		return nil
	})
	slices.SortFunc(quotas, func(a, b Quota) int { return cmp.Compare(a.Client, b.Client) })
	return quotas, err
}
