package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/tegami-im/tegami/bench/target"
)

// Server names the server to measure: a running one by URL, or else one of our
// own, made by Options.
type Server struct {
	URL, Admin, AdminToken string
	Options                target.Options
}

// Config is one run.
type Config struct {
	Server   Server
	Scenario Scenario
	// WakeLimit is how long held polls get at the end to hand over what was
	// acknowledged, before the mailboxes are read directly; 0 means 5 s.
	WakeLimit time.Duration
	// Progress is told what goes on, in a line of text; may be nil.
	Progress func(line string)
}

// Scenario is one kind of run: *Saturation, *Rate, *Held, *Accounts, *Pages,
// *Group or *Restart.
type Scenario interface {
	name() string
	validate() error
	run(ctx context.Context, r *run) error
}

// run is a run in progress.
type run struct {
	target    *target.Target
	result    *Result
	wakeLimit time.Duration
	say       func(format string, arguments ...any)
}

// signInLimit is how long the access tokens of a run are good for. Nothing
// here refreshes them: a run is shorter.
const signInLimit = 15 * time.Minute

// Run makes one run and returns what was measured. A result with faults is no
// error: see Result.Faults.
func Run(ctx context.Context, config Config) (Result, error) {
	if err := config.Scenario.validate(); err != nil {
		return Result{}, err
	}
	// Memory is there, processor time is what client and server compete for.
	defer debug.SetGCPercent(debug.SetGCPercent(400))

	result := Result{Scenario: config.Scenario.name()}
	r := &run{result: &result, wakeLimit: cmp.Or(config.WakeLimit, 5*time.Second), say: func(format string, arguments ...any) {
		if config.Progress != nil {
			config.Progress(fmt.Sprintf(format, arguments...))
		}
	}}
	var err error
	if r.target, err = config.Server.connect(ctx); err != nil {
		return Result{}, err
	}
	if r.target.InMemory() {
		r.say("the data lies in memory, where an fsync costs nothing: name a folder on a disk to measure durable sends")
	}
	err = config.Scenario.run(ctx, r)
	return result, errors.Join(err, r.target.Close())
}

func (s Server) connect(ctx context.Context) (*target.Target, error) {
	if s.URL != "" {
		return target.Attach(s.URL, s.Admin, s.AdminToken)
	}
	return target.Start(ctx, s.Options)
}
