package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// row is a line of the closing table.
type row struct {
	suite  suite
	result string
	took   time.Duration
	count  count
}

// runAll runs every suite, also after a failure: one run tells all that is
// wrong. It fails when one failed, or in CI when one did not run.
func runAll(ctx context.Context, chosen []suite) error {
	var rows []row
	var failed, notRun []string
	for _, s := range chosen {
		switch {
		case ctx.Err() != nil:
			rows = append(rows, row{suite: s, result: "not run: interrupted"})
			notRun = append(notRun, s.name)
			continue
		case s.root && os.Geteuid() != 0:
			rows = append(rows, row{suite: s, result: "not run: needs root, try: sudo make " + s.name})
			notRun = append(notRun, s.name)
			continue
		}
		r := runOne(ctx, s)
		if r.result != passed {
			failed = append(failed, s.name)
		}
		rows = append(rows, r)
	}
	printTable(rows)
	switch {
	case len(failed) > 0:
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case len(notRun) > 0 && os.Getenv("CI") != "":
		return fmt.Errorf("not run, which CI does not accept: %s", strings.Join(notRun, ", "))
	case len(notRun) > 0:
		fmt.Printf("\nEverything that ran passed. NOT RUN: %s\n", strings.Join(notRun, ", "))
	default:
		fmt.Println("\nEverything passed.")
	}
	return nil
}

const passed = "ok"

func runOne(ctx context.Context, s suite) row {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("it hung: more than %v", s.limit))
	defer cancel()
	fmt.Printf("\n── %s: %s\n", s.name, s.about)
	c := newConsole(s.name)
	start := time.Now()
	err := s.run(ctx, c)
	c.close()
	r := row{suite: s, result: passed, took: time.Since(start), count: c.count}
	switch {
	case err != nil && ctx.Err() != nil:
		r.result = "FAILED: " + context.Cause(ctx).Error()
	case err != nil:
		r.result = "FAILED: " + err.Error()
	case c.count.skipped > 0:
		r.result = fmt.Sprintf("FAILED: %d tests skipped themselves", c.count.skipped)
	}
	if r.result != passed {
		fmt.Println("  " + r.result)
	}
	return r
}

func printTable(rows []row) {
	fmt.Printf("\n%-10s %8s %7s  %s\n", "suite", "seconds", "tests", "result")
	var total time.Duration
	for _, r := range rows {
		tests := ""
		if r.count.passed+r.count.failed > 0 {
			tests = fmt.Sprint(r.count.passed + r.count.failed)
		}
		fmt.Printf("%-10s %8.1f %7s  %s\n", r.suite.name, r.took.Seconds(), tests, r.result)
		total += r.took
	}
	fmt.Printf("%-10s %8.1f\n", "total", total.Seconds())
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
