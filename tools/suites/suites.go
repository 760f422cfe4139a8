package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A target of the Makefile is a set of suites.
const (
	inCheck = 1 << iota
	inTest
)

// A suite is one row of the table.
type suite struct {
	name  string
	about string
	in    int
	// root: it mounts file systems.
	root bool
	// limit is a limit against hanging, about ten times what the suite takes.
	limit time.Duration
	run   func(context.Context, *console) error
}

// blackBox are the packages that drive real server processes. They run as
// suites of their own, one at a time, so that each has the machine to itself.
var blackBox = []string{"e2e", "crash", "power", "hostile", "planted"}

// fuzzTime is how long each fuzz target runs beyond its corpus.
var fuzzTime = "5s"

// suites in the order in which they run: what fails most often and fastest
// comes first, what needs the whole machine last.
var suites = []suite{
	{
		name: "build", about: "bin/tegami, static, and every package with its tests",
		in: inCheck | inTest, limit: 10 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			if err := c.command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-o", "bin/tegami", "./cmd/tegami"); err != nil {
				return err
			}
			return c.command(ctx, nil, "go", "build", "./...")
		},
	},
	{
		name: "generated", about: "generated code is up to date",
		in: inTest, limit: 10 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			return c.command(ctx, nil, "go", "run", "-C", "tools", "./protogen", "-check", "..")
		},
	},
	{
		name: "vet", about: "go vet, on the module and on the tools",
		in: inCheck | inTest, limit: 10 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			if err := c.command(ctx, nil, "go", "vet", "./..."); err != nil {
				return err
			}
			return c.command(ctx, nil, "go", "vet", "-C", "tools", "./...")
		},
	},
	{
		name: "lint", about: "golangci-lint by .golangci.yml",
		in: inCheck | inTest, limit: 15 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			if err := c.command(ctx, nil, "go", "build", "-C", "tools/lint", "-o", "../../bin/golangci-lint",
				"github.com/golangci/golangci-lint/v2/cmd/golangci-lint"); err != nil {
				return err
			}
			if err := c.command(ctx, nil, "bin/golangci-lint", "run", "./..."); err != nil {
				return err
			}
			return c.commandIn(ctx, "tools", nil, "../bin/golangci-lint", "run", "--config", "../.golangci.yml", "./...")
		},
	},
	{
		name: "unit", about: "unit, property and contract tests, golden scripts",
		in: inCheck, limit: 10 * time.Minute,
		run: func(ctx context.Context, c *console) error { return unit(ctx, c) },
	},
	{
		name: "race", about: "the same with the race detector",
		in: inTest, limit: 15 * time.Minute,
		run: func(ctx context.Context, c *console) error { return unit(ctx, c, "-race") },
	},
	{
		name: "fuzz", about: "each fuzz target for a short while",
		in: inTest, limit: 2 * time.Hour, run: fuzz,
	},
	{
		name: "e2e", about: "the whole API over real sockets, by every protocol",
		in: inTest, limit: 10 * time.Minute, run: blackBoxSuite("e2e"),
	},
	{
		name: "crash", about: "30 times kill -9 under load",
		in: inTest, limit: 15 * time.Minute, run: blackBoxSuite("crash"),
	},
	{
		name: "power", about: "power cut and full disk on real file systems",
		in: inTest, root: true, limit: 10 * time.Minute, run: blackBoxSuite("power"),
	},
	{
		name: "hostile", about: "slow and hostile clients",
		in: inTest, limit: 10 * time.Minute, run: blackBoxSuite("hostile"),
	},
	{
		name: "planted", about: "each planted bug is found by the same checkers",
		in: inTest, root: true, limit: 20 * time.Minute, run: blackBoxSuite("planted"),
	},
}

// unit tests every package that needs no server process, and the tools.
func unit(ctx context.Context, c *console, flags ...string) error {
	packages, err := c.output(ctx, "go", "list", "./...")
	if err != nil {
		return err
	}
	var inProcess []string
	for name := range strings.FieldsSeq(packages) {
		if !isBlackBox(name) {
			inProcess = append(inProcess, name)
		}
	}
	if err := c.goTest(ctx, ".", flags, inProcess...); err != nil {
		return err
	}
	return c.goTest(ctx, "tools", nil, "./...")
}

func isBlackBox(importPath string) bool {
	for _, name := range blackBox {
		if strings.HasSuffix(importPath, "/test/"+name) {
			return true
		}
	}
	return false
}

// blackBoxSuite runs one package of test/, never from the cache: Go does not
// know that it depends on the server's binary.
func blackBoxSuite(name string) func(context.Context, *console) error {
	return func(ctx context.Context, c *console) error {
		return c.goTest(ctx, ".", []string{"-count=1", "-timeout=0"}, "./test/"+name)
	}
}

func fuzz(ctx context.Context, c *console) error {
	targets, err := fuzzTargets(".")
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target found")
	}
	for _, t := range targets {
		c.printf("%s %s", t.directory, t.name)
		err := c.command(ctx, nil, "go", "test", "-vet=off", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+fuzzTime, t.directory)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		c.count.passed++
	}
	return nil
}
