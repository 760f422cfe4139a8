package kafka

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// saramaLog hands what package sarama logs to the journal that was opened last.
// sarama has one logger for the process, which must not change while it is
// used.
var saramaLog logAdapter

func init() { sarama.Logger = &saramaLog }

type logAdapter struct {
	logger atomic.Pointer[slog.Logger]
}

func (a *logAdapter) write(text string) {
	if logger := a.logger.Load(); logger != nil {
		logger.Debug("sarama", "text", strings.TrimSpace(text))
	}
}

// Print implements sarama.StdLogger.
func (a *logAdapter) Print(v ...any) { a.write(fmt.Sprint(v...)) }

// Printf implements sarama.StdLogger.
func (a *logAdapter) Printf(format string, v ...any) { a.write(fmt.Sprintf(format, v...)) }

// Println implements sarama.StdLogger.
func (a *logAdapter) Println(v ...any) { a.write(fmt.Sprintln(v...)) }

// outage says when to log what goes on failing: at first, and then every now and
// again. It belongs to one goroutine.
type outage struct{ logged time.Time }

const logEvery = 10 * time.Second

func (o *outage) due() bool {
	if time.Since(o.logged) < logEvery {
		return false
	}
	o.logged = time.Now()
	return true
}

// over has the next failure logged.
func (o *outage) over() { o.logged = time.Time{} }
