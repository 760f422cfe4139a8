package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
)

// The model: one partition of a topic, whose owner changes at random times. An
// owner is asked to let go, or is lost: then it goes on for a while beside the
// next one, as a process that was paused would, and what it marks no longer
// counts. The task fails, panics and dawdles at random.
type model struct {
	t      *testing.T
	random *rand.Rand
	log    []*sarama.ConsumerMessage

	mu        sync.Mutex // guards the following
	committed int64
	// ended has when the event at an offset was first handled or given up, as a
	// count; -1 for not yet. What was published again shares it.
	ended  []*int
	count  int
	commit int
}

const (
	modelKeys   = 6
	modelEvents = 150
)

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, random: rand.New(rand.NewPCG(seed, 0))}
	journal := map[string]int64{}
	byPlace := map[string]*int{}
	for len(m.log) < modelEvents {
		user := fmt.Sprint(m.random.IntN(modelKeys))
		first := journal[user]
		if m.random.IntN(20) == 0 { // the publisher begins again from an earlier one
			first = max(0, first-int64(m.random.IntN(5)))
		}
		for at := first; at <= journal[user]; at++ {
			place := fmt.Sprint(user, "/", at)
			if byPlace[place] == nil {
				byPlace[place] = new(int)
				*byPlace[place] = -1
			}
			m.log = append(m.log, message(t, user, at, int64(len(m.log))))
			m.ended = append(m.ended, byPlace[place])
		}
		journal[user]++
	}
	return m
}

func (m *model) chance(percent int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(100) < percent
}

func (m *model) within(d time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.random.Int64N(int64(d)))
}

// end takes that an event was handled or given up, and checks the order.
func (m *model) end(offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if *m.ended[offset] >= 0 {
		return
	}
	*m.ended[offset] = m.count
	m.count++
	for before := range offset {
		if string(m.log[before].Key) == string(m.log[offset].Key) && *m.ended[before] < 0 {
			m.t.Errorf("%s: event %d ends before %d", m.log[offset].Key, offset, before)
		}
	}
}

// owner is one owner's view.
type owner struct {
	*model
	lost bool
	busy sync.Map // keys that are being handled
}

func (o *owner) Handle(ctx context.Context, e *Event) error {
	if _, taken := o.busy.LoadOrStore(e.User, true); taken {
		o.t.Errorf("two events of %s are handled at a time", e.User)
	}
	defer o.busy.Delete(e.User)
	if o.chance(50) {
		pass(o.within(300 * time.Millisecond))
	}
	switch {
	case o.chance(20):
		return errors.New("not now")
	case o.chance(2):
		return Permanent(errors.New("never"))
	case o.chance(2):
		panic("a bug")
	}
	o.end(e.Offset)
	return nil
}

func (o *owner) bury(_ context.Context, l letter) error {
	if o.chance(30) {
		return errors.New("no broker")
	}
	o.end(l.record.offset)
	return nil
}

func (o *owner) Mark(next int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost {
		return
	}
	if next < o.committed {
		o.t.Errorf("committed %d after %d", next, o.committed)
	}
	for offset := range next {
		if *o.ended[offset] < 0 {
			o.t.Errorf("%d is committed, and %d has not ended", next, offset)
		}
	}
	o.committed = next
	o.commit++
}

func (*owner) Pause()  {}
func (*owner) Resume() {}

// own has one owner work for a while.
func (m *model) own(zombies *sync.WaitGroup) {
	o := &owner{model: m}
	options := Options{
		Name: "model", InFlight: 3, Window: 20, KeyQueue: 5, Attempts: 4,
		Backoff: 50 * time.Millisecond, MaxBackoff: time.Second, DrainTimeout: 200 * time.Millisecond,
		CommitInterval: 100 * time.Millisecond, SeenKeys: 2,
	}
	if err := options.complete(); err != nil {
		m.t.Fatal(err)
	}
	p := newPartition(newProcessor(o, options, o.bury), Source{Topic: "events"}, false, o)
	m.mu.Lock()
	from := m.committed
	m.mu.Unlock()
	messages := make(chan *sarama.ConsumerMessage)
	ended := make(chan error, 1)
	go func() { ended <- p.run(m.t.Context(), messages) }()
	revoked := time.After(m.within(5 * time.Second))
	for _, record := range m.log[from:] {
		select {
		case messages <- record:
			continue
		case <-revoked:
		}
		revoked = time.After(0)
		break
	}
	<-revoked
	if m.chance(50) {
		m.mu.Lock()
		o.lost = true
		m.mu.Unlock()
		zombies.Go(func() {
			pass(m.within(10 * time.Second))
			m.revoke(messages, ended)
		})
		return
	}
	m.revoke(messages, ended)
}

func (m *model) revoke(messages chan<- *sarama.ConsumerMessage, ended <-chan error) {
	close(messages)
	if err := <-ended; err != nil {
		m.t.Error(err)
	}
}

// Under random failures, revocations and losses of owners, every event ends, in
// the order of its key, and nothing is committed that has not ended.
func TestModel(t *testing.T) {
	owners := 0
	for seed := range uint64(150) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed)
				var zombies sync.WaitGroup
				for m.committed < int64(len(m.log)) && !t.Failed() {
					m.own(&zombies)
					if owners++; owners > 1_000_000 {
						t.Fatal("it does not come to an end")
					}
				}
				zombies.Wait()
				for offset, ended := range m.ended {
					if *ended < 0 {
						t.Errorf("event %d is missing", offset)
					}
				}
			})
		})
	}
	t.Logf("%d owners", owners)
}
