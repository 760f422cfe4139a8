package kafka

import (
	"log/slog"
	"time"

	"github.com/IBM/sarama"
)

// ClientConfig returns settings for a client of package sarama that connects as
// the options say, under a client id of its own, which is what brokers count
// quotas by. Of the options only Timeout, TLS, SASL and Logger are used. What
// the client produces is acknowledged by all in-sync replicas, and is neither
// lost nor doubled by the client's own retries.
func ClientConfig(o Options, clientID string) (*sarama.Config, error) {
	orDefault(&o.Timeout, 3*time.Second)
	o.InFlight = 1
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := o.config(clientID)
	if err != nil {
		return nil, err
	}
	saramaLog.logger.Store(o.Logger)
	c.Producer.Idempotent = true
	c.Producer.Return.Successes = true
	c.Producer.Timeout = o.Timeout
	c.Producer.Retry.Max = 3
	c.Metadata.Retry.Max = 3
	c.Metadata.AllowAutoTopicCreation = false
	return c, nil
}
