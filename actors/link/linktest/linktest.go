// Package linktest is a network in memory that loses what it is told to lose.
package linktest

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/link"
	"github.com/tegami-im/tegami/actors/wire"
)

// Network connects nodes of one process. The zero Network is ready.
type Network struct {
	mu    sync.Mutex // guards the following
	nodes map[string]*node
	loses func(from, to string) bool
	trip  func(from, to string) time.Duration
}

// Lose has each frame lost for which a function says so, given the addresses
// that it goes from and to; nil loses none.
func (n *Network) Lose(loses func(from, to string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loses = loses
}

// Delay has each frame arrive later by the time that a function says for the
// addresses that it goes from and to; frames from one node to another stay in
// order. nil delays none.
func (n *Network) Delay(trip func(from, to string) time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trip = trip
}

// Node returns the network as the node at an address has it; one that had the
// address before hears nothing any more. The node must Close it.
func (n *Network) Node(address string) *Node {
	one := &node{}
	one.more.L = &one.mu
	one.done.Go(one.deliver)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes == nil {
		n.nodes = map[string]*node{}
	}
	n.nodes[address] = one
	return &Node{network: n, address: address, node: one, lines: map[string]*line{}, closed: make(chan struct{})}
}

// Node is one end of the network. It implements link.Network.
type Node struct {
	network *Network
	address string
	node    *node

	mu      sync.Mutex // guards the following
	lines   map[string]*line
	closing bool

	closed  chan struct{}
	running sync.WaitGroup
}

var _ link.Network = (*Node)(nil)

// Send implements link.Network. The frame arrives as a copy.
func (n *Node) Send(address string, frame *wire.Frame) {
	data, err := proto.Marshal(frame)
	if err != nil {
		return
	}
	n.network.mu.Lock()
	to := n.network.nodes[address]
	lost := n.network.loses != nil && n.network.loses(n.address, address)
	var trip time.Duration
	if n.network.trip != nil {
		trip = n.network.trip(n.address, address)
	}
	n.network.mu.Unlock()
	if to == nil || lost {
		return
	}
	arrives := new(wire.Frame)
	if proto.Unmarshal(data, arrives) != nil {
		return
	}
	if trip > 0 {
		n.later(address, underWay{arrives, to, time.Now().Add(trip)})
		return
	}
	to.add(arrives)
}

// line is the way to another node on which frames take their time.
type line struct{ frames chan underWay }

// underWay is a frame that arrives at a moment.
type underWay struct {
	frame *wire.Frame
	to    *node
	due   time.Time
}

// lineFrames is how many frames may be under way; more are lost.
const lineFrames = 1 << 14

func (n *Node) later(address string, f underWay) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return
	}
	l := n.lines[address]
	if l == nil {
		l = &line{make(chan underWay, lineFrames)}
		n.lines[address] = l
		n.running.Go(func() { l.carry(n.closed) })
	}
	select {
	case l.frames <- f:
	default:
	}
}

// carry delivers what is under way, in order, until closed is.
func (l *line) carry(closed <-chan struct{}) {
	for {
		select {
		case f := <-l.frames:
			select {
			case <-time.After(time.Until(f.due)):
				f.to.add(f.frame)
			case <-closed:
				return
			}
		case <-closed:
			return
		}
	}
}

// Receive implements link.Network.
func (n *Node) Receive(receive func(*wire.Frame)) {
	n.node.mu.Lock()
	defer n.node.mu.Unlock()
	n.node.receive = receive
}

// Close ends the node: what is sent to its address is lost. It may be called again.
func (n *Node) Close() {
	n.network.mu.Lock()
	if n.network.nodes[n.address] == n.node {
		delete(n.network.nodes, n.address)
	}
	n.network.mu.Unlock()
	n.mu.Lock()
	if !n.closing {
		n.closing = true
		close(n.closed)
	}
	n.mu.Unlock()
	n.running.Wait()
	n.node.close()
}

// node delivers frames in order, on a goroutine of its own.
type node struct {
	mu      sync.Mutex // guards the following
	more    sync.Cond
	frames  []*wire.Frame
	receive func(*wire.Frame)
	closed  bool

	done sync.WaitGroup
}

func (n *node) add(frame *wire.Frame) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.receive != nil {
		n.frames = append(n.frames, frame)
		n.more.Signal()
	}
}

func (n *node) deliver() {
	for {
		n.mu.Lock()
		for len(n.frames) == 0 && !n.closed {
			n.more.Wait()
		}
		frames, receive := n.frames, n.receive
		n.frames = nil
		closed := n.closed
		n.mu.Unlock()
		if closed {
			return
		}
		for _, frame := range frames {
			receive(frame)
		}
	}
}

func (n *node) close() {
	n.mu.Lock()
	n.closed = true
	n.more.Signal()
	n.mu.Unlock()
	n.done.Wait()
}
