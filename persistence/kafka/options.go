package kafka

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
)

// Mechanisms of SASL.
const (
	SASLPlain       = "PLAIN"
	SASLScramSHA256 = "SCRAM-SHA-256"
	SASLScramSHA512 = "SCRAM-SHA-512"
)

// SASL is a user's name and password, and how they are proved. PLAIN sends the
// password as it is: use it over TLS only.
type SASL struct {
	Mechanism, User, Password string
}

// Options of a journal. Brokers, Topic and Shards must be given; zero values of
// the rest stand for the defaults.
type Options struct {
	// Brokers are addresses to start from, as host:port.
	Brokers []string
	// Topic holds the records, one partition a shard; Topic + ".generations"
	// holds the shards' generations.
	Topic string
	// Shards is the number of shards, and of partitions. It never changes.
	Shards int
	// Replicas of each partition, for ApplySchema; the default is 3, or 1 with
	// AllowOneBroker.
	Replicas int
	// AllowOneBroker accepts a cluster of one broker, on which nothing is
	// replicated: the loss of its disk is the loss of the journal.
	AllowOneBroker bool
	// AcceptNewTopic is the operator's answer to a topic that was lost and
	// made again: ApplySchema starts a new generation of every shard.
	AcceptNewTopic bool
	// Timeout bounds every wait: that for the outcome of an append, and for the
	// answer of a broker to anything else. Default 3 s.
	Timeout time.Duration
	// CloseTimeout is how long Close waits for the outcome of appends; those
	// without one are then unknown. Default 500 ms: whoever closes has drained
	// before. It is at most Timeout.
	CloseTimeout time.Duration
	// QueueBytes bounds what waits for its outcome, over all shards: beyond it
	// appends are refused as busy. Default 64 MiB.
	QueueBytes int
	// MaxAppendBytes bounds one append; ApplySchema makes the topic take it.
	// Default 8 MiB.
	MaxAppendBytes int
	// InFlight is the number of produce requests on their way to one broker at
	// a time, at most 5, the default.
	InFlight int
	// Spacing is the least time between two produce requests to one broker: what
	// comes in between goes together, which saves processor time on both sides
	// under load and waits for nothing without. Default 1 ms; negative for none.
	Spacing time.Duration
	// TailInterval is the least time between two looks at the ends of the logs,
	// for others' appends. Default 100 ms.
	TailInterval time.Duration
	// Keep is for how long Truncate keeps what was written, for other readers,
	// though the stores have it. Default 0: no longer.
	Keep time.Duration
	// TruncateInterval is the least time between two truncations of a shard; in
	// between Truncate does nothing. Default 0.
	TruncateInterval time.Duration
	// TLS, when not nil, encrypts the connections.
	TLS *tls.Config
	// SASL, when not nil, is how the journal identifies itself.
	SASL *SASL
	// ClientID begins what brokers call this client in their logs and quotas:
	// appends come from ClientID-journal, reads from ClientID-read and the look for
	// others' appends from ClientID-tail. Default tegami.
	ClientID string
	// Logger takes the journal's log, and at level debug that of package sarama,
	// which has one for the process: the journal opened last gets it.
	Logger *slog.Logger

	// senderTime takes the sender's time for log time: the fake cluster of the
	// tests gives none.
	senderTime bool
}

// generationsTopic is the name of the topic that holds the generations.
func (o *Options) generationsTopic() string { return o.Topic + ".generations" }

// batchOverhead is more than a batch takes beside its records' data and
// entryOverhead for each of them.
const (
	batchOverhead = 1 << 10
	entryOverhead = 64
)

// maxMessageBytes is the largest batch that the topic must take.
func (o *Options) maxMessageBytes() int { return o.MaxAppendBytes + batchOverhead }

func orDefault[T int | time.Duration](value *T, otherwise T) {
	if *value == 0 {
		*value = otherwise
	}
}

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	orDefault(&o.Timeout, 3*time.Second)
	orDefault(&o.CloseTimeout, 500*time.Millisecond)
	orDefault(&o.QueueBytes, 64<<20)
	orDefault(&o.MaxAppendBytes, 8<<20)
	orDefault(&o.InFlight, 5)
	orDefault(&o.TailInterval, 100*time.Millisecond)
	orDefault(&o.Spacing, time.Millisecond)
	if o.AllowOneBroker {
		orDefault(&o.Replicas, 1)
	}
	orDefault(&o.Replicas, 3)
	if o.ClientID == "" {
		o.ClientID = "tegami"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(o.Brokers) == 0:
		return errors.New("no brokers given")
	case o.Topic == "":
		return errors.New("no topic given")
	case o.Shards < 1 || o.Shards > math.MaxInt16:
		return fmt.Errorf("%d shards: must be 1 to %d", o.Shards, math.MaxInt16)
	case o.Replicas < 1 || o.Replicas > math.MaxInt16:
		return fmt.Errorf("%d replicas: must be at least 1", o.Replicas)
	case o.Timeout < 10*time.Millisecond:
		return fmt.Errorf("timeout %v: must be at least 10 ms", o.Timeout)
	case o.InFlight < 1 || o.InFlight > 5:
		return fmt.Errorf("%d requests in flight: must be 1 to 5", o.InFlight)
	case o.MaxAppendBytes < 1<<10 || o.MaxAppendBytes > 64<<20:
		return fmt.Errorf("appends of %d bytes: must be 1 KiB to 64 MiB", o.MaxAppendBytes)
	case o.QueueBytes < o.MaxAppendBytes:
		return fmt.Errorf("a queue of %d bytes holds no append of %d", o.QueueBytes, o.MaxAppendBytes)
	}
	return nil
}

// dialTimeout is how long a connection may take to be made, so that there is
// time for another broker.
func (o *Options) dialTimeout() time.Duration { return o.Timeout / 3 }

// config returns the settings of sarama's connections under a client id.
func (o *Options) config(clientID string) (*sarama.Config, error) {
	c := sarama.NewConfig()
	// The version only limits which requests may be built; what a broker
	// understands is agreed on with each.
	c.Version = sarama.V3_7_0_0
	c.ClientID = clientID
	c.Net.MaxOpenRequests = o.InFlight
	c.Net.DialTimeout = o.dialTimeout()
	c.Net.ReadTimeout = o.Timeout
	c.Net.WriteTimeout = o.Timeout / 3
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = false
	c.Producer.Retry.Max = 0
	if o.TLS != nil {
		c.Net.TLS.Enable = true
		c.Net.TLS.Config = o.TLS
	}
	if s := o.SASL; s != nil {
		c.Net.SASL.Enable = true
		c.Net.SASL.Mechanism = sarama.SASLMechanism(s.Mechanism)
		c.Net.SASL.User, c.Net.SASL.Password = s.User, s.Password
		switch s.Mechanism {
		case SASLPlain:
		case SASLScramSHA256:
			c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scram{hash: sha256.New} }
		case SASLScramSHA512:
			c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scram{hash: sha512.New} }
		default:
			return nil, fmt.Errorf("SASL mechanism %q: must be %s, %s or %s", s.Mechanism, SASLPlain, SASLScramSHA256, SASLScramSHA512)
		}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// sarama counts into a registry of go-metrics, whose meters are kept for ever
// and tick on a goroutine that never ends. Nothing here reads them.
func init() { metrics.UseNilMetrics = true }
