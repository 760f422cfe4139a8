package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

// clusterCommand is what operators do with a cluster.
type clusterCommand struct {
	Status    clusterStatusCommand    `cmd:"" help:"Show the members and which shards are placed on them."`
	Drain     clusterDrainCommand     `cmd:"" help:"Have a talk node give its shards to the others and stay."`
	Undrain   clusterUndrainCommand   `cmd:"" help:"Have a talk node take shards again."`
	Move      clusterMoveCommand      `cmd:"" help:"Place a shard on a talk node."`
	Rebalance clusterRebalanceCommand `cmd:"" help:"Place all shards where they belong; --dry-run shows what would move."`
}

type clusterStatusCommand struct {
	configFlags
	Output string `enum:"text,json" default:"text" help:"text or json."`
}

func (clusterStatusCommand) Help() string {
	return `Shows who the members are, from etcd or as written down, and how many shards each has by that. It asks no node.

Examples:
  tegami cluster status --config /etc/tegami.yaml
  tegami cluster status --output json | jq '.members[] | select(.state != "active")'`
}

// clusterStatus is what is shown.
type clusterStatus struct {
	Revision uint64         `json:"revision"`
	Shards   int            `json:"shards"`
	Members  []memberStatus `json:"members"`
	// Unowned is how many shards have no owner.
	Unowned int `json:"unowned"`
	// Largest is how many times its share of the shards the member has that has
	// most for its weight; 0 without members.
	Largest float64 `json:"largest"`
}

type memberStatus struct {
	Name    string        `json:"name"`
	ID      string        `json:"id"`
	Role    cluster.Role  `json:"role"`
	State   cluster.State `json:"state"`
	Address string        `json:"address"`
	Version string        `json:"version"`
	Weight  int           `json:"weight"`
	Shards  int           `json:"shards"`
	// Serves is how many it says that it serves; -1 when it does not say.
	Serves int `json:"serves"`
	// Unfit is why it cannot take shards: journal, clock, or nothing.
	Unfit string `json:"unfit,omitempty"`
}

func (c *clusterStatusCommand) Run(ctx context.Context, std streams) error {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	s := newService(&loaded.Config, newLogger(loaded.Log, std))
	defer s.stop()
	membership, err := s.observe(ctx)
	if err != nil {
		return unreachableError{err}
	}
	if s.observer != nil {
		defer func() { _ = s.observer.Close() }()
	}
	status, err := statusOf(loaded.Data.Shards, membership.Snapshot())
	if err != nil {
		return err
	}
	if c.Output == "json" {
		encoder := json.NewEncoder(std.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(status)
	}
	return status.print(std)
}

func statusOf(shards int, s cluster.Snapshot) (*clusterStatus, error) {
	places, err := cluster.NewMap(shards, s)
	if err != nil {
		return nil, err
	}
	status := &clusterStatus{Revision: s.Revision, Shards: shards, Unowned: shards}
	weights := 0
	for _, m := range s.Members {
		owned := len(places.Owned(m.ID))
		status.Unowned -= owned
		if owned > 0 {
			weights += m.Weight
		}
		status.Members = append(status.Members, memberStatus{m.Name, m.ID, m.Role, m.State, m.Address, m.Version, m.Weight, owned, servesOf(m), m.Unfit})
	}
	for _, m := range status.Members {
		if m.Shards > 0 {
			status.Largest = max(status.Largest, float64(m.Shards*weights)/float64(shards*m.Weight))
		}
	}
	return status, nil
}

func servesOf(m cluster.Member) int {
	if !m.Serves.Tells() {
		return -1
	}
	return m.Serves.Len()
}

func (s *clusterStatus) print(std streams) error {
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "NAME\tROLE\tSTATE\tSHARDS\tSERVES\tWEIGHT\tADDRESS\tVERSION\tID")
	for _, m := range s.Members {
		state, serves := string(m.State), "-"
		if m.Unfit != "" {
			state += ", unfit: " + m.Unfit
		}
		if m.Serves >= 0 {
			serves = strconv.Itoa(m.Serves)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\n", m.Name, m.Role, state, m.Shards, serves, m.Weight, m.Address, m.Version, m.ID)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	std.printf("\n%d shards at revision %d", s.Shards, s.Revision)
	if s.Unowned > 0 {
		std.printf(", %d without an owner: no talk node is active", s.Unowned)
	} else {
		std.printf("; the fullest member has %.2f times its share", s.Largest)
	}
	std.printf(".\n")
	return nil
}

// reenlist is how long to wait before a gateway is made a member again.
const reenlist = time.Second

// enlist keeps this gateway among the members until it stops, so that it is
// found. It depends on nothing of that itself: one that is evicted goes on
// and is a member again under another id.
func (s *service) enlist(self cluster.Member) {
	s.background.Go(func() {
		for s.running.Err() == nil {
			if err := s.enlistOnce(self); err != nil && s.running.Err() == nil {
				s.log.Warn("this gateway is not among the members", "error", err)
			}
			select {
			case <-s.running.Done():
			case <-time.After(reenlist):
			}
		}
	})
}

func (s *service) enlistOnce(self cluster.Member) error {
	ctx, cancel := context.WithTimeout(s.running, joinTimeout)
	defer cancel()
	joined, err := s.joinEtcd(ctx, self)
	if err != nil {
		return err
	}
	select {
	case <-s.running.Done():
		s.tellDraining(joined)
	case <-joined.Evicted():
	}
	ctx, cancel = context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	return joined.Leave(ctx)
}

// tellDraining has clients be sent elsewhere while this gateway answers those that
// it has, and returns when it has answered them.
func (s *service) tellDraining(joined cluster.Membership) {
	ctx, cancel := context.WithTimeout(s.enlisted, leaveTimeout)
	defer cancel()
	if err := joined.SetState(ctx, cluster.StateDraining); err != nil && s.enlisted.Err() == nil {
		s.log.Warn("the others are not told that this gateway drains", "error", err)
	}
	<-s.enlisted.Done()
}
