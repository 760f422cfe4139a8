package node

import "github.com/tegami-im/tegami/actors/supervision"

// Depths tells how much is where, at one moment.
type Depths struct {
	// Commands are those not yet answered, Unstored the records not yet in the
	// store, Mailboxes those in memory.
	Commands, Unstored, Mailboxes int64
	// Workers has the jobs that wait, by pool; Shards how many are open,
	// opening or halted.
	Workers, Shards map[string]int
}

// Depths returns how much is where.
func (n *Node) Depths() Depths {
	d := Depths{
		Commands:  n.commands.Load(),
		Unstored:  n.unstored.Load(),
		Mailboxes: n.loaded.Load(),
		Workers: map[string]int{
			"journal": n.workers.Journal.Depth(),
			"load":    n.workers.Load.Depth(),
			"page":    n.workers.Page.Depth(),
			"write":   n.workers.Write.Depth(),
			"cache":   n.workers.Cache.Depth(),
		},
		Shards: map[string]int{"open": 0, "opening": 0, "halted": 0},
	}
	for _, status := range n.statuses {
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

// Stalls returns how often actors ran over their budget.
func (n *Node) Stalls() map[supervision.Stall]uint64 { return n.watchdog.Counts() }
