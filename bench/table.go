package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/tegami-im/tegami/bench/ledger"
)

// WriteTable writes a result for people.
func (r Result) WriteTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		fmt.Fprintf(table, name+"\t"+format+"\n", values...)
	}
	row("scenario", "%s", r.Scenario)
	if m := r.Messages; m != nil {
		m.rows(row)
	}
	if h := r.Held; h != nil {
		row("polls held", "%d on %d connections", h.Polls, h.Connections)
		row("server memory", "%s before, %s with them", mebibytes(h.Before), mebibytes(h.After))
		row("memory for each poll", "%.1f KB", h.PerPoll/1000)
		row("goroutines", "%d", h.Goroutines)
	}
	if a := r.Accounts; a != nil {
		row("accounts", "%d, %d of them active", a.Accounts, a.Active)
		row("created", "%.0f a second", a.CreatedPerSecond)
		row("server memory", "%s, %s after FreeOSMemory, %s at most", mebibytes(a.Memory), mebibytes(a.MemoryFreed), mebibytes(a.MemoryPeak))
		row("clean start", "%.2f s, %s then", a.CleanStart, mebibytes(a.StartMemory))
	}
	if s := r.Restart; s != nil {
		row("journalled", "%d messages, %d records, %d of them not stored", s.Messages, s.Records, s.Unstored)
		row("start after SIGKILL", "%.2f s, %s at most", s.KilledStart, mebibytes(s.MemoryPeak))
		row("start after a clean stop", "%.2f s", s.CleanStart)
	}
	if r.Group != nil {
		r.Group.rows(row)
	}
	if p := r.Pages; p != nil {
		row("pages of 1,000", "%.0f a second by %d readers, who pause %.1f s", p.PerSecond, p.Readers, p.Think)
		latencyRow(row, "a page", p.Page)
		latencyRow(row, "send to ack without readers", p.AloneAck)
		latencyRow(row, "send to delivery without readers", p.AloneDelivery)
	}
	row("faults", "%s", r.Faults)
	for _, what := range r.Evidence {
		row("", "%s", what)
	}
	for _, what := range slices.Sorted(maps.Keys(r.Errors)) {
		row("error", "%d × %s", r.Errors[what], what)
	}
	return table.Flush()
}

func (m *MessageFigures) rows(row func(name, format string, values ...any)) {
	row("users", "%d on %d connections", m.Users, m.Connections)
	if m.Window > 0 {
		row("in flight", "%d", m.Window)
	}
	if m.Rate > 0 {
		row("due", "%.0f a second", m.Rate)
	}
	row("acknowledged", "%.0f a second", m.AckedPerSecond)
	row("delivered", "%.0f a second", m.DeliveredPerSecond)
	for _, l := range []struct {
		name string
		ledger.Latency
	}{{"send to ack", m.Ack}, {"send to delivery", m.Delivery}, {"lateness of the client", m.Lateness}} {
		latencyRow(row, l.name, l.Latency)
	}
	row("server CPU", "%.0f µs for each delivered message, %.2f cores", m.ServerCPU, m.ServerCores)
	row("client CPU", "%.0f µs for each delivered message, %.2f cores", m.ClientCPU, m.ClientCores)
	if m.Fsyncs != nil {
		row("fsyncs", "%.2f for each acknowledged message", *m.Fsyncs)
	}
	if m.JournalFsyncs != nil {
		row("fsyncs of the journal", "%.2f for each acknowledged message", *m.JournalFsyncs)
	}
	row("server memory", "%s", mebibytes(m.ServerMemory))
	if m.Late > 0 {
		row("late", "%d messages that no held poll handed over in time", m.Late)
	}
}

func latencyRow(row func(name, format string, values ...any), name string, l ledger.Latency) {
	row(name, "p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.1f ms", l.P50, l.P99, l.P999, l.Max)
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
