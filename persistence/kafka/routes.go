package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// table says which broker leads what, by address. An empty address: nobody does
// at the moment.
type table struct {
	brokers     []string
	controller  string
	shards      []string
	generations string
	// topic is the topic's own id, which a topic made again does not share.
	topic string
	// partitions and replicas are those of the topic; 0 when it does not exist.
	partitions, replicas int
	// generationsExists: the topic of the generations does.
	generationsExists bool
}

// routes keeps the table. It is fetched again when somebody finds it wrong, by
// one goroutine, and not more often than every refreshPause.
type routes struct {
	options *Options
	config  *sarama.Config
	topics  []string
	changed func() // called after each change, from the goroutine that refreshes

	current atomic.Pointer[table]
	wanted  chan struct{} // holds at most one token

	mu   sync.Mutex    // guards next
	next chan struct{} // closed when a table was fetched
}

const refreshPause = 100 * time.Millisecond

func newRoutes(o *Options, config *sarama.Config, topics []string, changed func()) *routes {
	r := &routes{options: o, config: config, topics: topics, changed: changed, wanted: make(chan struct{}, 1), next: make(chan struct{})}
	r.current.Store(&table{shards: make([]string, o.Shards)})
	return r
}

// refresh has the table fetched again. It does not wait.
func (r *routes) refresh() {
	select {
	case r.wanted <- struct{}{}:
	default:
	}
}

// run refreshes until the context ends.
func (r *routes) run(ctx context.Context) {
	var failing outage
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wanted:
		}
		if err := r.fetch(ctx); err == nil {
			failing.over()
		} else {
			if ctx.Err() == nil && failing.due() {
				r.options.Logger.Warn("no broker tells who leads what; asking again", "error", err)
			}
			r.refresh()
		}
		if !pause(ctx, refreshPause) {
			return
		}
	}
}

// pause waits, and reports whether the context still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// fetch asks one broker after another until one answers.
func (r *routes) fetch(ctx context.Context) error {
	addresses := slices.Clone(r.current.Load().brokers)
	for _, seed := range r.options.Brokers {
		if !slices.Contains(addresses, seed) {
			addresses = append(addresses, seed)
		}
	}
	var failures []error
	for _, address := range addresses {
		t, err := r.ask(ctx, address)
		if err == nil {
			r.current.Store(t)
			r.mu.Lock()
			close(r.next)
			r.next = make(chan struct{})
			r.mu.Unlock()
			r.changed()
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (r *routes) ask(ctx context.Context, address string) (*table, error) {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	l, err := connect(ctx, r.config, address)
	if err != nil {
		return nil, err
	}
	defer l.close()
	request := sarama.NewMetadataRequest(r.config.Version, r.topics)
	var response *sarama.MetadataResponse
	err = l.do(ctx, func(broker *sarama.Broker) (err error) {
		response, err = broker.GetMetadata(request)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask broker %s for metadata: %w", address, err)
	}
	return newTable(r.options, response)
}

func newTable(o *Options, response *sarama.MetadataResponse) (*table, error) {
	t := &table{shards: make([]string, o.Shards)}
	byID := map[int32]string{}
	for _, broker := range response.Brokers {
		byID[broker.ID()] = broker.Addr()
		t.brokers = append(t.brokers, broker.Addr())
	}
	t.controller = byID[response.ControllerID]
	for _, topic := range response.Topics {
		if topic.Err != sarama.ErrNoError {
			if topic.Err != sarama.ErrUnknownTopicOrPartition && topic.Err != sarama.ErrLeaderNotAvailable {
				return nil, fmt.Errorf("topic %s: %w", topic.Name, topic.Err)
			}
			continue
		}
		for _, partition := range topic.Partitions {
			leader := byID[partition.Leader]
			switch {
			case topic.Name == o.generationsTopic():
				t.generations, t.generationsExists = leader, true
			case int(partition.ID) < o.Shards:
				t.shards[partition.ID] = leader
			}
			if topic.Name == o.Topic {
				t.replicas = len(partition.Replicas)
			}
		}
		if topic.Name == o.Topic {
			t.topic, t.partitions = topic.Uuid.String(), len(topic.Partitions)
		}
	}
	return t, nil
}

// await returns an address out of the table, once there is one.
func (r *routes) await(ctx context.Context, of func(*table) string) (string, error) {
	for {
		r.mu.Lock()
		next := r.next
		r.mu.Unlock()
		if address := of(r.current.Load()); address != "" {
			return address, nil
		}
		r.refresh()
		select {
		case <-next:
		case <-ctx.Done():
			return "", fmt.Errorf("no broker leads it: %w", context.Cause(ctx))
		}
	}
}
