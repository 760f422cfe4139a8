package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// quiet is how long a suite may say nothing before the console says that it
// lives.
const quiet = 20 * time.Second

// screen is the terminal that all consoles write to, line by line.
type screen struct {
	mu  sync.Mutex
	out io.Writer
}

// console is where one suite writes. Each line begins with the suite's name,
// since two suites may run side by side. It is safe for concurrent use.
type console struct {
	suite  string
	screen *screen
	start  time.Time
	count  count
	// failures of the tests that failed, for the end of the run.
	failures []failure
	done     chan struct{}
	owner    sync.WaitGroup

	mu sync.Mutex
	// partial is a line that has not ended.
	partial []byte
	last    time.Time
}

// count is of tests, subtests included.
type count struct {
	passed, failed, skipped int
}

// failure is a test that failed, with the end of what it printed.
type failure struct {
	test string
	last []string
}

// Limits of what the end of a run repeats of a failure.
const (
	failureLines = 4
	failureWidth = 400 // In bytes of each line.
)

// newFailure keeps the last lines of output that say something.
func newFailure(test, output string) failure {
	f := failure{test: test}
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "--- FAIL") || strings.HasPrefix(line, "=== ") {
			continue
		}
		f.last = append(f.last, line[:min(len(line), failureWidth)])
	}
	f.last = f.last[max(0, len(f.last)-failureLines):]
	return f
}

func newConsole(suite string, to *screen) *console {
	c := &console{suite: suite, screen: to, start: time.Now(), last: time.Now(), done: make(chan struct{})}
	c.owner.Go(c.beat)
	return c
}

func (c *console) close() {
	close(c.done)
	c.owner.Wait()
	if len(c.partial) > 0 {
		c.printf("")
	}
}

// beat shows that a suite without output still runs.
func (c *console) beat() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-c.done:
			return
		case now := <-ticker.C:
			c.mu.Lock()
			silent := now.Sub(c.last) >= quiet
			c.mu.Unlock()
			if silent {
				c.printf("… %.0f s", now.Sub(c.start).Seconds())
			}
		}
	}
}

// Write shows whole lines and keeps the rest until it is one.
func (c *console) Write(data []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	c.partial = append(c.partial, data...)
	end := bytes.LastIndexByte(c.partial, '\n') + 1
	if end == 0 {
		return len(data), nil
	}
	c.screen.mu.Lock()
	defer c.screen.mu.Unlock()
	for line := range bytes.Lines(c.partial[:end]) {
		if _, err := fmt.Fprintf(c.screen.out, "%-9s │ %s", c.suite, line); err != nil {
			return 0, err
		}
	}
	c.partial = append(c.partial[:0], c.partial[end:]...)
	return len(data), nil
}

func (c *console) printf(format string, arguments ...any) {
	fmt.Fprintf(c, format+"\n", arguments...)
}
