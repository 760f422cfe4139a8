package main

import (
	"context"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

// clusterCommand is what operators do with a cluster.
type clusterCommand struct {
	Status    clusterStatusCommand    `cmd:"" help:"Show the members, which shards are placed on them, and how they are."`
	Top       clusterTopCommand       `cmd:"" help:"Show the busiest shards and mailboxes."`
	Drain     clusterDrainCommand     `cmd:"" help:"Have a talk node give its shards to the others and stay."`
	Undrain   clusterUndrainCommand   `cmd:"" help:"Have a talk node take shards again."`
	Move      clusterMoveCommand      `cmd:"" help:"Place a shard on a talk node."`
	Rebalance clusterRebalanceCommand `cmd:"" help:"Place all shards where they belong; --dry-run shows what would move."`
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
