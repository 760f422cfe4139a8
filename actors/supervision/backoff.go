package supervision

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Backoff returns a strategy that restarts a failed child after a wait: least
// after the first failure, twice as long after each further one within a
// minute, at most longest. It never gives up. What is sent to the child
// meanwhile waits.
func Backoff(logger *slog.Logger, least, longest time.Duration) actor.SupervisorStrategy {
	return &backoff{logger: logger, least: least, longest: longest}
}

type backoff struct {
	logger         *slog.Logger
	least, longest time.Duration
}

// HandleFailure implements actor.SupervisorStrategy.
func (b *backoff) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, statistics *actor.RestartStatistics, reason, _ any) {
	statistics.Fail()
	failures := statistics.NumberOfFailures(time.Minute)
	wait := b.longest
	if doublings := failures - 1; doublings < 20 {
		wait = min(b.least<<max(doublings, 0), b.longest)
	}
	b.logger.Error("actor failed; it is restarted", "actor", child.GetId(), "failures", failures, "after", wait, "reason", reason)
	// RestartChildren only sends the child a message: any goroutine may.
	time.AfterFunc(wait, func() { supervisor.RestartChildren(child) })
}
