package main

import (
	"context"
	"errors"
)

type backupCommand struct{}

func (c *backupCommand) Run(context.Context, streams) error { return errors.New("not built yet") }

type restoreCommand struct{}

func (c *restoreCommand) Run(context.Context, streams) error { return errors.New("not built yet") }
