package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan is the scenarios whose figures have targets. A nil one is left out.
type Plan struct {
	Saturation *Saturation
	// Low is the rate at which latency is judged; Half's rate is half of what
	// Saturation reached in the same round.
	Low, Half     *Rate
	Alone, Shared *Held
	Accounts      *Accounts
	Restart       *Restart
	// RestartFlags are further flags of the server that Restart kills.
	RestartFlags []string
}

// DefaultPlan is what the targets were set for.
func DefaultPlan() Plan {
	load := Load{Users: 2000, Size: 100, Warmup: 3 * time.Second, Duration: 15 * time.Second, PollTimeout: time.Minute, Seed: 1}
	low := load
	low.Duration = 30 * time.Second
	return Plan{
		Saturation: &Saturation{Load: load},
		Low:        &Rate{Load: low, Rate: 200},
		Half:       &Rate{Load: load},
		Alone:      &Held{Connections: 8000, Streams: 1},
		Shared:     &Held{Connections: 100, Streams: 100},
		Accounts:   &Accounts{Accounts: 1_000_000, Active: 1000},
		Restart:    &Restart{Records: 1_000_000, Users: 10_000, Window: 512, Seed: 1},
		// Nothing is stored for as long as may be, and there are shards enough
		// that none reaches its limit of records which are not.
		RestartFlags: []string{
			"--set=store.write_age=1h", "--set=store.write_records=1000000",
			"--set=store.checkpoint_interval=1h", "--set=data.shards=512",
		},
	}
}

// round is what one run of the plan measured; a nil result was left out.
type round struct {
	saturation, low, half, alone, shared, accounts, restart *Result
}

// run makes one round, each scenario on a new server. When one fails, the
// others are run all the same.
func (p Plan) run(ctx context.Context, server Server, progress func(string)) (round, error) {
	var r round
	var failed error
	restartServer := server
	restartServer.Options.Flags = slices.Concat(server.Options.Flags, p.RestartFlags)
	run := func(scenario Scenario, server Server) (*Result, error) {
		result, err := Run(ctx, Config{Server: server, Scenario: scenario, Progress: progress})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", scenario.name(), err)
		}
		if result.Faults.Any() {
			err = fmt.Errorf("%s: %w: %s\n%s", scenario.name(), ErrFaults, result.Faults, strings.Join(result.Evidence, "\n"))
		}
		return &result, err
	}
	for _, step := range []struct {
		planned  bool
		scenario func() Scenario // made when its turn comes
		server   Server
		into     **Result
	}{
		{p.Saturation != nil, func() Scenario { return p.Saturation }, server, &r.saturation},
		{p.Low != nil, func() Scenario { return p.Low }, server, &r.low},
		{p.Half != nil && p.Saturation != nil, func() Scenario {
			half := *p.Half
			if r.saturation != nil {
				half.Rate = r.saturation.Messages.AckedPerSecond / 2
			}
			return &half
		}, server, &r.half},
		{p.Alone != nil, func() Scenario { return p.Alone }, server, &r.alone},
		{p.Shared != nil, func() Scenario { return p.Shared }, server, &r.shared},
		{p.Accounts != nil, func() Scenario { return p.Accounts }, server, &r.accounts},
		{p.Restart != nil, func() Scenario { return p.Restart }, restartServer, &r.restart},
	} {
		if !step.planned {
			continue
		}
		var err error
		if *step.into, err = run(step.scenario(), step.server); err != nil {
			failed = errors.Join(failed, err)
			if progress != nil {
				progress("failed: " + err.Error())
			}
		}
	}
	return r, failed
}

// without leaves scenarios out.
func (p Plan) without(names []string) Plan {
	for _, name := range names {
		switch name {
		case "saturation":
			p.Saturation, p.Half = nil, nil
		case "rate":
			p.Low, p.Half = nil, nil
		case "held":
			p.Alone, p.Shared = nil, nil
		case "accounts":
			p.Accounts = nil
		case "restart":
			p.Restart = nil
		}
	}
	return p
}
