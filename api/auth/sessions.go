package auth

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// SessionOptions says how sessions are watched. Zero values mean the defaults.
type SessionOptions struct {
	// Fresh is how long a confirmed session is taken to be live without asking
	// again. Default 5 s.
	Fresh time.Duration
	// CheckTimeout bounds one question to the talk tier. Default 5 s, for which
	// long a send is tried, too.
	CheckTimeout time.Duration
	// MaxDevices is how many devices are remembered, beside those that hold a
	// poll. Default 131,072.
	MaxDevices int
}

func (o SessionOptions) withDefaults() SessionOptions {
	if o.Fresh <= 0 {
		o.Fresh = 5 * time.Second
	}
	if o.CheckTimeout <= 0 {
		o.CheckTimeout = 5 * time.Second
	}
	if o.MaxDevices <= 0 {
		o.MaxDevices = 1 << 17
	}
	return o
}

// sessionShards is how many locks the table has.
const sessionShards = 32

// Sessions knows which sessions live. It asks the talk tier about one that it
// has not seen, or not for a while, and believes without asking one that was
// just issued, or whose mailbox holds a poll, since the talk tier reports when
// those end. It is safe for concurrent use.
type Sessions struct {
	check  func(context.Context, talk.Session) error
	opts   SessionOptions
	start  time.Time
	seed   maphash.Seed
	shards [sessionShards]sessionShard
}

type sessionShard struct {
	mu      sync.Mutex
	devices map[deviceKey]*liveness
}

type deviceKey struct{ user, device string }

// liveness is what is known of one device. Its shard's lock guards it.
type liveness struct {
	epoch     uint64        // of the newest session that was seen alive
	ended     uint64        // sessions up to this epoch have ended, for ever
	confirmed time.Duration // when epoch was last known to be live
	heldEpoch uint64        // of the session that holds polls
	held      int
	asking    *question
}

// question is one call of the talk tier that several requests wait for.
type question struct {
	epoch uint64
	done  chan struct{}
	err   error // set before done is closed
}

// NewSessions returns a table that asks check about sessions. check returns
// nil, or a refusal with [refusal.UnknownDevice] for one that has ended, or
// another error.
func NewSessions(check func(context.Context, talk.Session) error, opts SessionOptions) *Sessions {
	return &Sessions{check: check, opts: opts.withDefaults(), start: time.Now(), seed: maphash.MakeSeed()}
}

// Check returns nil if the session is live.
func (s *Sessions) Check(ctx context.Context, session talk.Session) error {
	shard := s.shard(session)
	shard.mu.Lock()
	device := s.device(shard, session)
	if known, err := s.known(device, session); known {
		shard.mu.Unlock()
		return err
	}
	if q := device.asking; q != nil && q.epoch == session.Epoch {
		shard.mu.Unlock()
		return q.wait(ctx)
	}
	q := &question{epoch: session.Epoch, done: make(chan struct{})}
	device.asking = q
	asked := s.now()
	shard.mu.Unlock()

	// The answer is for all who wait: it does not end with this request.
	askCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.CheckTimeout)
	defer cancel()
	err := s.check(askCtx, session)

	shard.mu.Lock()
	defer shard.mu.Unlock()
	if device.asking == q {
		device.asking = nil
	} else {
		asked = s.never() // doubted since: the answer is good for this once
	}
	q.err = device.learn(session.Epoch, asked, err)
	close(q.done)
	return q.err
}

// CheckNow is Check without asking: known is false when Check would have to.
func (s *Sessions) CheckNow(session talk.Session) (known bool, err error) {
	shard := s.shard(session)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	return s.known(s.device(shard, session), session)
}

// known returns what Check does, if the talk tier need not be asked. The
// caller holds the shard's lock.
func (s *Sessions) known(device *liveness, session talk.Session) (known bool, err error) {
	switch {
	case session.Epoch <= device.ended || session.Epoch < device.epoch:
		return true, errNoSession
	case device.held > 0 && device.heldEpoch == session.Epoch,
		device.epoch == session.Epoch && s.now()-device.confirmed < s.opts.Fresh:
		return true, nil
	}
	return false, nil
}

func (q *question) wait(ctx context.Context) error {
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// learn takes in what the talk tier said of an epoch when it was asked, and
// returns what to tell the requests that wait.
func (d *liveness) learn(epoch uint64, asked time.Duration, err error) error {
	var refused *refusal.Refusal
	switch {
	case epoch <= d.ended: // it ended while we asked
		return errNoSession
	case errors.As(err, &refused) && refused.Reason == refusal.UnknownDevice:
		d.ended = epoch
		return errNoSession
	case err != nil:
		return err
	}
	switch {
	case epoch > d.epoch:
		d.epoch, d.confirmed = epoch, asked
	case epoch == d.epoch:
		d.confirmed = max(d.confirmed, asked)
	}
	return nil
}

// Confirm notes that the talk tier has just issued a session, or acted for it.
func (s *Sessions) Confirm(session talk.Session) {
	s.update(session, func(d *liveness) { _ = d.learn(session.Epoch, s.now(), nil) })
}

// Hold notes that the mailbox of a session's user holds one poll more of it. Each
// Hold is followed by a Release.
func (s *Sessions) Hold(session talk.Session) {
	s.update(session, func(d *liveness) {
		switch {
		case session.Epoch > d.heldEpoch:
			d.heldEpoch, d.held = session.Epoch, 1
		case session.Epoch == d.heldEpoch:
			d.held++
		}
	})
}

// Release notes that a session holds one poll less. It was live until now,
// unless it has ended.
func (s *Sessions) Release(session talk.Session) {
	s.update(session, func(d *liveness) {
		if session.Epoch == d.heldEpoch && d.held > 0 {
			d.held--
			_ = d.learn(session.Epoch, s.now(), nil)
		}
	})
}

// End notes that a session has ended: the next request in its name is refused.
func (s *Sessions) End(session talk.Session) {
	shard := s.shard(session)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	// About a device that is not in the table the talk tier will be asked.
	if d, ok := shard.devices[keyOf(session)]; ok {
		d.ended = max(d.ended, session.Epoch)
		if d.heldEpoch <= d.ended {
			d.held = 0
		}
	}
}

// Doubt makes the next request of a device ask the talk tier, whatever is
// being asked already.
func (s *Sessions) Doubt(user, device string) {
	shard := s.shard(talk.Session{User: user, Device: device})
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if d, ok := shard.devices[deviceKey{user, device}]; ok {
		d.confirmed, d.held, d.asking = s.never(), 0, nil
	}
}

// Len returns how many devices are remembered.
func (s *Sessions) Len() int {
	n := 0
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		n += len(shard.devices)
		shard.mu.Unlock()
	}
	return n
}

func (s *Sessions) update(session talk.Session, change func(*liveness)) {
	shard := s.shard(session)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	change(s.device(shard, session))
}

func (s *Sessions) now() time.Duration { return time.Since(s.start) }

// never is an instant too long ago to count as a confirmation.
func (s *Sessions) never() time.Duration { return -s.opts.Fresh }

func keyOf(session talk.Session) deviceKey { return deviceKey{session.User, session.Device} }

func (s *Sessions) shard(session talk.Session) *sessionShard {
	return &s.shards[maphash.Comparable(s.seed, keyOf(session))%sessionShards]
}

// device returns what is known of the session's device, making room when it is
// new. The caller holds the shard's lock.
func (s *Sessions) device(shard *sessionShard, session talk.Session) *liveness {
	key := keyOf(session)
	if d, ok := shard.devices[key]; ok {
		return d
	}
	if shard.devices == nil {
		shard.devices = make(map[deviceKey]*liveness)
	}
	if len(shard.devices) >= max(s.opts.MaxDevices/sessionShards, 1) {
		shard.forget()
	}
	d := &liveness{confirmed: s.never()}
	shard.devices[key] = d
	return d
}

// forget drops a few devices, chosen at random, that hold no poll and that
// nobody asks about. To forget one costs a question when it comes back.
func (shard *sessionShard) forget() {
	const probes = 8
	probed := 0
	for key, d := range shard.devices {
		if d.held == 0 && d.asking == nil {
			delete(shard.devices, key)
		}
		if probed++; probed == probes {
			return
		}
	}
}
