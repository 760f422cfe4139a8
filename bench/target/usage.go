package target

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a server has spent since its start, and what it holds.
type Usage struct {
	CPU time.Duration
	// RSS is the resident memory, in bytes; PeakRSS the most that it was, 0
	// when that is not known.
	RSS, PeakRSS int64
	// Fsyncs counts those of all its databases, JournalFsyncs the journal's.
	// They are -1 when the server does not count them.
	Fsyncs, JournalFsyncs int64
	Goroutines            int64
	// Held counts the polls that are held; -1 when that is not known.
	Held int64
	// Unstored counts the journalled records that the store does not have yet;
	// -1 when that is not known.
	Unstored int64
}

// Usage reads the server's figures: CPU time and memory of our own process
// from the system, of another from its metrics.
func (t *Target) Usage(ctx context.Context) (Usage, error) {
	text, err := t.request(ctx, http.MethodGet, "/metrics", "", nil)
	if err != nil {
		return Usage{}, err
	}
	metrics := parseMetrics(string(text))
	u := Usage{
		CPU:           time.Duration(metrics["process_cpu_seconds_total"] * float64(time.Second)),
		RSS:           int64(metrics["process_resident_memory_bytes"]),
		Fsyncs:        known(metrics, "tegami_fsyncs_total"),
		JournalFsyncs: known(metrics, "tegami_journal_fsyncs_total"),
		Held:          known(metrics, "tegami_polls_held"),
		Unstored:      known(metrics, "tegami_records_unstored"),
		Goroutines:    int64(metrics["go_goroutines"]),
	}
	if t.Own() {
		return u, u.readProc(t.process.command.Process.Pid)
	}
	return u, nil
}

// CPU is the CPU time alone. For our own process it does not ask the server,
// so that it may be read often.
func (t *Target) CPU(ctx context.Context) (time.Duration, error) {
	if !t.Own() {
		u, err := t.Usage(ctx)
		return u.CPU, err
	}
	var u Usage
	err := u.readProc(t.process.command.Process.Pid)
	return u.CPU, err
}

// known is a metric, or -1 when the server has none of that name.
func known(metrics map[string]float64, name string) int64 {
	value, ok := metrics[name]
	if !ok {
		return -1
	}
	return int64(value)
}

// clockTick is the unit of CPU times in /proc (USER_HZ), the same on every
// Linux that Go runs on.
const clockTick = time.Second / 100

func (u *Usage) readProc(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	// The name, in parentheses, may hold spaces: count from behind it. There,
	// user and system time are fields 12 and 13.
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	u.CPU = time.Duration(ticks) * clockTick

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.RSS = kib << 10
		case "VmHWM":
			u.PeakRSS = kib << 10
		}
	}
	return nil
}

// parseMetrics reads the Prometheus text format and adds up each metric's
// series. It is enough for counters and gauges.
func parseMetrics(text string) map[string]float64 {
	metrics := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.IndexAny(line, "{ ")
		if end < 0 {
			continue
		}
		name, rest := line[:end], line[end:]
		if rest[0] == '{' {
			rest = rest[strings.LastIndexByte(rest, '}')+1:]
		}
		fields := strings.Fields(rest) // value, then perhaps a time
		if len(fields) == 0 {
			continue
		}
		if value, err := strconv.ParseFloat(fields[0], 64); err == nil {
			metrics[name] += value
		}
	}
	return metrics
}
