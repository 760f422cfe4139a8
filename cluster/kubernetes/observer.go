package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

// Observer learns who the members are without being one. Its methods are safe
// for concurrent use.
type Observer struct {
	cluster.Feed
	options Options
	api     *api
	// changed is called when the members were published; nil for nobody.
	changed func(map[string]lease)

	mu     sync.Mutex      // guards the following
	leases map[string]seen // by name

	context context.Context //nolint:containedctx // of the goroutines, until stop
	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// seen is a lease, and when it was last seen to be written, by this process's
// clock.
type seen struct {
	lease
	at time.Time
}

// Observe returns once the members are known; ctx bounds the wait for that. The
// caller must Close the observer.
func Observe(ctx context.Context, options Options) (*Observer, error) {
	o, err := newObserver(options)
	if err == nil {
		err = o.start(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("kubernetes: observe: %w", err)
	}
	return o, nil
}

func newObserver(options Options) (*Observer, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	calls, err := newAPI(options)
	if err != nil {
		return nil, err
	}
	return &Observer{options: options, api: calls, leases: map[string]seen{}}, nil
}

// start lists the members and watches them from there.
func (o *Observer) start(ctx context.Context) error {
	revision, err := o.list(ctx)
	if err != nil {
		return err
	}
	o.context, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.running.Go(func() { o.follow(o.context, revision) })
	return nil
}

// stop ends the goroutines.
func (o *Observer) stop() {
	o.cancel()
	o.running.Wait()
}

// Close ends the observer. Calls after the first do nothing.
func (o *Observer) Close() error {
	o.closing.Do(o.stop)
	return nil
}

// list reads all leases, takes each for just written, since nobody knows what
// happened before, and publishes who has them.
func (o *Observer) list(ctx context.Context) (revision string, err error) {
	all, err := o.api.list(ctx)
	if err != nil {
		return "", err
	}
	now := time.Now()
	o.mu.Lock()
	clear(o.leases)
	for _, l := range all.Items {
		o.leases[l.Metadata.Name] = seen{l, now}
	}
	o.mu.Unlock()
	return all.Metadata.ResourceVersion, o.publish(all.Metadata.ResourceVersion)
}

const (
	// retryWatch is how long to wait before the members are listed again, goOn before
	// a watch is that the server has ended.
	retryWatch = 500 * time.Millisecond
	goOn       = 50 * time.Millisecond
)

// follow applies changes from a revision on. A watch that the server ends in good
// order goes on from where it was; when it ends otherwise, the members are listed
// again.
func (o *Observer) follow(ctx context.Context, revision string) {
	for {
		err := o.watch(ctx, &revision)
		pause := retryWatch
		if errors.Is(err, io.EOF) {
			pause, err = goOn, nil
		}
		for {
			if err != nil && ctx.Err() == nil {
				o.options.Logger.Warn("the API server does not tell of members; they are listed again", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if err == nil {
				break
			}
			if revision, err = o.list(ctx); err == nil {
				break
			}
		}
	}
}

// errSilent is of a watch that says nothing, where renewals should be heard.
var errSilent = errors.New("the watch is silent")

// watch applies changes until the watch ends, or has been silent for so long that
// it must be broken: every member renews its lease four times in its length.
func (o *Observer) watch(ctx context.Context, revision *string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(o.silence(), func() { cancel(errSilent) })
	defer silence.Stop()
	err := o.api.watch(ctx, *revision, func(e event) error {
		silence.Reset(o.silence())
		return o.apply(e, revision)
	})
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

// silence is how long a watch may say nothing.
func (o *Observer) silence() time.Duration { return max(o.options.Lease, 2*callLimit) }

// apply takes one event.
func (o *Observer) apply(e event, revision *string) error {
	var l lease
	if err := json.Unmarshal(e.Object, &l); err != nil {
		return err
	}
	if l.Metadata.ResourceVersion != "" {
		*revision = l.Metadata.ResourceVersion
	}
	name := l.Metadata.Name
	o.mu.Lock()
	before, had := o.leases[name]
	switch e.Type {
	case eventAdded, eventModified:
		o.leases[name] = seen{l, time.Now()}
	case eventDeleted:
		delete(o.leases, name)
	case eventBookmark:
		o.mu.Unlock()
		return nil
	default:
		o.mu.Unlock()
		return fmt.Errorf("an event of type %q", e.Type)
	}
	o.mu.Unlock()
	if e.Type != eventDeleted && had && before.Metadata.Annotations[annotation] == l.Metadata.Annotations[annotation] {
		return nil // a renewal
	}
	return o.publish(l.Metadata.ResourceVersion)
}

// publish hands on who the members are.
func (o *Observer) publish(revision string) error {
	number, err := strconv.ParseUint(revision, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no revision: %w", revision, err)
	}
	o.mu.Lock()
	leases := make(map[string]lease, len(o.leases))
	var members []cluster.Member
	for name, s := range o.leases {
		leases[name] = s.lease
		member, err := cluster.DecodeMember(s.Spec.HolderIdentity, []byte(s.Metadata.Annotations[annotation]))
		if err != nil {
			o.options.Logger.Warn("what a member says of itself makes no sense; it is left out", "lease", name, "error", err)
			continue
		}
		members = append(members, member)
	}
	o.mu.Unlock()
	snapshot, err := cluster.NewSnapshot(number, members)
	if err != nil {
		o.options.Logger.Error("members do not go together", "error", err)
		return nil
	}
	o.Publish(snapshot)
	if o.changed != nil {
		o.changed(leases)
	}
	return nil
}

// overdue returns the leases that were last seen to be written before a time.
func (o *Observer) overdue(before time.Time) (all []lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.leases {
		if s.at.Before(before) {
			all = append(all, s.lease)
		}
	}
	return all
}
