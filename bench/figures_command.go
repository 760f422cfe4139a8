package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/tegami-im/tegami/bench/target"
)

// ErrMissed ends a strict run of the figures when a target was missed.
var ErrMissed = errors.New("a target was missed")

type figuresCommand struct {
	Dir        string   `help:"Folder for the data of the servers. Its disk decides what an fsync costs." type:"existingdir" placeholder:"DIR"`
	Binary     string   `help:"Program of the servers. This one when left out." type:"existingfile" placeholder:"FILE"`
	ServerFlag []string `help:"Further flag for serve; repeatable." placeholder:"FLAG" sep:"none"`
	Runs       int      `help:"Rounds. The median is held against the target." default:"3"`
	Skip       []string `help:"What to leave out: ${enum}." enum:"saturation,rate,held,accounts,restart"`
	Strict     bool     `help:"Fail when a target is missed."`
	Quiet      bool     `help:"Do not tell on standard error what goes on." short:"q"`
}

// Run is called by kong.
func (c *figuresCommand) Run(ctx context.Context) error {
	if c.Runs < 1 {
		return errors.New("runs: at least 1")
	}
	plan := DefaultPlan().without(c.Skip)
	server := Server{Options: target.Options{Binary: c.Binary, Parent: c.Dir, Flags: c.ServerFlag}}
	say := progress(c.Quiet)
	var rounds []round
	var failed error
	for i := range c.Runs {
		if say != nil {
			say(fmt.Sprintf("round %d of %d", i+1, c.Runs))
		}
		r, err := plan.run(ctx, server, say)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = errors.Join(failed, err)
		rounds = append(rounds, r)
	}
	all := judge(rounds)
	writeFigures(os.Stdout, all)
	if c.Strict && slices.ContainsFunc(all, func(j judged) bool { return !j.met() }) {
		failed = errors.Join(failed, ErrMissed)
	}
	return failed
}
