package main

import (
	"context"
	"errors"
)

type replayCommand struct{}

func (c *replayCommand) Run(context.Context, streams) error { return errors.New("not built yet") }
