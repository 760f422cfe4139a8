package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/tegami-im/tegami/internal/doctor"
)

type doctorCommand struct {
	configFlags
	Output string `enum:"text,json" default:"text" help:"text or json."`
}

func (doctorCommand) Help() string {
	return `Looks at the configuration, the data folder, ports, disk, limits and clock. It ends with exit code 1 when something is wrong that the server cannot work with. Give the same flags as to serve.

Examples:
  tegami doctor
  tegami doctor --config /etc/tegami.yaml --output json`
}

func (c *doctorCommand) Run(ctx context.Context, std streams) error {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	findings := doctor.Examine(ctx, &loaded.Config)
	if err := c.print(std, findings); err != nil {
		return err
	}
	for _, finding := range findings {
		if finding.State == doctor.Problem {
			return errors.New("there are problems")
		}
	}
	return nil
}

func (c *doctorCommand) print(std streams, findings []doctor.Finding) error {
	if c.Output == "json" {
		encoder := json.NewEncoder(std.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(findings)
	}
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "ok\tconfiguration\tis valid\n")
	for _, finding := range findings {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", finding.State, finding.Check, finding.Text)
		if finding.Remedy != "" {
			_, _ = fmt.Fprintf(table, "\t\t→ %s\n", finding.Remedy)
		}
	}
	return table.Flush()
}
