// Command suites runs the project's test suites one after another, shows that
// the long ones live, and ends with a table of what ran, for how long and
// with which result.
//
// Usage, from the repository root:
//
//	go run -C tools ./suites [-C ..] [-fuzztime 5s] check | test | NAME...
//	go run -C tools ./suites -list
//
// A suite that cannot run here (it needs root) is never passed over in
// silence: it stands in the table as not run, and where the variable CI is set
// that is a failure. A test that skips itself fails its suite.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	directory := flag.String("C", "..", "the repository's root")
	flag.StringVar(&fuzzTime, "fuzztime", fuzzTime, "how long each fuzz target runs beyond its corpus")
	list := flag.Bool("list", false, "list the suites and end")
	flag.Parse()
	if *list {
		printList(os.Stdout)
		return
	}
	if err := os.Chdir(*directory); err != nil {
		fail(err)
	}
	chosen, err := choose(flag.Args())
	if err != nil {
		fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runAll(ctx, chosen); err != nil {
		stop()
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "suites:", err)
	os.Exit(1)
}

// choose returns the suites that the arguments name, in the order of the
// table.
func choose(arguments []string) ([]suite, error) {
	if len(arguments) == 0 {
		return nil, fmt.Errorf("name suites, or one of check and test; -list shows them")
	}
	var chosen []suite
	known := map[string]bool{"check": true, "test": true}
	for _, s := range suites {
		known[s.name] = true
		if slices.Contains(arguments, s.name) ||
			slices.Contains(arguments, "test") && s.in&inTest != 0 ||
			slices.Contains(arguments, "check") && s.in&inCheck != 0 {
			chosen = append(chosen, s)
		}
	}
	for _, argument := range arguments {
		if !known[argument] {
			return nil, fmt.Errorf("there is no suite %q; -list shows them", argument)
		}
	}
	return chosen, nil
}

func printList(out *os.File) {
	for _, s := range suites {
		var in []string
		if s.in&inCheck != 0 {
			in = append(in, "check")
		}
		if s.in&inTest != 0 {
			in = append(in, "test")
		}
		fmt.Fprintf(out, "%-10s %-11s %s\n", s.name, strings.Join(in, ","), s.about)
	}
}
