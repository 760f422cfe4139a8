package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// quiet is how long a suite may say nothing before the console says that it
// lives.
const quiet = 20 * time.Second

// console is where a suite writes. It is safe for concurrent use.
type console struct {
	suite string
	start time.Time
	count count
	done  chan struct{}
	owner sync.WaitGroup

	mu   sync.Mutex
	last time.Time
}

// count is of tests, subtests included.
type count struct {
	passed, failed, skipped int
}

func newConsole(suite string) *console {
	c := &console{suite: suite, start: time.Now(), last: time.Now(), done: make(chan struct{})}
	c.owner.Go(c.beat)
	return c
}

func (c *console) close() {
	close(c.done)
	c.owner.Wait()
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
				c.printf("… %s: %.0f s", c.suite, now.Sub(c.start).Seconds())
			}
		}
	}
}

// Write passes bytes on as they are.
func (c *console) Write(data []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	return os.Stdout.Write(data)
}

func (c *console) printf(format string, arguments ...any) {
	fmt.Fprintf(c, "  "+format+"\n", arguments...)
}
