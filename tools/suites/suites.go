package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A target of the Makefile is a set of suites.
const (
	inCheck = 1 << iota
	inTest
)

// A lane is run from its first suite to its last. Beside the compilers and the
// fuzzers, which want every processor, the suites that drive real processes
// mostly wait. Some of them stand among the former, so that both take as long.
type lane int

const (
	// before both others.
	before lane = iota
	code
	processes
)

// A suite is one row of the table.
type suite struct {
	name  string
	about string
	in    int
	lane  lane
	// root: it mounts file systems.
	root bool
	// limit is a limit against hanging, about ten times what the suite takes.
	limit time.Duration
	run   func(context.Context, *console) error
}

// blackBox are the packages that drive real server processes. They run as
// suites of their own, one at a time, so that each has the machine to itself.
var blackBox = []string{"e2e", "crash", "power", "hostile", "hybrid", "events", "correct", "worker", "cluster", "fleet", "planted"}

// fuzzTime is how long each fuzz target runs beyond its corpus.
var fuzzTime = "5s"

// suites in the order in which they run: what fails most often and fastest
// comes first.
var suites = []suite{
	{
		name: "build", about: "bin/tegami, and every package",
		in: inCheck | inTest, limit: 20 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			if err := c.command(ctx, nil, "go", "build", "-o", "bin/tegami", "./cmd/tegami"); err != nil {
				return err
			}
			return c.command(ctx, nil, "go", "build", "./...")
		},
	},
	{
		name: "generated", about: "generated code is up to date",
		lane: code, in: inTest, limit: 20 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			return c.command(ctx, nil, "go", "run", "-C", "tools", "./protogen", "-check", "..")
		},
	},
	{
		name: "vet", about: "go vet, on the module and on the tools",
		lane: code, in: inCheck | inTest, limit: 20 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			if err := c.command(ctx, nil, "go", "vet", "-tags="+storesTag, "./..."); err != nil {
				return err
			}
			for _, module := range []string{"tools", "tools/deploy"} {
				if err := c.command(ctx, nil, "go", "vet", "-C", module, "./..."); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name: "lint", about: "golangci-lint by .golangci.yml",
		lane: code, in: inCheck | inTest, limit: 30 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			if err := c.command(ctx, nil, "go", "build", "-C", "tools/lint", "-o", "../../bin/golangci-lint",
				"github.com/golangci/golangci-lint/v2/cmd/golangci-lint"); err != nil {
				return err
			}
			if err := c.command(ctx, nil, "bin/golangci-lint", "run", "./..."); err != nil {
				return err
			}
			if err := c.commandIn(ctx, "tools", nil, "../bin/golangci-lint", "run", "--config", "../.golangci.yml", "./..."); err != nil {
				return err
			}
			return c.commandIn(ctx, "tools/deploy", nil, "../../bin/golangci-lint", "run", "--config", "../../.golangci.yml", "./...")
		},
	},
	{
		name: "unit", about: "unit, property and contract tests, golden scripts",
		lane: code, in: inCheck, limit: 20 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			packages, err := inProcess(ctx, c)
			if err != nil {
				return err
			}
			return unit(ctx, c, packages)
		},
	},
	{
		name: "deploy", about: "chart, manifests, units, alert rules and dashboards, read by what they are for",
		lane: code, in: inTest, limit: 20 * time.Minute,
		run: func(ctx context.Context, c *console) error {
			if err := c.command(ctx, nil, "scripts/requirements.sh", "deploy"); err != nil {
				return err
			}
			return c.goTest(ctx, "tools/deploy", nil, []string{"-count=1"}, "./...")
		},
	},
	{
		name: "race", about: "the same with the race detector, where goroutines share anything",
		lane: code, in: inTest, limit: 30 * time.Minute, run: race,
	},
	{
		name: "fuzz", about: "each fuzz target for a short while",
		lane: code, in: inTest, limit: 2 * time.Hour, run: fuzz,
	},
	{
		name: "e2e", about: "the whole API over real sockets, by every protocol",
		lane: processes, in: inTest, limit: 20 * time.Minute, run: blackBoxSuite("e2e"),
	},
	{
		name: "crash", about: "30 times kill -9 under load",
		lane: processes, in: inTest, limit: 30 * time.Minute, run: blackBoxSuite("crash"),
	},
	{
		name: "power", about: "power cut and full disk on real file systems",
		lane: processes, in: inTest, root: true, limit: 20 * time.Minute, run: blackBoxSuite("power"),
	},
	{
		name: "hostile", about: "slow and hostile clients",
		lane: processes, in: inTest, limit: 20 * time.Minute, run: blackBoxSuite("hostile"),
	},
	{
		name: "stores", about: "journal and stores on real servers, which are killed and paused",
		lane: processes, in: inTest, limit: 30 * time.Minute, run: withServers(stores),
	},
	{
		name: "hybrid", about: "the servers of a hybrid store are broken under load, one and all",
		lane: processes, in: inTest, root: true, limit: 30 * time.Minute, run: withServers(blackBoxSuite("hybrid")),
	},
	{
		name: "events", about: "the topic of events and a webhook against the mailboxes, while servers and a worker are killed",
		lane: code, in: inTest, limit: 20 * time.Minute, run: withServers(blackBoxSuite("events")),
	},
	{
		name: "correct", about: "stores are damaged under load, found wrong and mended; a store is moved and moved back",
		lane: processes, in: inTest, limit: 30 * time.Minute, run: withServers(blackBoxSuite("correct")),
	},
	{
		name: "worker", about: "background tasks: workers are killed under load, and receivers fail",
		lane: code, in: inTest, limit: 20 * time.Minute, run: withServers(blackBoxSuite("worker")),
	},
	{
		name: "cluster", about: "talk nodes behind a gateway are killed, paused, stopped and restarted under load",
		lane: processes, in: inTest, limit: 30 * time.Minute, run: withServers(blackBoxSuite("cluster")),
	},
	{
		name: "fleet", about: "the local cluster of make cluster: up, used, a node down and up, down",
		lane: code, in: inTest, limit: 20 * time.Minute, run: withServers(blackBoxSuite("fleet")),
	},
	{
		name: "planted", about: "each planted bug is found by the same checkers",
		lane: code, in: inTest, root: true, limit: 20 * time.Minute, run: withServers(blackBoxSuite("planted")),
	},
}

// sequential packages run on one goroutine, and long: the race detector would
// find nothing there and take ten times as long.
var sequential = []string{"actors/mailbox", "persistence/persisttest", "test/checker"}

// race runs the unit tests with the race detector, the sequential ones without.
func race(ctx context.Context, c *console) error {
	packages, err := inProcess(ctx, c)
	if err != nil {
		return err
	}
	var plain, concurrent []string
	for _, name := range packages {
		if slices.Contains(sequential, short(name)) {
			plain = append(plain, name)
		} else {
			concurrent = append(concurrent, name)
		}
	}
	// More at once than there are processors: some wait for time to pass.
	if err := c.goTest(ctx, ".", raceBuild, []string{"-race", "-p=4"}, concurrent...); err != nil {
		return err
	}
	return unit(ctx, c, plain)
}

// raceBuild is what the race detector needs; everything else is built alike,
// by the variables of the Makefile, so that it is built once.
var raceBuild = []string{"CGO_ENABLED=1"}

// unit runs the tests of packages, and of the tools.
func unit(ctx context.Context, c *console, packages []string) error {
	if err := c.goTest(ctx, ".", nil, nil, packages...); err != nil {
		return err
	}
	return c.goTest(ctx, "tools", nil, nil, "./...")
}

// inProcess lists the packages that need no server process.
func inProcess(ctx context.Context, c *console) ([]string, error) {
	all, err := c.output(ctx, "go", "list", "./...")
	if err != nil {
		return nil, err
	}
	var packages []string
	for name := range strings.FieldsSeq(all) {
		if !isBlackBox(name) {
			packages = append(packages, name)
		}
	}
	return packages, nil
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
		return c.goTest(ctx, ".", nil, []string{"-count=1", "-timeout=0"}, "./test/"+name)
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
		// Making a new input smaller may take a minute, in which nothing is tried.
		once := func() error {
			return c.command(ctx, nil, "go", "test", "-vet=off", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+fuzzTime, "-fuzzminimizetime=1s", t.directory)
		}
		err := once()
		if err != nil && ctx.Err() == nil {
			// At the end of its time go test may take its own deadline for a failure
			// (https://go.dev/issue/75804). An input that fails is kept in testdata, and
			// fails again.
			c.printf("%s once more", t.name)
			err = once()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		c.count.passed++
	}
	return nil
}
