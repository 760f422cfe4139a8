package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
)

// What a node of several says when it is not fit to have shards.
const (
	// unfitJournal: it cannot reach the journal. It goes on with what it has until
	// others have taken it over.
	unfitJournal = "journal"
	// unfitNetwork: it is cut off from all gateways, at least one way.
	unfitNetwork = "network"
	// unfitClock: its clock is not the journal's. It appends nothing meanwhile.
	unfitClock = "clock"
)

// UnfitReasons are those that Unfit returns.
var UnfitReasons = []string{unfitJournal, unfitNetwork, unfitClock}

const (
	// lookEvery is how often a node looks whether it reaches the journal, and
	// lookLimit how long it waits for that.
	lookEvery = 500 * time.Millisecond
	lookLimit = time.Second
	// journalAway and networkAway are after how long without the journal, or a
	// gateway, it gives its shards up.
	journalAway = 2 * time.Second
	networkAway = 2 * time.Second
	// clockOff is how far the clocks may be apart, clockEvery how often a node whose
	// clock was too far off compares again.
	clockOff   = 5 * time.Second
	clockEvery = 5 * time.Second
)

// fitness watches whether this node is fit to have shards, and has the others
// know, together with which shards it serves.
type fitness struct {
	node   *Node
	cancel context.CancelFunc
	done   sync.WaitGroup
	// wrong: the clock was off when it was compared last.
	wrong atomic.Bool

	mu     sync.Mutex // guards the following
	serves cluster.ShardSet
	reason string
}

// startFitness begins to watch, in a talk node of several.
func (n *Node) startFitness() error {
	if n.options.Cluster == nil || n.options.Journal == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.fitness = &fitness{node: n, cancel: cancel}
	n.fitness.done.Go(func() { n.fitness.watch(ctx) })
	return nil
}

func (f *fitness) close() {
	f.cancel()
	f.done.Wait()
}

// watch looks at the journal until it is closed.
func (f *fitness) watch(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	reached, compared := time.Now(), time.Time{}
	connected := reached
	for look := 0; ; look++ {
		if err := f.look(ctx, uint32(look%f.node.options.Shards)); err == nil {
			reached = time.Now()
		}
		if gateways, some := f.node.hub.Gateways(); gateways == 0 || some > 0 {
			connected = time.Now()
		}
		if time.Since(compared) > clockEvery && (f.wrong.Load() || compared.IsZero()) {
			compared = time.Now()
			f.compare()
		}
		switch {
		case ctx.Err() != nil:
			return
		case f.wrong.Load():
			f.set(unfitClock)
		case time.Since(reached) >= journalAway:
			f.set(unfitJournal)
		case time.Since(connected) >= networkAway:
			f.set(unfitNetwork)
		default:
			f.set("")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look reaches for the log of a shard: for each in turn, since they lie on
// several servers.
func (f *fitness) look(ctx context.Context, id uint32) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	_, err := f.node.options.Journal.Bounds(ctx, id)
	return err
}

// compare appends a record that changes nothing, for its log time.
func (f *fitness) compare() {
	nothing := &record.Record{
		Id:   f.node.newRecord("").GetId(),
		Kind: &record.Record_Version{Version: &record.Version{ApplyVersion: 1}},
	}
	data, err := proto.Marshal(nothing)
	if err != nil {
		return
	}
	sent := time.Now()
	f.node.options.Journal.Append(0, [][]byte{data}, func(landed persistence.Appended, err error) {
		if err == nil {
			f.clock(shard.Ahead(landed.Time, sent, time.Now()))
		}
	})
}

// clock hears how far the journal's clock is ahead.
func (f *fitness) clock(ahead time.Duration) {
	wrong := ahead.Abs() > clockOff
	if wrong == f.wrong.Load() || f.wrong.Swap(wrong) == wrong {
		return
	}
	if wrong {
		f.node.options.Logger.Error("this machine's clock is wrong: nothing is appended", "behind_the_journal", ahead)
	} else {
		f.node.options.Logger.Info("this machine's clock is right again")
	}
}

// refusal returns why nothing is to be appended; nil mostly.
func (f *fitness) refusal() *refusal.Refusal {
	if f.wrong.Load() {
		return refusal.After(refusal.WrongClock, time.Second)
	}
	return nil
}

// set has the others know whether this node is fit.
func (f *fitness) set(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reason == reason {
		return
	}
	f.node.options.Logger.Warn("whether this node is fit to have shards has changed", "unfit", reason)
	f.reason = reason
	f.tell()
}

// serving has the others know which shards this node serves.
func (n *Node) serving(serves cluster.ShardSet) {
	f := n.fitness
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.serves != serves {
		f.serves = serves
		f.tell()
	}
}

// tell is called with mu held.
func (f *fitness) tell() {
	if teller := f.node.options.Cluster.Teller; teller != nil && f.serves.Tells() {
		teller.Tell(f.serves, f.reason)
	}
}

// Unfit returns why this node is not fit to have shards, one of UnfitReasons;
// empty when it is.
func (n *Node) Unfit() string {
	if n.fitness == nil {
		return ""
	}
	n.fitness.mu.Lock()
	defer n.fitness.mu.Unlock()
	return n.fitness.reason
}

// foreign hears of a command of another owner in the log of a shard that has long
// been open. It is a sign that this node was replaced, if the others were told that
// it serves the shard, and know of a newer membership by now: while nobody hears of
// members, one that has not heard of this hand-over goes on as well.
func (n *Node) foreign(id uint32) {
	doubter, newest := n.options.Cluster.Doubter, n.newest.Load()
	if doubter == nil || newest == nil {
		return
	}
	server, ok := newest.places.Server(id)
	if ok && server.ID == n.self() && server.Serves.Has(id) && n.hub.Outdated() {
		doubter.Doubt()
	}
}
