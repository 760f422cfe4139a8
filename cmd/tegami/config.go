package main

import (
	"cmp"
	"encoding/json"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/tegami-im/tegami/config"
)

// configFlags are the flags of the commands that read the configuration. Any
// key can be set by --set; those in daily use have flags of their own.
type configFlags struct {
	Config string   `placeholder:"FILE" env:"TEGAMI_CONFIG" type:"path" help:"YAML configuration file."`
	Data   string   `placeholder:"DIR" help:"The data folder (data.dir)."`
	Listen string   `placeholder:"ADDR" help:"Address for clients (server.listen)."`
	Admin  string   `placeholder:"ADDR" help:"Address for operators (admin.listen)."`
	Set    []string `placeholder:"KEY=VALUE" sep:"none" help:"Set any key, as in --set limits.send_rate=500; repeatable."`
}

func (f *configFlags) load(std streams) (*config.Loaded, error) {
	var flags []config.Flag
	for _, flag := range []config.Flag{
		{Key: "data.dir", Value: f.Data, Source: "--data"},
		{Key: "server.listen", Value: f.Listen, Source: "--listen"},
		{Key: "admin.listen", Value: f.Admin, Source: "--admin"},
	} {
		if flag.Value != "" {
			flags = append(flags, flag)
		}
	}
	for _, assignment := range f.Set {
		key, value, found := strings.Cut(assignment, "=")
		if !found {
			return nil, usagef("--set %s: expected KEY=VALUE", assignment)
		}
		flags = append(flags, config.Flag{Key: key, Value: value, Source: "--set"})
	}
	loaded, err := config.Load(config.Layers{File: f.Config, Env: os.Environ(), Flags: flags})
	if err != nil {
		return nil, usageError{err}
	}
	for _, warning := range loaded.Warnings {
		std.notef("tegami: %s", warning)
	}
	return loaded, nil
}

type configCommand struct {
	configFlags
	Example bool   `help:"Print a commented file with every key instead."`
	Output  string `enum:"text,json" default:"text" help:"text or json."`
}

func (configCommand) Help() string {
	return `Later wins: the default, the file, the environment (TEGAMI_SERVER_LISTEN), flags.

Examples:
  tegami config --example > tegami.yaml
  tegami config --config tegami.yaml
  tegami config --output json | jq '.[] | select(.source != "default")'`
}

func (c *configCommand) Run(std streams) error {
	if c.Example {
		std.printf("%s", config.Example())
		return nil
	}
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	type setting struct {
		Key    string `json:"key"`
		Value  string `json:"value"`
		Source string `json:"source"`
	}
	var settings []setting
	for _, section := range config.Sections() {
		for _, key := range section.Keys {
			settings = append(settings, setting{key.Name, loaded.Get(key.Name), loaded.Source(key.Name)})
		}
	}
	if c.Output == "json" {
		encoder := json.NewEncoder(std.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(settings)
	}
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		_, _ = table.Write([]byte(s.Key + "\t" + cmp.Or(s.Value, `""`) + "\t" + s.Source + "\n"))
	}
	return table.Flush()
}
