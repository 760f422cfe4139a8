package node

import (
	"fmt"
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

// A node of several opens few shards at a time: opening reads the stores and the
// journal, and those that are served already should not notice. Those that
// another node serves meanwhile have time.
const (
	opensAtOnce = 32
	movesAtOnce = 4
	// openPatience is how long one that does not open keeps others waiting.
	openPatience = 5 * time.Second
)

var talkKind = &supervision.Kind{Name: "node.talk", Receive: "node.(*talkActor).Receive"}

// talkActor has the shards that this node serves as its children, and keeps the
// routes to all shards.
//
// A shard that is placed here is opened first; when it has read its log to the
// end the others are told that this node serves it, and come. Whoever has had it
// serves it until then.
type talkActor struct {
	node        *Node
	environment *shard.Environment
	places      *cluster.Map
	shards      map[uint32]*ownShard
	opening     int      // of the shards, those that keep others waiting
	withdrawn   bool     // it takes no shards any more
	empty       []func() // to be called when no shard is left
	stopping    bool     // and so are all shards
}

// ownShard is a shard that has an actor here.
type ownShard struct {
	pid   *actor.PID
	state ownState
	since time.Time // of the state
	waits bool      // others wait for it to open
	// generation tells this actor of the shard from those before it.
	generation uint64
}

type ownState uint8

const (
	ownOpening ownState = iota // or halted before it opened
	ownServing
	ownLeaving
)

type (
	// place has the shards run and the routes lead where a map says.
	place struct {
		places *cluster.Map
		placed func() // called when they do
	}
	// withdraw has all shards given away, those first that others have taken over.
	// The function is called when this node has no shard.
	withdraw struct{ empty func() }
	// hurry has those given away, too, that nobody has taken over.
	hurry struct{}
	// changed: a shard has opened, or was halted.
	changed struct{ shard uint32 }
	// impatient: a shard was not opened in time to keep others waiting.
	impatient struct {
		shard      uint32
		generation uint64
	}
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
	case *actor.Started:
		if newest := t.node.newest.Load(); newest != nil { // it was restarted
			t.place(ctx, newest.places)
		}
	case *place:
		t.node.newest.Store(m)
		t.place(ctx, m.places)
		m.placed()
	case *withdraw:
		t.withdrawn = true
		t.empty = append(t.empty, m.empty)
		t.arrange(ctx)
	case *hurry:
		for id, own := range t.shards {
			t.giveAway(ctx, id, own)
		}
		t.arrange(ctx)
	case *changed:
		t.changed(ctx, m.shard)
	case *impatient:
		if own := t.shards[m.shard]; own != nil && own.generation == m.generation {
			t.waitNot(own)
			t.arrange(ctx)
		}
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

// place has everything be as a map says.
func (t *talkActor) place(ctx actor.Context, places *cluster.Map) {
	t.places = places
	t.arrange(ctx)
}

// arrange starts shards that have come, has the routes lead to those that serve,
// and gives up those that others have taken over: in this order, so that no route
// leads to an actor that is not there, or takes nothing any more.
func (t *talkActor) arrange(ctx actor.Context) {
	if t.stopping {
		return
	}
	t.start(ctx)
	var gone []uint32
	for id, own := range t.shards {
		if own.state != ownLeaving && t.gone(id, own) {
			gone = append(gone, id)
		}
	}
	leaving := make(map[uint32]*ownShard, len(gone))
	for _, id := range gone {
		leaving[id] = t.shards[id]
	}
	t.route(ctx, leaving)
	for id, own := range leaving {
		t.giveAway(ctx, id, own)
	}
	t.tell()
	t.tellEmpty()
}

// mine reports whether a shard is placed on this node.
func (t *talkActor) mine(id uint32) bool {
	owner, ok := t.places.Owner(id)
	return ok && owner.ID == t.node.self() && !t.withdrawn
}

// gone reports whether a shard is to be given up: another node serves it, or is
// taken to, and if this one withdraws, also when no other node is to have it. One
// that is not open is of no use to anybody.
func (t *talkActor) gone(id uint32, own *ownShard) bool {
	if t.mine(id) {
		return false
	}
	owner, ok := t.places.Owner(id)
	switch {
	case own.state == ownOpening:
		return true
	case !ok || owner.ID == t.node.self():
		return t.withdrawn
	default:
		return !owner.Serves.Tells() || owner.Serves.Has(id)
	}
}

// start starts shards that are placed here and have no actor, those first that
// nobody serves, as many as may be opened at a time.
func (t *talkActor) start(ctx actor.Context) {
	for _, pass := range []struct {
		served bool
		limit  int
	}{{false, opensAtOnce}, {true, movesAtOnce}} {
		for i := range t.places.Shards() {
			if t.opening >= pass.limit && t.node.hub != nil {
				break
			}
			id := uint32(i)
			if t.shards[id] == nil && t.mine(id) && t.served(id) == pass.served {
				t.spawn(ctx, id)
			}
		}
	}
}

// served reports whether another node serves a shard.
func (t *talkActor) served(id uint32) bool {
	server, ok := t.places.Server(id)
	return ok && server.ID != t.node.self()
}

func (t *talkActor) spawn(ctx actor.Context, id uint32) {
	props, status := shard.Props(id, t.environment)
	pid, err := ctx.SpawnNamed(props, shardName(id))
	if err != nil {
		t.node.options.Logger.Error("shard does not start", "shard", id, "error", err)
		return
	}
	t.node.spawned++
	t.shards[id] = &ownShard{pid: pid, generation: t.node.spawned, since: time.Now(), waits: true}
	t.opening++
	t.node.statuses[id].Store(status)
	t.later(ctx, openPatience, &impatient{id, t.node.spawned})
}

// changed takes note that a shard serves. One that was halted instead does not:
// if another node serves it, that goes on.
func (t *talkActor) changed(ctx actor.Context, id uint32) {
	own, status := t.shards[id], t.node.status(int(id))
	if own == nil || own.state != ownOpening || status == nil {
		return // it was restarted, or is leaving
	}
	if status.Open() {
		own.state, own.since = ownServing, time.Now()
	}
	t.waitNot(own)
	t.arrange(ctx)
}

// waitNot has nobody wait for a shard to open.
func (t *talkActor) waitNot(own *ownShard) {
	if own.waits {
		own.waits = false
		t.opening--
	}
}

// route has the routes lead to the actors here that serve, those aside that are
// about to leave, and for other shards to whoever serves them. What is on its way
// from a shard here to one that has another route is sent again.
func (t *talkActor) route(ctx actor.Context, leaving map[uint32]*ownShard) {
	n := t.node
	before := *n.routes.Load()
	var rerouted []uint32
	routes := make([]*actor.PID, t.places.Shards())
	for i := range routes {
		id := uint32(i)
		own := t.shards[id]
		server, ok := t.places.Server(id)
		switch elsewhere := ok && server.ID != n.self(); {
		case own != nil && !elsewhere:
			// One that leaves takes what others here have to give it before they leave.
			routes[i] = own.pid
		case own != nil && own.state == ownServing && leaving[id] == nil:
			routes[i] = own.pid
		case elsewhere:
			routes[i] = n.hub.Peer(server)
		default:
			routes[i] = n.nowhere(id)
		}
		if !routes[i].Equal(before[i]) {
			rerouted = append(rerouted, id)
		}
	}
	n.routes.Store(&routes)
	if len(rerouted) == 0 {
		return
	}
	for _, own := range t.shards {
		ctx.Send(own.pid, &shard.Rerouted{Shards: rerouted})
	}
}

// giveAway has a shard leave: one that serves when it has stored what it has.
func (t *talkActor) giveAway(ctx actor.Context, id uint32, own *ownShard) {
	if own.state == ownLeaving {
		return
	}
	opening := own.state == ownOpening
	own.state, own.since = ownLeaving, time.Now()
	t.waitNot(own)
	if opening {
		ctx.Poison(own.pid)
		return
	}
	root, self, generation := ctx.ActorSystem().Root, ctx.Self(), own.generation
	ctx.Send(own.pid, &shard.Drain{Done: func() { root.Send(self, &handedOver{id, generation}) }})
	t.later(ctx, handOver, &letGo{id, generation})
}

// terminated takes note that a shard is gone, and starts it again when it is
// this node's after all.
func (t *talkActor) terminated(ctx actor.Context, who *actor.PID) {
	for id, own := range t.shards {
		if own.pid.Equal(who) {
			t.waitNot(own)
			delete(t.shards, id)
			t.node.statuses[id].Store(nil)
			break
		}
	}
	t.arrange(ctx)
}

// tell has the other nodes know which shards this one serves.
func (t *talkActor) tell() {
	t.node.serving(cluster.NewShardSet(t.places.Shards(), func(id uint32) bool {
		own := t.shards[id]
		return own != nil && own.state == ownServing
	}))
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
