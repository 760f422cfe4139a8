// Package doctor looks at a machine and says whether it can run a Tegami server
// well, and what to type where it cannot.
package doctor

import (
	"context"
	"fmt"

	"github.com/tegami-im/tegami/config"
)

// State is how bad a finding is.
type State string

// The states.
const (
	OK      State = "ok"
	Warning State = "warning"
	Problem State = "problem"
)

// Finding is what one check found.
type Finding struct {
	Check string `json:"check"`
	State State  `json:"state"`
	// Text says what was found.
	Text string `json:"text"`
	// Remedy is the command, or the setting, that mends it; empty when there is
	// nothing to mend.
	Remedy string `json:"remedy,omitempty"`
}

// check examines one thing.
type check struct {
	name string
	run  func(ctx context.Context, c *config.Config) Finding
}

func checks() []check {
	return []check{
		{"data folder", dataFolder},
		{"secrets", secrets},
		{"client port", func(ctx context.Context, c *config.Config) Finding { return port(ctx, c, c.Server.Listen) }},
		{"admin port", func(ctx context.Context, c *config.Config) Finding { return port(ctx, c, c.Admin.Listen) }},
		{"certificate", certificate},
		{"disk space", diskSpace},
		{"fsync", fsync},
		{"open files", openFiles},
		{"clock", clock},
	}
}

// Examine runs every check against a configuration. It writes nothing but a
// small file into the data folder, or the folder above while that is missing,
// and removes it.
func Examine(ctx context.Context, c *config.Config) []Finding {
	var findings []Finding
	for _, check := range append(checks(), stores(c)...) {
		finding := check.run(ctx, c)
		finding.Check = check.name
		findings = append(findings, finding)
	}
	return findings
}

func ok(format string, args ...any) Finding {
	return Finding{State: OK, Text: fmt.Sprintf(format, args...)}
}

func warning(remedy, format string, args ...any) Finding {
	return Finding{State: Warning, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

func problem(remedy, format string, args ...any) Finding {
	return Finding{State: Problem, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}
