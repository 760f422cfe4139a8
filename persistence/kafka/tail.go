package kafka

import (
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// tails tells of growth. One watcher for each broker asks it, on a connection of
// its own, for the ends of all logs that are tailed: a fetch that waits until
// one of them grows. It asks for no more than a batch, since only the end is of
// interest. What this journal appends itself is told at once.
type tails struct {
	j *Journal

	mu       sync.Mutex // guards the following
	shards   map[uint32]*tailed
	watchers map[string]bool
	changed  chan struct{} // closed when there is something new to watch
}

// tailed is a shard that somebody tails.
type tailed struct {
	notify []*func(next int64)
	// next is the end as it was told last; -1 before it is known.
	next int64
}

func newTails(j *Journal) *tails {
	return &tails{j: j, shards: map[uint32]*tailed{}, watchers: map[string]bool{}, changed: make(chan struct{})}
}

// tailWait is how long a fetch waits for growth.
const tailWait = 500 * time.Millisecond

// Tail implements persistence.Journal. It first tells where the log ends by
// now.
func (j *Journal) Tail(shard uint32, notify func(next int64)) (stop func()) {
	if j.checkShard(shard) != nil {
		return func() {}
	}
	t, mine := j.tails, &notify
	t.mu.Lock()
	s := t.shards[shard]
	if s == nil {
		s = &tailed{}
		t.shards[shard] = s
	}
	s.next = -1
	s.notify = append(slices.Clone(s.notify), mine)
	t.mu.Unlock()
	t.wake()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s := t.shards[shard]; s != nil {
			s.notify = slices.DeleteFunc(slices.Clone(s.notify), func(n *func(int64)) bool { return n == mine })
			if len(s.notify) == 0 {
				delete(t.shards, shard)
			}
		}
	}
}

// wake has the watchers look at what there is to watch, and starts those that
// are missing.
func (t *tails) wake() {
	current := t.j.routes.current.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.changed)
	t.changed = make(chan struct{})
	addresses := []string{current.generations}
	for shard := range t.shards {
		addresses = append(addresses, current.shards[shard])
	}
	for _, address := range addresses {
		if address != "" && len(t.shards) > 0 && !t.watchers[address] {
			t.watchers[address] = t.j.goWith(func() { t.watch(address) })
		}
	}
	if slices.Contains(addresses, "") {
		t.j.routes.refresh()
	}
}

// grown tells that a shard's log ends at next.
func (t *tails) grown(shard uint32, next int64) {
	t.mu.Lock()
	s := t.shards[shard]
	if s == nil || s.next >= next {
		t.mu.Unlock()
		return
	}
	s.next = next
	notify := s.notify
	t.mu.Unlock()
	for _, n := range notify {
		(*n)(next)
	}
}

// watched returns the ends of the tailed logs that a broker leads, and whether
// there is anything to watch there: while a log is tailed, so are the
// generations.
func (t *tails) watched(address string) (ends map[uint32]int64, something bool, changed chan struct{}) {
	current := t.j.routes.current.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	ends = make(map[uint32]int64, len(t.shards))
	for shard, s := range t.shards {
		if current.shards[shard] == address {
			ends[shard] = s.next
		}
	}
	something = len(ends) > 0 || len(t.shards) > 0 && current.generations == address
	return ends, something, t.changed
}

// forget has a shard's end asked for again.
func (t *tails) forget(shard uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.shards[shard]; s != nil {
		s.next = -1
	}
}

// watch watches what one broker leads until the journal ends.
func (t *tails) watch(address string) {
	w := &watcher{tails: t, j: t.j, address: address, asked: map[int64]int64{}}
	defer w.disconnect()
	var failing outage
	ctx := t.j.running
	for ctx.Err() == nil {
		ends, something, changed := t.watched(address)
		if !something {
			w.disconnect()
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		wait := t.j.options.TailInterval
		if err := w.look(ends); err == nil {
			failing.over()
		} else {
			w.disconnect()
			if ctx.Err() == nil && failing.due() {
				t.j.options.Logger.Warn("cannot watch the ends of the logs; trying again", "broker", address, "error", err)
			}
			t.j.routes.refresh()
			wait = refreshPause
		}
		pause(ctx, wait)
	}
}

// watcher is one broker's watcher. It fetches in a session (KIP-227): the broker
// remembers what is watched and from where, a request names what changed only,
// and so does its answer. What hundreds of shards cost that nobody appends to is
// next to nothing.
type watcher struct {
	tails   *tails
	j       *Journal
	address string
	link    *link

	session int32 // 0: none
	epoch   int32 // of the next request in the session
	// asked is what the session's partitions were asked for from which offset.
	// The generations are key -1.
	asked map[int64]int64
}

const generationsKey = -1

func (w *watcher) endSession() { w.session, w.epoch, w.asked = 0, 0, map[int64]int64{} }

func (w *watcher) disconnect() {
	w.endSession()
	if w.link != nil {
		w.link.close()
		w.link = nil
	}
}

// look waits until one of the logs goes beyond its end, for tailWait at most,
// and tells of it.
func (w *watcher) look(ends map[uint32]int64) error {
	if w.link == nil {
		config := *w.j.config
		config.ClientID = w.j.options.ClientID + "-tail"
		l, err := connect(w.j.running, &config, w.address)
		if err != nil {
			return err
		}
		w.link = l
	}
	return w.link.do(w.j.running, func(broker *sarama.Broker) error {
		if err := w.find(broker, ends); err != nil {
			return err
		}
		return w.wait(broker, ends)
	})
}

// find asks where the logs end of which that is not known.
func (w *watcher) find(broker *sarama.Broker, ends map[uint32]int64) error {
	topic := w.j.options.Topic
	request := &sarama.OffsetRequest{Version: offsetsVersion}
	unknown := 0
	for shard, next := range ends {
		if next < 0 {
			request.AddBlock(topic, int32(shard), sarama.OffsetNewest, 1)
			unknown++
		}
	}
	if unknown == 0 {
		return nil
	}
	response, err := broker.GetAvailableOffsets(request)
	if err != nil {
		return err
	}
	for shard, next := range ends {
		if next >= 0 {
			continue
		}
		block := response.GetBlock(topic, int32(shard))
		if block == nil || block.Err != sarama.ErrNoError {
			delete(ends, shard) // the leader moves
			w.j.routes.refresh()
			continue
		}
		ends[shard] = block.Offset
		w.tails.grown(shard, block.Offset)
	}
	return nil
}

// wait waits until a log goes beyond its end.
func (w *watcher) wait(broker *sarama.Broker, ends map[uint32]int64) error {
	wanted := make(map[int64]int64, len(ends)+1)
	for shard, next := range ends {
		wanted[int64(shard)] = next
	}
	if w.j.routes.current.Load().generations == w.address {
		wanted[generationsKey] = w.j.generations.known()
	}
	response, err := broker.Fetch(w.request(wanted))
	if err != nil {
		return err
	}
	switch sarama.KError(response.ErrorCode) {
	case sarama.ErrNoError:
	case sarama.ErrFetchSessionIDNotFound, sarama.ErrInvalidFetchSessionEpoch:
		w.endSession() // the broker has forgotten it
		return nil
	default:
		return refused{sarama.KError(response.ErrorCode)}
	}
	if w.session = response.SessionID; w.session != 0 {
		w.epoch++
	} else {
		w.endSession()
	}
	return w.tell(response, wanted)
}

// request builds the next request of the session, or the first one of a session.
func (w *watcher) request(wanted map[int64]int64) *sarama.FetchRequest {
	for key := range w.asked {
		if _, still := wanted[key]; !still {
			// sarama cannot take partitions out of a session.
			w.endSession()
			break
		}
	}
	request := &sarama.FetchRequest{
		Version:      fetchVersion,
		MaxWaitTime:  int32(min(tailWait, w.j.options.Timeout/2) / time.Millisecond),
		MinBytes:     1,
		MaxBytes:     1, // a batch comes all the same
		SessionID:    w.session,
		SessionEpoch: w.epoch,
	}
	for key, next := range wanted {
		if at, known := w.asked[key]; known && at == next {
			continue
		}
		w.asked[key] = next
		if key == generationsKey {
			request.AddBlock(w.j.options.generationsTopic(), 0, next, 1, -1)
		} else {
			request.AddBlock(w.j.options.Topic, int32(key), next, 1, -1)
		}
	}
	return request
}

// tell tells what an answer says of growth.
func (w *watcher) tell(response *sarama.FetchResponse, wanted map[int64]int64) error {
	for partition, block := range response.Blocks[w.j.options.Topic] {
		next, asked := wanted[int64(partition)]
		switch {
		case !asked:
		case block.Err != sarama.ErrNoError:
			w.tails.forget(uint32(partition))
			w.j.routes.refresh()
		case block.HighWaterMarkOffset > next:
			w.tails.grown(uint32(partition), block.HighWaterMarkOffset)
		}
	}
	if block := response.GetBlock(w.j.options.generationsTopic(), 0); block != nil && block.HighWaterMarkOffset > wanted[generationsKey] {
		return w.j.refreshGenerations(w.j.running)
	}
	return nil
}
