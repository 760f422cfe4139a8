package bench

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// figure is one figure with its target.
type figure struct {
	name   string
	unit   string
	target float64
	least  bool // the target is a least, not a most
	digits int
	from   func(round) *Result
	value  func(*Result) *float64
}

// always makes a value that a result is known to have.
func always(value func(*Result) float64) func(*Result) *float64 {
	return func(r *Result) *float64 {
		v := value(r)
		return &v
	}
}

func figures() []figure {
	saturation := func(r round) *Result { return r.saturation }
	low := func(r round) *Result { return r.low }
	half := func(r round) *Result { return r.half }
	perPoll := always(func(r *Result) float64 { return r.Held.PerPoll / 1000 })
	fsyncs := func(r *Result) *float64 { return r.Messages.Fsyncs }
	ackP99 := always(func(r *Result) float64 { return r.Messages.Ack.P99 })
	deliveryP99 := always(func(r *Result) float64 { return r.Messages.Delivery.P99 })
	return []figure{
		{
			name: "acknowledged at saturation, durable", unit: "/s", target: 4000, least: true, from: saturation,
			value: always(func(r *Result) float64 { return r.Messages.AckedPerSecond }),
		},
		{
			name: "delivered at saturation, durable", unit: "/s", target: 4000, least: true, from: saturation,
			value: always(func(r *Result) float64 { return r.Messages.DeliveredPerSecond }),
		},
		{
			name: "server CPU for each delivered message at saturation", unit: " µs", target: 300, from: saturation,
			value: always(func(r *Result) float64 { return r.Messages.ServerCPU }),
		},
		{
			name: "send to delivery p50 at 200 a second", unit: " ms", target: 0.8, digits: 2, from: low,
			value: always(func(r *Result) float64 { return r.Messages.Delivery.P50 }),
		},
		{name: "send to delivery p99 at 200 a second", unit: " ms", target: 2, digits: 2, from: low, value: deliveryP99},
		{
			name: "send to ack p50 at 200 a second", unit: " ms", target: 1.1, digits: 2, from: low,
			value: always(func(r *Result) float64 { return r.Messages.Ack.P50 }),
		},
		{name: "send to ack p99 at 200 a second", unit: " ms", target: 2.5, digits: 2, from: low, value: ackP99},
		{name: "send to ack p99 at half of saturation", unit: " ms", target: 15, digits: 1, from: half, value: ackP99},
		{name: "send to delivery p99 at half of saturation", unit: " ms", target: 30, digits: 1, from: half, value: deliveryP99},
		{
			name: "memory for each held poll, a connection each (8,000)", unit: " KB", target: 40, digits: 1, value: perPoll,
			from: func(r round) *Result { return r.alone },
		},
		{
			name: "memory for each held poll, 100 × 100 streams", unit: " KB", target: 13, digits: 1, value: perPoll,
			from: func(r round) *Result { return r.shared },
		},
		{name: "fsyncs for each acknowledged message at 200 a second", target: 2.3, digits: 2, from: low, value: fsyncs},
		{name: "fsyncs for each acknowledged message at saturation", target: 0.5, digits: 2, from: saturation, value: fsyncs},
		{
			name: "server memory, 1,000,000 accounts, 1,000 active", unit: " MB", target: 400,
			from:  func(r round) *Result { return r.accounts },
			value: always(func(r *Result) float64 { return float64(r.Accounts.MemoryFreed) / 1e6 }),
		},
		{
			name: "records journalled and not stored at SIGKILL", target: 1_000_000, least: true,
			from:  func(r round) *Result { return r.restart },
			value: always(func(r *Result) float64 { return float64(r.Restart.Unstored) }),
		},
		{
			name: "start after SIGKILL, 1,000,000 records journalled", unit: " s", target: 10, digits: 2,
			from:  func(r round) *Result { return r.restart },
			value: always(func(r *Result) float64 { return r.Restart.KilledStart }),
		},
		{
			name: "start after a clean stop, 1,000,000 accounts", unit: " s", target: 1, digits: 2,
			from:  func(r round) *Result { return r.accounts },
			value: always(func(r *Result) float64 { return r.Accounts.CleanStart }),
		},
	}
}

// judged is a figure that was measured. Median is what is held against the
// target.
type judged struct {
	figure
	median float64
	values []float64 // of each round
}

// judge collects the figures that rounds measured.
func judge(rounds []round) []judged {
	var all []judged
	for _, f := range figures() {
		j := judged{figure: f}
		for _, r := range rounds {
			result := f.from(r)
			if result == nil {
				continue
			}
			if value := f.value(result); value != nil {
				j.values = append(j.values, *value)
			}
		}
		if len(j.values) > 0 {
			j.median = median(j.values)
			all = append(all, j)
		}
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func (j judged) met() bool {
	if j.least {
		return j.median >= j.target
	}
	return j.median <= j.target
}

// writeFigures writes a Markdown table.
func writeFigures(w io.Writer, all []judged) {
	fmt.Fprintln(w, "| figure | target | median | runs | met |\n|---|---|---|---|---|")
	for _, j := range all {
		sign, verdict := "≤", "no"
		if j.least {
			sign = "≥"
		}
		if j.met() {
			verdict = "yes"
		}
		var runs []string
		for _, value := range j.values {
			runs = append(runs, fmt.Sprintf("%.*f", j.digits, value))
		}
		fmt.Fprintf(w, "| %s | %s %s%s | %.*f%s | %s | %s |\n",
			j.name, sign, strconv.FormatFloat(j.target, 'f', -1, 64), j.unit, j.digits, j.median, j.unit, strings.Join(runs, ", "), verdict)
	}
}
