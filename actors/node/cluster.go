package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/link"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// Cluster has a node be one of several. Both stay the caller's to end, after
// the node.
type Cluster struct {
	// Self is this node; its address is where Network hears it.
	Self cluster.Member
	// Membership tells who owns which shard. This node owns those that are
	// placed on Self.
	Membership Membership
	Network    link.Network
	// Teller has the others learn what this node serves; nil: they take it to
	// serve what it owns.
	Teller cluster.Teller
	// Doubter hears of signs that another node has taken this one's place; nil for
	// nobody.
	Doubter cluster.Doubter
}

// Membership is what a node needs of a cluster.Membership.
type Membership interface {
	Subscribe(func(cluster.Snapshot)) (unsubscribe func())
}

// alone is the id of a node that is not one of several.
const alone = "single"

// self returns the id under which this node owns shards.
func (n *Node) self() string {
	if n.options.Cluster == nil {
		return alone
	}
	return n.options.Cluster.Self.ID
}

// remoteReads bounds the reads of keys from other nodes that are under way. It is
// not what keeps them few: those of a node that does not answer must leave room
// for those of the others.
const remoteReads = 1 << 16

// nowhere returns where what is asked of a shard goes that nobody owns, or that
// is not to be had here at the moment.
func (n *Node) nowhere(id uint32) *actor.PID {
	if n.hub == nil {
		return n.shards[id] // alone, a node owns all
	}
	return n.hub.Nowhere()
}

// elsewhere reports whether another node owns a shard.
func (n *Node) elsewhere(id uint32) bool {
	return n.local(id) == nil && !n.route(id).Equal(n.hub.Nowhere())
}

// route returns where what is asked of a shard goes.
func (n *Node) route(id uint32) *actor.PID { return (*n.routes.Load())[id] }

// routeOf returns where what is asked about a mailbox goes.
func (n *Node) routeOf(mailbox string) *actor.PID { return n.route(n.places.Shard(mailbox)) }

// local returns the actor of a shard that this node owns; nil for any other.
func (n *Node) local(id uint32) *actor.PID {
	if pid := n.route(id); pid.Equal(n.shards[id]) {
		return pid
	}
	return nil
}

// join starts the links to other nodes. The shards are placed when it follows
// the membership.
func (n *Node) join() error {
	c := n.options.Cluster
	if c == nil {
		return nil
	}
	if err := c.Self.Validate(); err != nil {
		return err
	}
	var keys link.Keyring
	if n.options.Keys != nil {
		keys = n.options.Keys
	} else {
		n.options.Keys = sealing.NewRing(remoteKeys{n}, 0, remoteReads)
	}
	var err error
	n.hub, err = link.NewHub(link.Options{
		Self: c.Self, Shards: n.options.Shards, System: n.system, Network: c.Network, Local: n.local,
		Keys: keys, Workers: n.workers.Load, Dispatcher: n.dispatcher, Watchdog: n.watchdog, Logger: n.options.Logger,
	})
	if err != nil {
		return err
	}
	// What was on its way to an actor that is gone is refused, to be asked of
	// whoever owns the shard now.
	n.system.EventStream.Subscribe(func(event any) {
		if lost, ok := event.(*actor.DeadLetterEvent); ok {
			link.Refuse(n.system.Root, lost.Message)
		}
	})
	return nil
}

// follow has the shards placed as the membership says, from now on.
func (n *Node) follow() error {
	if n.options.Cluster == nil {
		n.apply.Store(mailbox.ApplyVersion)
		everything := cluster.Snapshot{Members: []cluster.Member{{ID: alone, Role: cluster.RoleTalk, State: cluster.StateActive, Weight: cluster.DefaultWeight}}}
		return n.placeAll(everything)
	}
	n.unfollow = n.options.Cluster.Membership.Subscribe(func(s cluster.Snapshot) {
		places, err := cluster.NewMap(n.options.Shards, s)
		if err != nil { // the number of shards was checked
			n.options.Logger.Error("shards are not placed", "error", err)
			return
		}
		n.apply.Store(min(s.Apply(), mailbox.ApplyVersion))
		n.system.Root.Send(n.talk, &place{places: places, placed: func() { n.hub.Update(s) }})
	})
	return nil
}

// placeAll places all shards as of a snapshot, and returns when they are.
func (n *Node) placeAll(s cluster.Snapshot) error {
	places, err := cluster.NewMap(n.options.Shards, s)
	if err != nil {
		return err
	}
	placed := make(chan struct{})
	n.system.Root.Send(n.talk, &place{places: places, placed: func() { close(placed) }})
	<-placed
	return nil
}

// storeTime is how much of the time for a drain is kept for shards that nobody has
// taken over: they are stored all the same.
const storeTime = 1500 * time.Millisecond

// withdraw gives all shards away and waits until this node has none any more.
func (n *Node) withdraw(ctx context.Context) error {
	empty := make(chan struct{})
	n.system.Root.Send(n.talk, &withdraw{func() { close(empty) }})
	if deadline, ok := ctx.Deadline(); ok {
		late := time.AfterFunc(max(time.Until(deadline)-storeTime, 0), func() { n.system.Root.Send(n.talk, &hurry{}) })
		defer late.Stop()
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shards are not handed over: %w", ctx.Err())
	}
}

// upgrading refuses what some node does not know yet.
func upgrading() *refusal.Refusal { return refusal.After(refusal.Upgrading, 10*time.Second) }

const (
	minRetry = 20 * time.Millisecond
	maxRetry = 200 * time.Millisecond
)

// again reports whether a refusal is worth to be asked again, of whoever owns
// the shard by then: the owner is not ready, is stopping, or is gone with the
// answer. Who asked only this node has nobody else to ask.
func (n *Node) again(refused *refusal.Refusal) bool {
	if n.options.Cluster == nil || refused == nil || n.stopping.Load() {
		return false
	}
	switch refused.Reason {
	case refusal.NotReady, refusal.Stopping, refusal.OutcomeUnknown, refusal.WrongClock:
		return true
	default:
		return false
	}
}

// retryAfter returns how long to wait before what was tried so often is tried
// again: a shard that changes hands is open again in a moment, mostly.
func retryAfter(tries int) time.Duration {
	wait := min(minRetry<<min(tries-1, 10), maxRetry)
	return wait/2 + rand.N(wait/2) //nolint:gosec // spreads, guards nothing
}

// command sends a command to the owner of its shard for the first time, or
// again after so many tries, while that is worth it and there is time: with the
// same id, so that it is done once. doubt says that an attempt before may have
// done it: then only what apply has decided is sure.
func (n *Node) command(c shard.Command, tries int, doubt bool) {
	attempt := c
	attempt.Answer = func(a mailbox.Answer, refused *refusal.Refusal) {
		doubt := doubt || refused != nil && refused.Reason == refusal.OutcomeUnknown
		again := n.again(refused) || doubt && refused != nil && refused.Reason == refusal.Busy
		if after := retryAfter(tries + 1); again && time.Until(c.Deadline) > after {
			time.AfterFunc(after, func() { n.command(c, tries+1, doubt) })
			return
		}
		if doubt && refused != nil && !refused.Reason.Durable() {
			refused = refusal.After(refusal.OutcomeUnknown, time.Second)
		}
		c.Answer(a, refused)
	}
	n.system.Root.Send(n.routeOf(c.Record.GetMailbox()), &attempt)
}

// ask sends a question and waits for the answer, and again while that is worth
// it. When ctx ends first the answer is late.
func ask[T any](ctx context.Context, n *Node, late *refusal.Refusal, send func(answer func(T, *refusal.Refusal))) (T, error) {
	type result struct {
		value   T
		refused *refusal.Refusal
	}
	var none T
	for tries := 1; ; tries++ {
		results := make(chan result, 1)
		send(func(value T, refused *refusal.Refusal) { results <- result{value, refused} })
		select {
		case got := <-results:
			if got.refused == nil {
				return got.value, nil
			}
			if !n.again(got.refused) {
				return none, got.refused
			}
			select {
			case <-time.After(retryAfter(tries)):
			case <-ctx.Done():
				return none, got.refused
			}
		case <-ctx.Done():
			return none, late
		}
	}
}

// remoteKeys are the keys as other nodes have them: those that own the shards
// of the mailboxes. It implements persistence.Keys.
type remoteKeys struct{ node *Node }

// Get implements persistence.Keys.
func (r remoteKeys) Get(ctx context.Context, mailbox string) (key persistence.Key, err error) {
	keys, err := r.ask(ctx, []string{mailbox}, false)
	if err != nil {
		return key, err
	}
	return keys[0], nil
}

// Create implements persistence.Keys.
func (r remoteKeys) Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error) {
	if len(mailboxes) == 0 {
		return nil, nil
	}
	return r.ask(ctx, mailboxes, true)
}

func (r remoteKeys) ask(ctx context.Context, mailboxes []string, create bool) ([]persistence.Key, error) {
	n := r.node
	late := refusal.After(refusal.StoreUnavailable, time.Second)
	keys, err := ask(ctx, n, late, func(answer func([]persistence.Key, *refusal.Refusal)) {
		n.system.Root.Send(n.routeOf(mailboxes[0]), &link.Keys{Mailboxes: mailboxes, Create: create, Answer: answer})
	})
	if refused, ok := errors.AsType[*refusal.Refusal](err); ok && refused.Reason == refusal.UnknownRecipient {
		return nil, persistence.ErrNotFound
	}
	return keys, err
}

// Delete implements persistence.Keys. Keys are dropped where they lie.
func (remoteKeys) Delete(context.Context, string) error {
	return errors.New("keys are not dropped from another node")
}

// Close implements persistence.Keys.
func (remoteKeys) Close() error { return nil }

var _ persistence.Keys = remoteKeys{}
