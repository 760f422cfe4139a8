package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// Behaviour is one that runs in this node while the node owns the shard of its
// account. The account is made when there is none.
type Behaviour struct {
	Kind *behaviour.Kind
	// User is its user id.
	User string
	// Poster takes what it posts; nil for none. Judge is as in behaviour.Options.
	Poster behaviour.Poster
	Judge  func(error) (permanent bool, after time.Duration)
	// PerSecond bounds its steps. 0 means 100.
	PerSecond int
}

// BehaviourObserver is told what behaviours do. Nil functions are left out.
type BehaviourObserver struct {
	Outcome func(kind string, outcome behaviour.Outcome)
	Stepped func(kind string, took time.Duration)
}

// hosts are the behaviours that run. Each has a goroutine.
type hosts struct {
	stop    context.CancelFunc
	running sync.WaitGroup
}

// startBehaviours starts the hosts. Each waits until its shard is here.
func (n *Node) startBehaviours() error {
	ctx, stop := context.WithCancel(context.Background())
	n.hosts.stop = stop
	for _, b := range n.options.Behaviours {
		h := &home{node: n, user: b.User, fetched: make(chan *shard.Fetched, 1)}
		var err error
		if h.pid, err = n.system.Root.SpawnNamed(actor.PropsFromFunc(h.receive, actor.WithDispatcher(n.dispatcher)), "behaviours/"+b.User); err != nil {
			return fmt.Errorf("spawn behaviour %s: %w", b.User, err)
		}
		options := behaviour.Options{
			Kind: b.Kind, Self: b.User, Home: h, Poster: b.Poster, Judge: b.Judge,
			Logger: n.options.Logger,
		}
		if count := n.options.Observe.Behaviours.Outcome; count != nil {
			options.Observe = func(o behaviour.Outcome) { count(b.Kind.Name(), o) }
		}
		if stepped := n.options.Observe.Behaviours.Stepped; stepped != nil {
			options.Stepped = func(took time.Duration) { stepped(b.Kind.Name(), took) }
		}
		perSecond := b.PerSecond
		if perSecond == 0 {
			perSecond = 100
		}
		n.hosts.running.Go(func() { behaviour.Run(ctx, options, perSecond) })
	}
	return nil
}

// stopBehaviours ends the hosts and waits for them. A step that is under way may
// be taken.
func (n *Node) stopBehaviours() {
	if n.hosts.stop != nil {
		n.hosts.stop()
		n.hosts.running.Wait()
	}
}

// errTaken says that an account is somebody's.
var errTaken = errors.New("the user id of a behaviour is that of a person, who has a password or a device")

// home is the mailbox of a behaviour. It implements behaviour.Home.
type home struct {
	node *Node
	user string
	pid  *actor.PID // takes the answers to fetches
	// fetched has the answer with the highest token, of those that were not taken.
	fetched chan *shard.Fetched
	token   uint64
	newest  uint64 // token of the answers so far; of receive alone
}

// hostDevice is the device under which hosts subscribe: no session has a name
// with a space.
const hostDevice = "behaviour host"

// receive hands an answer to whoever reads. One that nobody took is older; one
// that is older itself, of a shard that answers late, takes no newer one's place.
func (h *home) receive(ctx actor.Context) {
	m, ok := ctx.Message().(*shard.Fetched)
	if !ok || m.Token < h.newest {
		return
	}
	h.newest = m.Token
	select {
	case <-h.fetched:
	default:
	}
	h.fetched <- m
}

// here returns the shard's actor, if this node owns it.
func (h *home) here() (*actor.PID, error) {
	n := h.node
	if pid := n.local(n.places.Shard(h.user)); pid != nil {
		return pid, nil
	}
	return nil, refusal.After(refusal.NotReady, time.Second)
}

// Load implements behaviour.Home. It makes the account that there is not.
func (h *home) Load(ctx context.Context) (*behaviour.Progress, error) {
	if _, err := h.here(); err != nil {
		return nil, err
	}
	n := h.node
	view, err := n.view(ctx, h.user, &record.Query{About: &record.Query_Behaviour{Behaviour: true}})
	if reasonIs(err, refusal.UnknownRecipient) || err == nil && !view.Exists {
		if _, err := n.CreateAccounts(ctx, []talk.NewAccount{{User: h.user}}); err != nil {
			return nil, err
		}
		return new(behaviour.Progress), nil
	}
	if err != nil {
		return nil, err
	}
	if view.Account.PasswordHash != "" || len(view.Devices) > 0 {
		return nil, fmt.Errorf("%w: %s", errTaken, h.user)
	}
	key, err := n.key(ctx, h.user)
	if err != nil {
		return nil, err
	}
	opener := sealing.NewOpener(key, h.user)
	return behaviour.Open(view.Known, func(id, sealed []byte) ([]byte, error) { return opener.Open(nil, id, sealed) })
}

const (
	// readLimit is how many operations are read at a time.
	readLimit = 64
	// readDeadline is for an answer that is not held.
	readDeadline = 5 * time.Second
)

// Read implements behaviour.Home.
func (h *home) Read(ctx context.Context, after int64, until time.Time) ([]behaviour.Operation, error) {
	patience := time.Until(until)
	hold := patience > 0
	if !hold { // what there is comes at once, though not in no time
		patience = readDeadline
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		pid, err := h.here()
		if err != nil {
			return nil, err
		}
		h.token = h.node.fetches.Add(1)
		h.node.system.Root.Send(pid, &shard.Fetch{
			Session: talk.Session{User: h.user, Device: hostDevice}, After: after, Limit: readLimit, Hold: hold, Host: true,
			Subscriber: h.pid, Token: h.token,
		})
		fetched, err := h.await(ctx, timer)
		switch {
		case err != nil || fetched == nil:
			return nil, err
		case fetched.Refusal != nil:
			return nil, fetched.Refusal
		case fetched.Reread:
		default:
			return h.open(ctx, fetched.Page.Operations)
		}
	}
}

// await returns the answer to the newest fetch, or nil when the time is over.
func (h *home) await(ctx context.Context, timer *time.Timer) (*shard.Fetched, error) {
	for {
		select {
		case m := <-h.fetched:
			if m.Token == h.token {
				return m, nil
			}
		case <-timer.C:
			return nil, nil //nolint:nilnil // there are none, which is no error
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (h *home) open(ctx context.Context, encoded [][]byte) ([]behaviour.Operation, error) {
	operations, err := record.DecodeOperations(encoded)
	if err != nil {
		return nil, err
	}
	bodies, err := h.node.Open(ctx, h.user, operations)
	if err != nil {
		return nil, err
	}
	opened := make([]behaviour.Operation, len(operations))
	for i, operation := range operations {
		opened[i] = behaviour.Operation{Operation: operation, Body: bodies[i]}
		if called := operation.GetCalled(); called != nil {
			opener, err := h.node.Opener(ctx, h.user)
			if err != nil {
				return nil, err
			}
			opened[i].Call = opener.Open(nil, called.GetId(), called.GetSealedBody())
		}
	}
	return opened, nil
}

// Commit implements behaviour.Home.
func (h *home) Commit(ctx context.Context, step *behaviour.Step) error {
	n := h.node
	sealed, err := step.Record(h.user, func(to string, id, body []byte) ([]byte, error) {
		key, err := n.key(ctx, to)
		if err != nil {
			return nil, err
		}
		return sealing.Seal(key, to, id, body), nil
	})
	if err != nil {
		return err
	}
	r := n.newRecord(h.user)
	r.Id, r.DedupKey, r.BodyHash = step.ID, nil, nil
	r.Kind = &record.Record_Step{Step: sealed}
	trace := n.options.Observe.Trace(ctx)
	answered := make(chan *refusal.Refusal, 1)
	n.submit(r, trace, func(_ mailbox.Answer, refused *refusal.Refusal) {
		if trace != nil {
			trace.End(reasonOf(refused))
		}
		answered <- refused
	})
	select {
	case refused := <-answered:
		if refused != nil {
			return refused
		}
		return nil
	case <-ctx.Done():
		return refusal.After(refusal.OutcomeUnknown, time.Second)
	}
}

// Call hands a behaviour what was asked from outside under an id, once for each
// id within a day. Refused with DifferentBody, UnknownRecipient.
func (n *Node) Call(ctx context.Context, user, id string, body []byte) error {
	key, err := n.key(ctx, user)
	if err != nil {
		return err
	}
	r := n.newRecord(user)
	r.DedupKey = make([]byte, persistence.DedupKeySize)
	sealing.Hash(r.DedupKey, key, "call id", []byte(id))
	r.BodyHash = make([]byte, persistence.BodyHashSize)
	sealing.HashBody(r.BodyHash, key, body)
	r.Kind = &record.Record_Call{Call: &record.Call{SealedBody: sealing.Seal(key, user, r.Id, body)}}
	_, err = n.do(ctx, r)
	return err
}
