package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options of the processing of one task. Zero values stand for the defaults.
type Options struct {
	// Name is the task's: it is in metrics, dead letters, the consumer group and
	// the client id. Letters, digits and dashes. It must be given.
	Name string
	// Group is the consumer group. Default tegami-worker-NAME.
	Group string
	// Topics are those that are read, and that which takes what is given up.
	// Default: DefaultTopics.
	Topics Topics
	// InFlight bounds the events that are handled at a time. Default 64.
	InFlight int
	// Window bounds the events of a partition from the lowest unfinished one on,
	// and KeyQueue those of one key. When either is full the partition is paused.
	// Defaults 1,024 and 128.
	Window, KeyQueue int
	// Attempts is how often an event is tried before it is a dead letter. Default
	// 10.
	Attempts int
	// Backoff is the delay after the first failure, which doubles with each up to
	// MaxBackoff. Defaults 500 ms and 1 minute. MaxDelay bounds what RetryAfter
	// asks for; default 5 minutes.
	Backoff, MaxBackoff, MaxDelay time.Duration
	// Timeout bounds one attempt. Default 10 s.
	Timeout time.Duration
	// DrainTimeout is how long attempts in flight may go on when a partition is
	// taken away. Default 4 s. It must be below SessionTimeout, which is how long
	// the group waits for a worker that is silent; default 10 s.
	DrainTimeout, SessionTimeout time.Duration
	// CommitInterval is how often progress is committed: what was handled since is
	// handled again after a crash. Default 500 ms.
	CommitInterval time.Duration
	// SeenKeys bounds the memory for recognizing events that were published again,
	// in keys for each partition. Default 2,048.
	SeenKeys int
	// Observe is told what happens. Its nil fields are not called.
	Observe Observer
	// Logger takes the log. Default: none.
	Logger *slog.Logger
}

// Outcome is how an attempt, or an event, ended.
type Outcome string

// The outcomes.
const (
	// Handled: the task returned nil.
	Handled Outcome = "handled"
	// Failed: the task returned an error, and the event is tried again.
	Failed Outcome = "failed"
	// Dead: the event became a dead letter.
	Dead Outcome = "dead"
	// Skipped: the event was published again, and not handed in.
	Skipped Outcome = "skipped"
)

// Observer is told what a task does. It must not block.
type Observer struct {
	// Event is told each outcome.
	Event func(task string, outcome Outcome)
	// Attempt is told how long each call of Handle took.
	Attempt func(task string, took time.Duration)
}

func orDefault[T int | time.Duration](value *T, otherwise T) {
	if *value == 0 {
		*value = otherwise
	}
}

// complete fills in the defaults and checks the options.
func (o *Options) complete() error {
	orDefault(&o.InFlight, 64)
	orDefault(&o.Window, 1024)
	orDefault(&o.KeyQueue, 128)
	orDefault(&o.Attempts, 10)
	orDefault(&o.Backoff, 500*time.Millisecond)
	orDefault(&o.MaxBackoff, time.Minute)
	orDefault(&o.MaxDelay, 5*time.Minute)
	orDefault(&o.Timeout, 10*time.Second)
	orDefault(&o.DrainTimeout, 4*time.Second)
	orDefault(&o.SessionTimeout, 10*time.Second)
	orDefault(&o.CommitInterval, 500*time.Millisecond)
	orDefault(&o.SeenKeys, 2048)
	if o.Group == "" {
		o.Group = "tegami-worker-" + o.Name
	}
	if o.Topics == (Topics{}) {
		o.Topics = DefaultTopics
	}
	if o.Observe.Event == nil {
		o.Observe.Event = func(string, Outcome) {}
	}
	if o.Observe.Attempt == nil {
		o.Observe.Attempt = func(string, time.Duration) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case !ValidName(o.Name):
		return fmt.Errorf("%q is no name for a task: letters, digits and dashes", o.Name)
	case o.InFlight < 1 || o.Window < 1 || o.KeyQueue < 1 || o.Attempts < 1 || o.SeenKeys < 1:
		return errors.New("every bound must be at least 1")
	case o.Backoff < 0 || o.MaxBackoff < o.Backoff || o.MaxDelay < 0:
		return errors.New("the back-off must not be negative, nor above its bound")
	case o.Timeout <= 0 || o.CommitInterval <= 0:
		return errors.New("timeout and commit interval must be above 0")
	case o.DrainTimeout < 0 || o.DrainTimeout >= o.SessionTimeout:
		return fmt.Errorf("the drain timeout of %v must be below the session timeout of %v", o.DrainTimeout, o.SessionTimeout)
	}
	return nil
}

// ValidName reports whether a task may be called so.
func ValidName(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= 100
}
