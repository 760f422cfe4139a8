package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/tegami-im/tegami/cluster/simulation"
)

type clusterSimulateCommand struct {
	Talk     int     `default:"100" help:"Talk nodes."`
	Gateways int     `default:"40" help:"Gateways."`
	Shards   int     `default:"4096" help:"Shards."`
	Users    int64   `default:"164000000" help:"Users."`
	Sends    float64 `default:"58000" help:"Messages sent in a second."`
	Online   float64 `default:"0.25" help:"Polls held for each user, on average."`
	Body     int     `default:"120" help:"Bytes of a message's body."`
	Samples  int     `default:"1000000" help:"How many sends are drawn."`
	Seed     uint64  `default:"1" help:"Of what is drawn."`
	All      bool    `help:"Show each node, not only how nodes differ."`
	Output   string  `enum:"text,json" default:"text" help:"text or json."`
}

func (clusterSimulateCommand) Help() string {
	return `Places every user by the placement that nodes have, routes sends as they do, counts the messages between nodes as these are encoded, and has each talk node fail. Nothing runs, so there is no CPU, no latency and no store in it; the memory of a poll is what was measured of a server that is gateway and talk node at once (docs/performance.md).

Examples:
  tegami cluster simulate
  tegami cluster simulate --talk 10 --shards 256 --users 5000000 --sends 3000 --all`
}

func (c *clusterSimulateCommand) Run(std streams) error {
	report, err := simulation.Run(simulation.Options{
		Talk: c.Talk, Gateways: c.Gateways, Shards: c.Shards, Users: c.Users, Sends: c.Sends, Online: c.Online,
		Samples: c.Samples, BodyBytes: c.Body, Seed: c.Seed,
	})
	if err != nil {
		return usageError{err}
	}
	if c.Output == "json" {
		encoder := json.NewEncoder(std.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	for _, tier := range []struct {
		name  string
		nodes []simulation.Node
	}{{"talk node", report.Talk}, {"gateway", report.Gateways}} {
		if err := printTier(std, fmt.Sprintf("each of %d %ss", len(tier.nodes), tier.name), tier.nodes, c.All); err != nil {
			return err
		}
	}
	return printFailure(std, report)
}

// columns of what a node carries.
var simulated = []struct {
	name  string
	value func(simulation.Node) float64
	digit int
}{
	{"shards", func(n simulation.Node) float64 { return float64(n.Shards) }, 0},
	{"users", func(n simulation.Node) float64 { return float64(n.Users) }, 0},
	{"records/s", func(n simulation.Node) float64 { return n.Records }, 0},
	{"MB/s in", func(n simulation.Node) float64 { return n.In / 1e6 }, 3},
	{"MB/s out", func(n simulation.Node) float64 { return n.Out / 1e6 }, 3},
	{"polls", func(n simulation.Node) float64 { return n.Polls }, 0},
	{"GB of polls", func(n simulation.Node) float64 { return n.Memory / 1e9 }, 2},
}

func printTier(std streams, title string, nodes []simulation.Node, all bool) error {
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(table, "%s\t", title)
	for _, column := range simulated {
		_, _ = fmt.Fprintf(table, "%s\t", column.name)
	}
	_, _ = fmt.Fprintln(table)
	row := func(name string, value func(column int) float64) {
		_, _ = fmt.Fprintf(table, "%s\t", name)
		for i, column := range simulated {
			_, _ = fmt.Fprintf(table, "%.*f\t", column.digit, value(i))
		}
		_, _ = fmt.Fprintln(table)
	}
	if all {
		for _, n := range nodes {
			row(n.Name, func(i int) float64 { return simulated[i].value(n) })
		}
	}
	spreads := make([]simulation.Spread, len(simulated))
	for i, column := range simulated {
		spreads[i] = simulation.SpreadOf(nodes, column.value)
	}
	row("least", func(i int) float64 { return spreads[i].Min })
	row("mean", func(i int) float64 { return spreads[i].Mean })
	row("most", func(i int) float64 { return spreads[i].Max })
	_, _ = fmt.Fprintln(table)
	return table.Flush()
}

func printFailure(std streams, r *simulation.Report) error {
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "one talk node fails, each of them once\tleast\tmean\tmost\t")
	f := r.Failure
	for _, line := range []struct {
		name   string
		spread simulation.Spread
		digits int
	}{
		{"shards without an owner for a moment", f.Least, 0},
		{"their users", f.Users, 0},
		{"shards that change owners", f.Moved, 0},
		{"nodes that they go to", f.Takers, 0},
		{"most that one of these gets", f.Most, 0},
		{"fullest node over the mean, afterwards", f.Fullest, 3},
	} {
		_, _ = fmt.Fprintf(table, "%s\t%.*f\t%.*f\t%.*f\t\n", line.name, line.digits, line.spread.Min, line.digits, line.spread.Mean, line.digits, line.spread.Max)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	std.printf("\n%.2f %% of sends stay on one talk node.\n", r.Local*100)
	return nil
}
