package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// row is a line of the closing table.
type row struct {
	suite  suite
	result string
	took   time.Duration
	count  count
	// failures are what the end of the run repeats.
	failures []failure
}

// runAll runs every suite, also after a failure: one run tells all that is
// wrong. The two lanes run side by side, once what comes before both is done.
// It fails when a suite failed, or in CI when one did not run.
func runAll(ctx context.Context, chosen []suite) error {
	rows := make([]row, len(chosen))
	out := &screen{out: os.Stdout}
	begin := time.Now()
	runLane := func(l lane) {
		for i, s := range chosen {
			if s.lane == l {
				rows[i] = runOne(ctx, s, out)
			}
		}
	}
	runLane(before)
	var lanes sync.WaitGroup
	lanes.Go(func() { runLane(code) })
	lanes.Go(func() { runLane(processes) })
	lanes.Wait()
	printTable(rows, time.Since(begin))
	printFailures(rows)

	var failed, absent []string
	for _, r := range rows {
		switch {
		case strings.HasPrefix(r.result, notRun):
			absent = append(absent, r.suite.name)
		case r.result != passed:
			failed = append(failed, r.suite.name)
		}
	}
	switch {
	case len(failed) > 0:
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case len(absent) > 0 && os.Getenv("CI") != "":
		return fmt.Errorf("not run, which CI does not accept: %s", strings.Join(absent, ", "))
	case len(absent) > 0:
		fmt.Printf("\nEverything that ran passed. NOT RUN: %s\n", strings.Join(absent, ", "))
	default:
		fmt.Println("\nEverything passed.")
	}
	return nil
}

// Results; a failure says why.
const (
	passed = "ok"
	notRun = "NOT RUN: "
)

func runOne(ctx context.Context, s suite, out *screen) row {
	switch {
	case ctx.Err() != nil:
		return row{suite: s, result: notRun + "interrupted"}
	case s.root && os.Geteuid() != 0:
		return row{suite: s, result: notRun + "needs root; sudo make " + s.name + " runs it"}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("it hung: more than %v", s.limit))
	defer cancel()
	c := newConsole(s.name, out)
	c.printf("── %s", s.about)
	start := time.Now()
	err := s.run(ctx, c)
	r := row{suite: s, result: passed, took: time.Since(start), count: c.count, failures: c.failures}
	switch {
	case err != nil && ctx.Err() != nil:
		r.result = "FAILED: " + context.Cause(ctx).Error()
	case err != nil:
		r.result = "FAILED: " + err.Error()
	case c.count.skipped > 0:
		r.result = fmt.Sprintf("FAILED: %d tests skipped themselves", c.count.skipped)
	}
	c.printf("── %s after %.1f s", r.result, r.took.Seconds())
	c.close()
	return r
}

func printTable(rows []row, total time.Duration) {
	fmt.Printf("\n%-10s %8s %7s  %s\n", "suite", "seconds", "tests", "result")
	for _, r := range rows {
		tests := ""
		if r.count.passed+r.count.failed > 0 {
			tests = strconv.Itoa(r.count.passed + r.count.failed)
		}
		fmt.Printf("%-10s %8.1f %7s  %s\n", r.suite.name, r.took.Seconds(), tests, r.result)
	}
	fmt.Printf("%-10s %8.1f          two lanes, side by side\n", "total", total.Seconds())
}

// printFailures repeats, at the very end, which tests failed and why: what a
// reader of a long log sees first.
func printFailures(rows []row) {
	for _, r := range rows {
		for _, f := range r.failures {
			fmt.Printf("\nFAIL %s\n", f.test)
			for _, line := range f.last {
				fmt.Printf("     %s\n", line)
			}
		}
	}
}

// command runs a program with its output shown.
func (c *console) command(ctx context.Context, environment []string, name string, arguments ...string) error {
	return c.commandIn(ctx, ".", environment, name, arguments...)
}

func (c *console) commandIn(ctx context.Context, directory string, environment []string, name string, arguments ...string) error {
	command := newCommand(ctx, directory, name, arguments...)
	command.Env = append(os.Environ(), environment...)
	command.Stdout, command.Stderr = c, c
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(command.Args, " "), err)
	}
	return nil
}

// output runs a program and returns what it writes.
func (c *console) output(ctx context.Context, name string, arguments ...string) (string, error) {
	command := newCommand(ctx, ".", name, arguments...)
	command.Stderr = c
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(command.Args, " "), err)
	}
	return string(output), nil
}

// newCommand prepares a program that ends, with all that it started, when ctx
// does.
func newCommand(ctx context.Context, directory, name string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir = directory
	ownGroup(command)
	// A child that keeps the pipe open must not keep us.
	command.WaitDelay = 5 * time.Second
	return command
}
