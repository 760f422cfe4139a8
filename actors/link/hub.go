// Package link carries what the actors of one node ask of those of another.
//
// For each node that it talks to, a node has a peer actor. Whoever wants
// something of a shard elsewhere sends the peer actor of its owner the same
// message that the shard would get; the peer puts it into a frame, keeps whom
// to answer, and hands the frame to the network. At the other end the peer
// actor of this node takes it out, gives it to the shard, and sends the answer
// back alike.
//
//	connection ──Fetch──▶ peer B ┄┄frame┄┄▶ peer A ──Fetch──▶ shard ──▶ mailbox
//	(node A)   ◀─Fetched─        ◀┄┄frame┄┄        ◀──────Fetched──────  (node B)
//
// # What is lost
//
// The network may lose frames, in silence. Frames are numbered, and each node
// sends one a second at the least, so that the other notices within that time
// what it has missed, and says so. Then, and when a node is silent, all that
// waits for an answer of it is given up: commands as of unknown outcome, polls
// to fetch again. Whoever asked, asks again, of the owner that there is by then:
// the ids of commands and the cursors of polls make that harmless. Nothing is
// kept for a node that is silent: what is asked of it is refused at once.
//
// A node that does not own a shard answers "not ready": the one who asked looks
// the owner up again.
package link

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
)

// Network carries frames between nodes. It is safe for concurrent use.
type Network interface {
	// Send takes a frame to the node at an address. It does not block, and may
	// lose frames; those that arrive do so in order while a connection lasts.
	Send(address string, frame *wire.Frame)
	// Receive has a function called with each frame that comes, from any
	// goroutine. It does not block. Frames that come before are lost.
	Receive(func(*wire.Frame))
}

// Keyring hands out the keys of mailboxes, as node.Keyring.
type Keyring interface {
	Get(ctx context.Context, mailbox string) (persistence.Key, error)
	Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error)
}

// Options set a hub up. All but Keys are required.
type Options struct {
	Self    cluster.Member
	Shards  int
	System  *actor.ActorSystem
	Network Network
	// Local returns the actor of a shard that this node owns, nil for any
	// other.
	Local func(shard uint32) *actor.PID
	// Keys are read for other nodes by Workers. Nil: this node has none.
	Keys       Keyring
	Workers    *supervision.Workers
	Dispatcher actor.Dispatcher
	Watchdog   *supervision.Watchdog
	Logger     *slog.Logger
}

// Hub has the peer actors of a node. It is safe for concurrent use.
type Hub struct {
	options Options
	nowhere *actor.PID
	// revision is that of the newest membership that this node knows.
	revision atomic.Uint64

	mu      sync.Mutex // guards the following
	members map[string]cluster.Member
	peers   map[string]*actor.PID // by id of the member
	// both has, by address, when a node was heard last that hears this one, too. A
	// gateway goes by another id than as a member, and it may have several.
	both map[string]time.Time
	// anyone is when any node was heard last, newer when one that knew of a newer
	// membership.
	anyone, newer time.Time
	closed        bool
}

// maxStrangers bounds the peers that are no members that this node knows of.
const maxStrangers = 4096

// maxID bounds the id of a member in bytes.
const maxID = 256

// NewHub returns a hub without peers that takes frames from the network. Close
// it before the actor system ends.
func NewHub(options Options) (*Hub, error) {
	h := &Hub{
		options: options, members: map[string]cluster.Member{}, peers: map[string]*actor.PID{}, both: map[string]time.Time{},
	}
	var err error
	h.nowhere, err = options.System.Root.SpawnNamed(actor.PropsFromFunc(func(ctx actor.Context) {
		refuse(ctx, ctx.Message(), refusal.After(refusal.NotReady, awayRetry))
	}, actor.WithDispatcher(options.Dispatcher)), "nowhere")
	if err != nil {
		return nil, fmt.Errorf("spawn nowhere: %w", err)
	}
	options.Network.Receive(h.receive)
	return h, nil
}

// Nowhere returns the actor of shards that nobody owns: it answers everything
// with a refusal.
func (h *Hub) Nowhere() *actor.PID { return h.nowhere }

// Peer returns the actor that passes on what is sent to a member.
func (h *Hub) Peer(member cluster.Member) *actor.PID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.peer(member.ID, member.Address)
}

// peer returns the peer with an id, which it spawns if there is none.
func (h *Hub) peer(id, address string) *actor.PID {
	if pid := h.peers[id]; pid != nil || h.closed {
		if h.closed {
			return h.nowhere
		}
		return pid
	}
	pid := h.options.System.Root.Spawn(peerProps(h, id, address))
	h.peers[id] = pid
	return pid
}

// Update takes note of who the members are. Peers of members that have left are
// stopped. A gateway has one of every talk node, for that to know whether it is
// reached.
func (h *Hub) Update(s cluster.Snapshot) {
	h.revision.Store(s.Revision)
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.members
	h.members = make(map[string]cluster.Member, len(s.Members))
	for _, m := range s.Members {
		h.members[m.ID] = m
	}
	for id := range before {
		if _, stays := h.members[id]; !stays {
			h.stop(id)
		}
	}
	for _, m := range s.Members {
		if m.Role == cluster.RoleTalk && h.options.Self.Role == cluster.RoleGateway {
			h.peer(m.ID, m.Address)
		}
	}
	now := time.Now()
	maps.DeleteFunc(h.both, func(_ string, heard time.Time) bool { return now.Sub(heard) > forgottenAfter })
}

// heard takes note of a frame.
func (h *Hub) heard(address string, frame *wire.Frame, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.anyone = now
	if frame.GetRevision() > h.revision.Load() {
		h.newer = now
	}
	if _, known := h.both[address]; !frame.GetUnheard() && (known || len(h.both) < maxStrangers) {
		h.both[address] = now
	}
}

// Outdated reports whether others may know of a newer membership than this node:
// one of them said so of late, or none was heard.
func (h *Hub) Outdated() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	return now.Sub(h.newer) <= silentAfter || now.Sub(h.anyone) > silentAfter
}

// Gateways returns how many gateways are members, and how many of them were heard
// of late and hear this node.
func (h *Hub) Gateways() (members, connected int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for _, m := range h.members {
		if m.Role != cluster.RoleGateway {
			continue
		}
		members++
		if now.Sub(h.both[m.Address]) <= silentAfter {
			connected++
		}
	}
	return members, connected
}

// forget stops the peer of a node that was not heard of for long, unless it is
// a member.
func (h *Hub) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, member := h.members[id]; !member {
		h.stop(id)
	}
}

// stop ends a peer. It stays for a while, to refuse what is sent to it by those
// who have not heard: what an actor is sent while it stops is lost.
func (h *Hub) stop(id string) {
	if pid := h.peers[id]; pid != nil {
		delete(h.peers, id)
		root := h.options.System.Root
		root.Send(pid, &leave{})
		time.AfterFunc(lingering, func() { root.Poison(pid) })
	}
}

// receive hands a frame to the peer that it comes from. A node may be heard of
// before the membership tells of it, and a gateway need not be a member at all.
func (h *Hub) receive(frame *wire.Frame) {
	from := frame.GetFrom()
	if frame.GetTo() != h.options.Self.ID || from == "" || len(from) > maxID || frame.GetFromAddress() == "" {
		return // mostly: meant for one that had this address before
	}
	h.mu.Lock()
	if h.closed || h.peers[from] == nil && len(h.peers) >= len(h.members)+maxStrangers {
		h.mu.Unlock()
		return
	}
	pid := h.peer(from, frame.GetFromAddress())
	h.mu.Unlock()
	h.options.System.Root.Send(pid, frame)
}

// Close stops all peers: what waits for an answer gets a refusal.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	peers := h.peers
	h.peers = map[string]*actor.PID{}
	h.mu.Unlock()
	root := h.options.System.Root
	var err error
	for _, pid := range peers {
		if failed := root.PoisonFuture(pid).Wait(); failed != nil {
			err = failed
		}
	}
	if failed := root.StopFuture(h.nowhere).Wait(); failed != nil {
		err = failed
	}
	return err
}

// lingering is for how long the peer of a member that left stays.
const lingering = 5 * time.Second

// awayRetry is when to try a shard again whose owner is not there.
const awayRetry = 100 * time.Millisecond

// Refuse tells whoever waits for the answer to a message of an actor that it got
// nowhere, and is to be asked again.
func Refuse(root *actor.RootContext, message any) {
	refuse(root, message, refusal.After(refusal.NotReady, awayRetry))
}

// refuse answers a message of an actor of this node.
func refuse(ctx interface{ Send(*actor.PID, any) }, message any, refused *refusal.Refusal) {
	switch m := message.(type) {
	case *shard.Command:
		m.Answer(mailbox.Answer{}, refused)
	case *shard.Fetch:
		ctx.Send(m.Subscriber, &shard.Fetched{Token: m.Token, Refusal: refused})
	case *shard.Inspect:
		m.Answer(talk.View{}, refused)
	case *shard.History:
		m.Answer(shard.HistoryPage{}, refused)
	case *Keys:
		m.Answer(nil, refused)
	}
}
