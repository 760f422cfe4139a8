package main

import (
	"context"
	"crypto/ed25519"
	"math"
	"slices"
	"time"

	"github.com/tegami-im/tegami/api/auth"
	"github.com/tegami-im/tegami/api/server"
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

	Simulate clusterSimulateCommand `cmd:"" help:"Reckon what the nodes of a large cluster would carry."`
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
	joined, err := s.joinCluster(ctx, self)
	if err != nil {
		return err
	}
	if s.reportLoad(joined) {
		s.tellDraining(joined)
	}
	ctx, cancel = context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	return joined.Leave(ctx)
}

const (
	// loadEvery is how often the load of a gateway is looked at, and loadStep by how
	// much it must have changed to be told: each time all nodes learn of it.
	loadEvery = 5 * time.Second
	loadStep  = 0.05
)

// reportLoad tells the load of this gateway, for clients to choose by, until it
// begins to stop, and returns true then, or false when it is evicted.
func (s *service) reportLoad(joined joinedMembership) (stopping bool) {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	told := 0.0
	for {
		select {
		case <-s.running.Done():
			return true
		case <-joined.Evicted():
			return false
		case <-tick.C:
		}
		load := s.public.Load()
		if math.Abs(load-told) < loadStep {
			continue
		}
		ctx, cancel := context.WithTimeout(s.running, loadEvery)
		if joined.SetLoad(ctx, load) == nil { // else at the next tick
			told = load
		}
		cancel()
	}
}

// gateways returns those that clients may connect to, this one among them if it
// may be told of.
func (s *service) gateways(members membersView) []server.Gateway {
	var all []server.Gateway
	add := func(g server.Gateway) {
		if g.Address != "" && !slices.ContainsFunc(all, func(known server.Gateway) bool { return known.Address == g.Address }) {
			all = append(all, g)
		}
	}
	if s.running.Err() == nil {
		add(server.Gateway{Address: s.config.Server.Advertise, Region: s.config.Cluster.Region, Load: s.public.Load()})
	}
	for _, m := range members.Snapshot().Members {
		if m.Role == cluster.RoleGateway && m.State == cluster.StateActive {
			add(server.Gateway{Address: m.URL, Region: m.Region, Load: m.Load})
		}
	}
	return all
}

// publishEvery is how often the public key of a gateway is published again, so that
// the keys of those that are no more come to an end.
const publishEvery = 24 * time.Hour

// publishAgain is when it is tried again that failed.
const publishAgain = time.Minute

// signers are where gateways find the public keys of each other.
type signers interface {
	PublishSigner(ctx context.Context, id string, public ed25519.PublicKey, until time.Time) error
	Signer(id string) (public ed25519.PublicKey, ok bool)
}

// publishKey has the gateways take each other's tokens: each has a key of its own,
// which no other sees, and knows the public keys of the others. In Kubernetes all
// have one key, that of a Secret.
func (s *service) publishKey(ctx context.Context, options *server.Options) error {
	others, ok := s.observer.(signers)
	if !ok {
		return nil
	}
	public := options.SigningKey.Public().(ed25519.PublicKey)
	publish := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		return others.PublishSigner(ctx, auth.KeyID(public), public, time.Now().Add(s.config.Auth.RefreshToken+2*publishEvery))
	}
	if err := publish(ctx); err != nil {
		return err
	}
	options.Tokens.Others = others.Signer
	s.background.Go(func() {
		for wait := publishEvery; sleep(s.running, wait); {
			wait = publishEvery
			if err := publish(s.running); err != nil {
				s.log.Warn("the public key of this gateway is not published again", "error", err)
				wait = publishAgain
			}
		}
	})
	return nil
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
