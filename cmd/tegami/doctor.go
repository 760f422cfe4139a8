package main

import "errors"

type doctorCommand struct {
	configFlags
}

func (c *doctorCommand) Run(streams) error { return errors.New("not built yet") }
