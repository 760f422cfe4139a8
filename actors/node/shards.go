package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/cluster"
)

// lingering is for how long a shard that was given away stays, to tell those
// who come late: what is sent to an actor while it stops is lost.
const lingering = time.Second

// handOver bounds how long a shard takes to store what it has before it is let
// go. Its new owner has it from the journal in any case.
const handOver = 5 * time.Second

var talkKind = &supervision.Kind{Name: "node.talk", Receive: "node.(*talkActor).Receive"}

// talkActor has the shards that this node owns as its children, and keeps the
// routes to all shards.
type talkActor struct {
	node        *Node
	environment *shard.Environment
	places      *cluster.Map
	shards      map[uint32]*ownShard
	empty       []func() // to be called when no shard is left
	stopping    bool     // and so are all shards
}

// ownShard is a shard that has an actor here.
type ownShard struct {
	pid     *actor.PID
	leaving bool
	// generation tells this actor of the shard from those before it.
	generation uint64
}

type (
	// place has the shards run and the routes lead where a map says.
	place struct {
		places *cluster.Map
		placed func() // called when they do
	}
	// whenEmpty has a function called when this node has no shard.
	whenEmpty struct{ call func() }
	// handedOver: a shard that was given away has stored what it had. letGo: it
	// has lingered, or took too long.
	handedOver struct {
		shard      uint32
		generation uint64
	}
	letGo struct {
		shard      uint32
		generation uint64
	}
)

// Receive implements actor.Actor.
func (t *talkActor) Receive(ctx actor.Context) {
	defer t.node.watchdog.Enter(talkKind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *place:
		t.places = m.places
		t.place(ctx)
		m.placed()
	case *whenEmpty:
		t.empty = append(t.empty, m.call)
		t.tellEmpty()
	case *handedOver:
		t.later(ctx, lingering, &letGo{m.shard, m.generation})
	case *letGo:
		if own := t.shards[m.shard]; own != nil && own.generation == m.generation {
			ctx.Poison(own.pid)
		}
	case *actor.Terminated:
		t.terminated(ctx, m.Who)
	case *actor.Restarting, *actor.Stopping:
		t.stopping = true
	}
}

func (t *talkActor) later(ctx actor.Context, d time.Duration, message any) {
	root, self := ctx.ActorSystem().Root, ctx.Self()
	time.AfterFunc(d, func() { root.Send(self, message) })
}

// place starts the shards that are this node's, has the routes lead to them
// and to the owners of the others, and gives up what is no longer its own: in
// this order, so that no route leads to an actor that is not there.
func (t *talkActor) place(ctx actor.Context) {
	n := t.node
	routes := make([]*actor.PID, t.places.Shards())
	for i := range routes {
		id := uint32(i)
		owner, ok := t.places.Owner(id)
		switch {
		case !ok && t.shards[id] != nil:
			// It goes on with what is under way, and takes nothing new.
			routes[i] = t.shards[id].pid
		case !ok:
			routes[i] = n.nowhere(id)
		case owner.ID == n.self():
			routes[i] = t.own(ctx, id)
		default:
			routes[i] = n.hub.Peer(owner)
		}
	}
	n.routes.Store(&routes)
	for id, own := range t.shards {
		switch owner, ok := t.places.Owner(id); {
		case own.leaving:
		case !ok || owner.ID != n.self():
			t.giveAway(ctx, id, own)
		default:
			ctx.Send(own.pid, &shard.Rerouted{})
		}
	}
	t.tellEmpty()
}

// own returns the actor of a shard of this node, which it starts when there is
// none. One that is being given away has to end first.
func (t *talkActor) own(ctx actor.Context, id uint32) *actor.PID {
	if own := t.shards[id]; own != nil {
		if own.leaving {
			return t.node.nowhere(id)
		}
		return own.pid
	}
	props, status := shard.Props(id, t.environment)
	pid, err := ctx.SpawnNamed(props, shardName(id))
	if err != nil {
		t.node.options.Logger.Error("shard does not start", "shard", id, "error", err)
		return t.node.nowhere(id)
	}
	t.node.spawned++
	t.shards[id] = &ownShard{pid: pid, generation: t.node.spawned}
	t.node.statuses[id].Store(status)
	return pid
}

func (t *talkActor) giveAway(ctx actor.Context, id uint32, own *ownShard) {
	own.leaving = true
	root, self, generation := ctx.ActorSystem().Root, ctx.Self(), own.generation
	ctx.Send(own.pid, &shard.Drain{Done: func() { root.Send(self, &handedOver{id, generation}) }})
	t.later(ctx, handOver, &letGo{id, generation})
}

// terminated takes note that a shard is gone, and starts it again when it is
// this node's after all.
func (t *talkActor) terminated(ctx actor.Context, who *actor.PID) {
	for id, own := range t.shards {
		if !own.pid.Equal(who) {
			continue
		}
		delete(t.shards, id)
		t.node.statuses[id].Store(nil)
		if owner, ok := t.places.Owner(id); ok && owner.ID == t.node.self() && !t.stopping {
			routes := slices.Clone(*t.node.routes.Load())
			routes[id] = t.own(ctx, id)
			t.node.routes.Store(&routes)
		}
		break
	}
	t.tellEmpty()
}

func (t *talkActor) tellEmpty() {
	if len(t.shards) > 0 {
		return
	}
	for _, call := range t.empty {
		call()
	}
	t.empty = nil
}

func shardName(id uint32) string { return fmt.Sprintf("shard-%04d", id) }
