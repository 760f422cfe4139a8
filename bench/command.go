package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tegami-im/tegami/bench/target"
)

// ErrFaults ends a command whose run lost, doubled or reordered a message.
var ErrFaults = errors.New("the run has faults")

// Command is `tegami bench`, for kong: a program embeds it as a command and
// binds a context.Context; kong calls the Run method of the scenario that was
// named.
type Command struct {
	Saturation saturationCommand `cmd:"" default:"withargs" help:"Find how many messages a second the server carries (closed loop)."`
	Rate       rateCommand       `cmd:"" help:"Measure latencies at a fixed rate (open loop)."`
	Held       heldCommand       `cmd:"" help:"Measure what a held poll costs in server memory."`
	Accounts   accountsCommand   `cmd:"" help:"Measure what accounts cost in server memory and at a start."`
	Pages      pagesCommand      `cmd:"" help:"Measure pages of old operations, and what they do to messages."`
	Group      groupCommand      `cmd:"" help:"Measure messages to a chat: until they have reached every member, and what each costs."`
	Restart    restartCommand    `cmd:"" help:"Measure how long a start takes after SIGKILL and after a clean stop."`
	Figures    figuresCommand    `cmd:"" help:"Run all scenarios and print each figure beside its target."`
}

// Help is what kong prints below the usage.
func (Command) Help() string {
	return `Starts a server of its own in a temporary folder, or measures the one at --url.
The exit status is 1 when a message was lost, duplicated or reordered.

Examples:
  tegami bench                            saturation with 2,000 users
  tegami bench rate --rate=200            latencies at 200 messages a second
  tegami bench held --connections=100 --streams=100
  tegami bench --url=http://127.0.0.1:7400 --admin=http://127.0.0.1:7401 \
    --admin-token="$(cat data/admin.token)" --output=json
  tegami bench figures --runs=3 --strict`
}

// serverFlags name the server to measure.
type serverFlags struct {
	URL        string   `name:"url" help:"Where a running server takes clients. Without it, a server of our own is started." placeholder:"URL" group:"Server"`
	Admin      string   `help:"Admin listener of the running server." default:"http://127.0.0.1:7401" placeholder:"URL" group:"Server"`
	AdminToken string   `help:"Admin token of the running server: the content of admin.token in its data folder." env:"TEGAMI_ADMIN_TOKEN" group:"Server"`
	Dir        string   `help:"Folder for the data of our own server, made for the run and removed after it. Its disk decides what an fsync costs." type:"existingdir" placeholder:"DIR" group:"Server"`
	Binary     string   `help:"Program of our own server. This one when left out." type:"existingfile" placeholder:"FILE" group:"Server"`
	ServerFlag []string `help:"Further flag for serve; repeatable." placeholder:"FLAG" sep:"none" group:"Server"`
	ServerEnv  []string `help:"Further environment for serve, as KEY=VALUE; repeatable." placeholder:"KEY=VALUE" sep:"none" group:"Server"`
}

func (f *serverFlags) server() Server {
	return Server{
		URL: f.URL, Admin: f.Admin, AdminToken: f.AdminToken,
		Options: target.Options{Binary: f.Binary, Parent: f.Dir, Flags: f.ServerFlag, Env: f.ServerEnv},
	}
}

// common are the flags of every scenario.
type common struct {
	serverFlags
	Output string `help:"How to print the result: ${enum}." enum:"table,json" default:"table"`
	Quiet  bool   `help:"Do not tell on standard error what goes on." short:"q"`
}

// execute makes one run and prints its result.
func (f *common) execute(ctx context.Context, scenario Scenario) error {
	config := Config{Server: f.server(), Scenario: scenario, Progress: progress(f.Quiet)}
	result, err := Run(ctx, config)
	if err != nil {
		return err
	}
	if err := result.write(os.Stdout, f.Output); err != nil {
		return err
	}
	if result.Faults.Any() {
		return fmt.Errorf("%w: %s", ErrFaults, result.Faults)
	}
	return nil
}

func progress(quiet bool) func(string) {
	if quiet {
		return nil
	}
	return func(line string) { fmt.Fprintln(os.Stderr, line) }
}

func (r Result) write(w io.Writer, output string) error {
	if output == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	return r.WriteTable(w)
}

type saturationCommand struct {
	common
	Saturation
}

// Run is called by kong.
func (c *saturationCommand) Run(ctx context.Context) error { return c.execute(ctx, &c.Saturation) }

type rateCommand struct {
	common
	Rate
}

// Run is called by kong.
func (c *rateCommand) Run(ctx context.Context) error { return c.execute(ctx, &c.Rate) }

type heldCommand struct {
	common
	Held
}

// Run is called by kong.
func (c *heldCommand) Run(ctx context.Context) error { return c.execute(ctx, &c.Held) }

type accountsCommand struct {
	common
	Accounts
}

// Run is called by kong.
func (c *accountsCommand) Run(ctx context.Context) error { return c.execute(ctx, &c.Accounts) }

type groupCommand struct {
	common
	Group
}

// Run is called by kong.
func (c *groupCommand) Run(ctx context.Context) error { return c.execute(ctx, &c.Group) }

type pagesCommand struct {
	common
	Pages
}

// Run is called by kong.
func (c *pagesCommand) Run(ctx context.Context) error { return c.execute(ctx, &c.Pages) }

type restartCommand struct {
	common
	Restart
}

// Run is called by kong.
func (c *restartCommand) Run(ctx context.Context) error { return c.execute(ctx, &c.Restart) }
