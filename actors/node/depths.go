package node

import (
	"time"

	"github.com/tegami-im/tegami/actors/heat"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/writebehind"
)

// Depths tells how much is where, at one moment.
type Depths struct {
	// Commands are those not yet answered, Unstored the records in memory that
	// are not yet in the store, Dropped those that left memory before they were,
	// Mailboxes those in memory.
	Commands, Unstored, Dropped, Mailboxes int64
	// Workers has the jobs that wait, by pool; Shards how many are open,
	// opening or halted.
	Workers, Shards map[string]int
	// Store and Cache say what was put and is not yet written to them, Events
	// what waits for its events to be published, and so comes to the store later:
	// all shards together, and the oldest of any.
	Store, Cache, Events writebehind.Behind
}

// Depths returns how much is where.
func (n *Node) Depths() Depths {
	d := Depths{
		Commands:  n.commands.Load(),
		Unstored:  n.unstored.Load(),
		Dropped:   n.dropped.Load(),
		Mailboxes: n.loaded.Load(),
		Workers: map[string]int{
			"journal": n.workers.Journal.Depth(),
			"load":    n.workers.Load.Depth(),
			"page":    n.workers.Page.Depth(),
			"write":   n.workers.Write.Depth(),

			"cache_load": n.workers.CacheLoad.Depth(),
			"cache":      n.workers.Cache.Depth(),
		},
		Shards: map[string]int{"open": 0, "opening": 0, "halted": 0},
	}
	now := time.Now()
	for i := range n.statuses {
		status := n.status(i)
		if status == nil {
			continue
		}
		add(&d.Store, status.Lag().Store.At(now))
		add(&d.Cache, status.Lag().Cache.At(now))
		add(&d.Events, status.Lag().Events.At(now))
		switch {
		case status.Halted() != "":
			d.Shards["halted"]++
		case status.Open():
			d.Shards["open"]++
		default:
			d.Shards["opening"]++
		}
	}
	return d
}

// add adds the lag of one shard to that of others.
func add(to *writebehind.Behind, more writebehind.Behind) {
	to.Records += more.Records
	to.Bytes += more.Bytes
	to.Age = max(to.Age, more.Age)
}

// Busy returns the busiest shards of this node, and the busiest mailboxes, in
// the last 10 seconds that are over.
func (n *Node) Busy(most int) heat.Busy {
	busy := heat.Busy{Seconds: heat.Window.Seconds()}
	now := time.Now()
	for i := range n.statuses {
		status := n.status(i)
		if status == nil {
			continue
		}
		shard, mailboxes := status.Heat().Last(uint32(i), now)
		busy.Shards, busy.Mailboxes = append(busy.Shards, shard), append(busy.Mailboxes, mailboxes...)
	}
	busy.Top(most)
	return busy
}

// Stalls returns how often actors ran over their budget.
func (n *Node) Stalls() map[supervision.Stall]uint64 { return n.watchdog.Counts() }
