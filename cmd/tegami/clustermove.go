package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/etcd"
	"github.com/tegami-im/tegami/config"
)

// clusterControl is what the commands have in common that change where shards
// are.
type clusterControl struct {
	configFlags
	Wait time.Duration `default:"1m" help:"How long to wait until it is done; 0 does not wait."`
}

// open connects to etcd. close must be called.
func (c *clusterControl) open(ctx context.Context, std streams) (_ *etcd.Observer, shards int, closeIt func(), err error) {
	loaded, err := c.load(std)
	if err != nil {
		return nil, 0, nil, err
	}
	switch loaded.Cluster.Membership {
	case config.MembershipStatic:
		return nil, 0, nil, usagef("a static membership is changed where it is written down: cluster.members")
	case config.MembershipKubernetes:
		return nil, 0, nil, usagef("what operators want is kept in etcd alone: with Kubernetes, scale the StatefulSet, or delete a pod")
	}
	s := newService(&loaded.Config, newLogger(loaded.Log, std))
	if _, err := s.observe(ctx); err != nil {
		s.stop()
		return nil, 0, nil, unreachableError{err}
	}
	members, ok := s.observer.(*etcd.Observer)
	if !ok { // the membership is etcd's
		s.stop()
		return nil, 0, nil, errors.Join(errors.New("no etcd"), s.observer.Close())
	}
	return members, loaded.Data.Shards, func() {
		s.stop()
		_ = members.Close()
	}, nil
}

// await waits until something is seen of the members.
func (c *clusterControl) await(ctx context.Context, members *etcd.Observer, what string, seen func(cluster.Snapshot) bool) error {
	if c.Wait <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	done := make(chan struct{}, 1)
	defer members.Subscribe(func(s cluster.Snapshot) {
		if seen(s) {
			select {
			case done <- struct{}{}:
			default:
			}
		}
	})()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not %s within %v; it goes on", what, c.Wait)
	}
}

// talkNode finds a talk node by its name or id.
func talkNode(s cluster.Snapshot, name string) (cluster.Member, error) {
	var names []string
	for _, m := range s.Members {
		if m.Role != cluster.RoleTalk {
			continue
		}
		if m.Name == name || m.ID == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return cluster.Member{}, fmt.Errorf("there is no talk node %s; there are: %s", name, strings.Join(names, ", "))
}

type clusterDrainCommand struct {
	clusterControl
	Node string `arg:"" help:"Name of the talk node."`
}

func (clusterDrainCommand) Help() string {
	return `Has a talk node give its shards to the others, one after the other, while it goes on running. It takes none, in its next runs either, until "tegami cluster undrain". It is refused for the last node that has shards.

Examples:
  tegami cluster drain talk-2 --config /etc/tegami.yaml`
}

func (c *clusterDrainCommand) Run(ctx context.Context, std streams) error {
	members, _, closeIt, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer closeIt()
	drained, err := talkNode(members.Snapshot(), c.Node)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(members.Snapshot().Members, func(m cluster.Member) bool {
		return m.Role == cluster.RoleTalk && m.State == cluster.StateActive && m.Name != drained.Name
	}) {
		return fmt.Errorf("no other talk node is active: nobody could take the shards of %s", drained.Name)
	}
	if err := members.Drain(ctx, drained.Name); err != nil {
		return err
	}
	err = c.await(ctx, members, "drained", func(s cluster.Snapshot) bool {
		m, there := s.Member(drained.ID)
		return !there || m.State == cluster.StateDraining && m.Serves.Len() == 0
	})
	if err == nil && c.Wait > 0 {
		std.printf("%s serves no shards.\n", drained.Name)
	}
	return err
}

type clusterUndrainCommand struct {
	clusterControl
	Node string `arg:"" help:"Name of the talk node."`
}

func (clusterUndrainCommand) Help() string {
	return `Ends what "tegami cluster drain" began: the node takes shards again.

Examples:
  tegami cluster undrain talk-2 --config /etc/tegami.yaml`
}

func (c *clusterUndrainCommand) Run(ctx context.Context, std streams) error {
	members, shards, closeIt, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer closeIt()
	if err := members.Undrain(ctx, c.Node); err != nil {
		return err
	}
	node, err := talkNode(members.Snapshot(), c.Node)
	if err != nil {
		std.printf("%s is not drained any more when it comes.\n", c.Node)
		return nil // one that is away may be undrained
	}
	served := 0
	err = c.await(ctx, members, "undrained", func(s cluster.Snapshot) bool {
		places, failed := cluster.NewMap(shards, s)
		m, there := s.Member(node.ID)
		if failed != nil || !there || m.State != cluster.StateActive {
			return false
		}
		served = m.Serves.Len()
		return served == len(places.Owned(node.ID))
	})
	if err == nil && c.Wait > 0 {
		std.printf("%s serves %d shards.\n", node.Name, served)
	}
	return err
}

type clusterMoveCommand struct {
	clusterControl
	Shard uint32 `arg:"" help:"Number of the shard."`
	Node  string `arg:"" optional:"" help:"Name of the talk node. None: the shard goes back to where it belongs."`
}

func (clusterMoveCommand) Help() string {
	return `Places a shard on a talk node, until that leaves or drains. Without a node, ends that.

Examples:
  tegami cluster move 17 talk-2 --config /etc/tegami.yaml
  tegami cluster move 17 --config /etc/tegami.yaml`
}

func (c *clusterMoveCommand) Run(ctx context.Context, std streams) error {
	members, shards, closeIt, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer closeIt()
	if int64(c.Shard) >= int64(shards) {
		return usagef("shard %d: there are %d", c.Shard, shards)
	}
	if c.Node == "" {
		err = members.EndMoves(ctx, c.Shard)
	} else {
		var to cluster.Member
		if to, err = talkNode(members.Snapshot(), c.Node); err == nil {
			if to.State != cluster.StateActive {
				return fmt.Errorf("%s is %s: it takes no shards", to.Name, to.State)
			}
			err = members.Move(ctx, c.Shard, to.ID)
		}
	}
	if err != nil {
		return err
	}
	var server cluster.Member
	err = c.await(ctx, members, "moved", func(s cluster.Snapshot) bool {
		places, failed := cluster.NewMap(shards, s)
		if failed != nil || (s.Moves[c.Shard] == "") != (c.Node == "") {
			return false
		}
		owner, owned := places.Owner(c.Shard)
		server, _ = places.Server(c.Shard)
		return owned && server.ID == owner.ID
	})
	if err == nil && c.Wait > 0 {
		std.printf("%s serves shard %d.\n", server.Name, c.Shard)
	}
	return err
}

type clusterRebalanceCommand struct {
	clusterControl
	DryRun bool `help:"Show what would move, and move nothing."`
}

func (clusterRebalanceCommand) Help() string {
	return `Ends all that "tegami cluster move" began, so that every shard is where the members' weights put it. Nothing else needs rebalancing: shards move by themselves when nodes come and go.

Examples:
  tegami cluster rebalance --dry-run --config /etc/tegami.yaml`
}

func (c *clusterRebalanceCommand) Run(ctx context.Context, std streams) error {
	members, shards, closeIt, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer closeIt()
	now := members.Snapshot()
	changes, err := rebalance(shards, now)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	if len(changes) > 0 {
		_, _ = fmt.Fprintln(table, "SHARD\tFROM\tTO")
	}
	for _, change := range changes {
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\n", change.shard, change.from, change.to)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if c.DryRun {
		std.printf("%d shards would move.\n", len(changes))
		return nil
	}
	if err := members.EndMoves(ctx, slices.Sorted(maps.Keys(now.Moves))...); err != nil {
		return err
	}
	err = c.await(ctx, members, "rebalanced", func(s cluster.Snapshot) bool {
		places, failed := cluster.NewMap(shards, s)
		if failed != nil || len(s.Moves) > 0 {
			return false
		}
		for shard := range uint32(shards) {
			owner, _ := places.Owner(shard)
			if server, _ := places.Server(shard); server.ID != owner.ID {
				return false
			}
		}
		return true
	})
	if err == nil && c.Wait > 0 {
		std.printf("%d shards moved.\n", len(changes))
	}
	return err
}

// shardChange is a shard that has another owner, by name.
type shardChange struct {
	shard    uint32
	from, to string
}

// rebalance returns which shards would have another owner if no shard was moved.
func rebalance(shards int, now cluster.Snapshot) ([]shardChange, error) {
	before, err := cluster.NewMap(shards, now)
	if err != nil {
		return nil, err
	}
	now.Moves = nil
	after, err := cluster.NewMap(shards, now)
	if err != nil {
		return nil, err
	}
	var changes []shardChange
	for shard := range uint32(shards) {
		from, _ := before.Owner(shard)
		to, _ := after.Owner(shard)
		if from.ID != to.ID {
			changes = append(changes, shardChange{shard, from.Name, to.Name})
		}
	}
	return changes, nil
}

// drainer is a membership that operators drain nodes of.
type drainer interface {
	Drain(ctx context.Context, name string) error
	Undrain(ctx context.Context, name string) error
}

// drainSelf has this talk node drained, or undrained, as "tegami cluster" does it.
func (s *service) drainSelf(do func(drainer, context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		members, ok := s.membership.(drainer)
		if !ok {
			http.Error(w, "this membership is static", http.StatusNotImplemented)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
		defer cancel()
		if err := do(members, ctx, s.membership.Self().Name); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}
