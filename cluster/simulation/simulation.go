// Package simulation reckons what a large fleet would carry, by the placement and
// the routing that a real one has: the owner of each mailbox is computed as nodes
// compute it, and what crosses between nodes is counted in the messages that they
// would send, as these are encoded.
//
// Nothing runs. Latency, CPU and what stores do are not in it.
package simulation

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"

	"github.com/tegami-im/tegami/cluster"
)

// Options describe a fleet and its users. The zero value of a field means what its
// comment says.
type Options struct {
	// Talk and Gateways are how many nodes there are, Shards how many shards. 0:
	// 100, 40, 4,096.
	Talk, Gateways, Shards int
	// Users is how many there are; 0: 164 million.
	Users int64
	// Sends is how many messages are sent in a second; 0: 58,000.
	Sends float64
	// Online is how many polls are held for each user, on average; 0: a quarter.
	Online float64
	// Samples is how many sends are drawn; 0: a million.
	Samples int
	// BodyBytes is the size of a body; 0: 120.
	BodyBytes int
	// TalkPollBytes and GatewayPollBytes are the memory of a held poll at a talk
	// node and at a gateway; 0: 7.3 KB and 16.3 KB, what docs/performance.md has for
	// a server that is both.
	TalkPollBytes, GatewayPollBytes float64
	// Seed is of what is drawn.
	Seed uint64
}

func (o *Options) setDefaults() {
	setDefault(&o.Talk, 100)
	setDefault(&o.Gateways, 40)
	setDefault(&o.Shards, 4096)
	setDefault(&o.Users, 164_000_000)
	setDefault(&o.Sends, 58_000)
	setDefault(&o.Online, 0.25)
	setDefault(&o.Samples, 1_000_000)
	setDefault(&o.BodyBytes, 120)
	setDefault(&o.TalkPollBytes, 7.3*1024)
	setDefault(&o.GatewayPollBytes, 16.3*1024)
}

func setDefault[T int | int64 | float64](value *T, to T) {
	if *value == 0 {
		*value = to
	}
}

// bounds of what is reckoned in reasonable time and memory.
const (
	maxNodes   = 1000
	maxUsers   = 10_000_000_000
	maxSamples = 100_000_000
)

func (o *Options) validate() error {
	switch {
	case o.Talk < 2 || o.Talk > maxNodes || o.Gateways < 1 || o.Gateways > maxNodes:
		return fmt.Errorf("%d talk nodes and %d gateways: must be 2 and 1 to %d", o.Talk, o.Gateways, maxNodes)
	case o.Users < 1 || o.Users > maxUsers:
		return fmt.Errorf("%d users: must be 1 to %d", o.Users, int64(maxUsers))
	case o.Samples < 1 || o.Samples > maxSamples:
		return fmt.Errorf("%d samples: must be 1 to %d", o.Samples, maxSamples)
	case !(o.Sends > 0) || !(o.Online >= 0) || o.BodyBytes < 0 || o.BodyBytes > 1<<20:
		return fmt.Errorf("%v sends a second, %v polls a user, bodies of %d bytes: must be positive", o.Sends, o.Online, o.BodyBytes)
	}
	return nil
}

// Node is what one node carries.
type Node struct {
	Name string `json:"name"`
	// Shards and Users are those that it owns; 0 of a gateway.
	Shards int   `json:"shards"`
	Users  int64 `json:"users"`
	// Records is how many are appended and applied in a second, of sends and of the
	// senders' copies.
	Records float64 `json:"records"`
	// In and Out are bytes a second from and to other nodes.
	In  float64 `json:"in"`
	Out float64 `json:"out"`
	// Polls is how many it holds, or has the subscriptions of; Memory what they
	// take, in bytes.
	Polls  float64 `json:"polls"`
	Memory float64 `json:"memory"`
}

// Failure is what the loss of a talk node does, over all of them.
type Failure struct {
	// Moved is how many shards change owners; Least how many the node had.
	Moved, Least Spread
	// Users is how many have no owner until their shards are open elsewhere.
	Users Spread
	// Takers is on how many of the others the shards go, Most how many one of them
	// gets.
	Takers, Most Spread
	// Fullest is how many times the mean number of shards the fullest has
	// afterwards.
	Fullest Spread
}

// Spread is how a figure is over nodes.
type Spread struct{ Min, Mean, Max float64 }

func (s *Spread) add(value float64, of int) {
	if s.Mean == 0 && s.Max == 0 && s.Min == 0 {
		s.Min = math.Inf(1)
	}
	s.Min, s.Max = min(s.Min, value), max(s.Max, value)
	s.Mean += value / float64(of)
}

// Report is what was reckoned.
type Report struct {
	Options  Options `json:"options"`
	Talk     []Node  `json:"talk"`
	Gateways []Node  `json:"gateways"`
	Failure  Failure `json:"failure"`
	// Local is the share of sends whose sender and recipient are of one talk node.
	Local float64 `json:"local"`
}

// Run reckons. It takes some seconds for each hundred million users.
func Run(options Options) (*Report, error) {
	options.setDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	members := make([]cluster.Member, options.Talk)
	for i := range members {
		members[i] = member(i)
	}
	places, err := place(options.Shards, members)
	if err != nil {
		return nil, err
	}
	r := &Report{Options: options, Talk: make([]Node, options.Talk), Gateways: make([]Node, options.Gateways)}
	users := usersByShard(options.Users, options.Shards)
	index := make(map[string]int, options.Talk)
	for i, m := range members {
		index[m.ID] = i
		n := &r.Talk[i]
		n.Name = m.Name
		for _, shard := range places.Owned(m.ID) {
			n.Shards++
			n.Users += users[shard]
		}
		n.Polls = float64(n.Users) * options.Online
		n.Memory = n.Polls * options.TalkPollBytes
	}
	for i := range r.Gateways {
		r.Gateways[i].Name = fmt.Sprint("gateway-", i+1)
		r.Gateways[i].Polls = float64(options.Users) * options.Online / float64(options.Gateways)
		r.Gateways[i].Memory = r.Gateways[i].Polls * options.GatewayPollBytes
	}
	r.traffic(func(mailbox string) int {
		owner, _ := places.Owner(places.Shard(mailbox))
		return index[owner.ID]
	})
	return r, r.failures(members, places, users)
}

// member is a talk node as it would be in etcd: its id differs in each run.
func member(i int) cluster.Member {
	name := fmt.Sprint("talk-", i+1)
	return cluster.Member{
		ID:   fmt.Sprintf("%s.%016x", name, rand.New(rand.NewPCG(uint64(i), 1)).Uint64()), //nolint:gosec // it is no secret
		Name: name, Address: name + ":7500", Role: cluster.RoleTalk, State: cluster.StateActive, Weight: cluster.DefaultWeight,
	}
}

func place(shards int, members []cluster.Member) (*cluster.Map, error) {
	snapshot, err := cluster.NewSnapshot(1, members)
	if err != nil {
		return nil, err
	}
	return cluster.NewMap(shards, snapshot)
}

// user returns the name of a user, by rank of how busy they are.
func user(rank int64) string { return "user-" + strconv.FormatInt(rank, 36) }

// usersByShard places every single user.
func usersByShard(users int64, shards int) []int64 {
	workers := int64(runtime.GOMAXPROCS(0))
	parts := make([][]int64, workers)
	var counting sync.WaitGroup
	for w := range workers {
		parts[w] = make([]int64, shards)
		counting.Go(func() {
			for rank := w; rank < users; rank += workers {
				parts[w][cluster.ShardOf(user(rank), shards)]++
			}
		})
	}
	counting.Wait()
	for _, part := range parts[1:] {
		for shard, n := range part {
			parts[0][shard] += n
		}
	}
	return parts[0]
}

// failures has each talk node fail, alone.
func (r *Report) failures(members []cluster.Member, before *cluster.Map, users []int64) error {
	mean := float64(r.Options.Shards) / float64(len(members)-1)
	for i, gone := range members {
		left := append(append([]cluster.Member{}, members[:i]...), members[i+1:]...)
		after, err := place(r.Options.Shards, left)
		if err != nil {
			return err
		}
		moved, affected := 0, int64(0)
		gained, owned := map[string]int{}, map[string]int{}
		for shard := range uint32(r.Options.Shards) {
			from, _ := before.Owner(shard)
			to, _ := after.Owner(shard)
			owned[to.ID]++
			if from.ID == gone.ID {
				affected += users[shard]
			}
			if from.ID != to.ID {
				moved++
				gained[to.ID]++
			}
		}
		most, fullest := 0, 0
		for id, n := range owned {
			most, fullest = max(most, gained[id]), max(fullest, n)
		}
		f, of := &r.Failure, len(members)
		f.Moved.add(float64(moved), of)
		f.Least.add(float64(r.Talk[i].Shards), of)
		f.Users.add(float64(affected), of)
		f.Takers.add(float64(len(gained)), of)
		f.Most.add(float64(most), of)
		f.Fullest.add(float64(fullest)/mean, of)
	}
	return nil
}

// SpreadOf returns how a figure is over nodes.
func SpreadOf(nodes []Node, value func(Node) float64) (s Spread) {
	for _, n := range nodes {
		s.add(value(n), len(nodes))
	}
	return s
}
