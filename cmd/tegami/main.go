// Tegami is a messaging server and the tools to use and run it.
//
// Exit codes: 0 done; 1 it failed, or the server refused; 2 wrong usage or
// configuration; 3 the server, or one that it needs (Kafka, HBase, Redis), could
// not be reached, so that a retry may help; 4 not signed in.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/tegami-im/tegami/bench"
	"github.com/tegami-im/tegami/client"
)

// commands is the command line. Each command lies in the file of its name.
type commands struct {
	Serve      serveCommand      `cmd:"" group:"server" help:"Run the server."`
	Worker     workerCommand     `cmd:"" group:"server" help:"Run the background tasks of a hybrid store: webhooks, push, analytics."`
	Tasks      tasksCommand      `cmd:"" group:"server" help:"Look after the dead letters of background tasks."`
	Gateway    gatewayCommand    `cmd:"" group:"server" help:"Run a gateway of a cluster."`
	Talk       talkCommand       `cmd:"" group:"server" help:"Run a talk node of a cluster."`
	Cluster    clusterCommand    `cmd:"" group:"server" help:"Look at a cluster, and say where its shards are to be."`
	Config     configCommand     `cmd:"" group:"server" help:"Print the configuration in effect and where each value comes from."`
	Doctor     doctorCommand     `cmd:"" group:"server" help:"Check whether this machine can run the server well, and say how to mend what is wrong."`
	Backup     backupCommand     `cmd:"" group:"server" help:"Copy the data of a running server to a new folder."`
	Restore    restoreCommand    `cmd:"" group:"server" help:"Make a data folder from a backup."`
	Correct    correctCommand    `cmd:"" group:"server" help:"Compare journal, store and cache, and mend what is wrong."`
	Generation generationCommand `cmd:"" group:"server" help:"Start a new generation of journals that went back, so that their shards open again."`
	Store      storeCommand      `cmd:"" group:"server" help:"Move data between stores; fill the cache."`
	Admin      adminCommand      `cmd:"" group:"server" help:"Look after the stores of a hybrid store."`
	New        newCommand        `cmd:"" group:"server" help:"Write the skeleton of a behaviour of your own."`
	Register   registerCommand   `cmd:"" group:"user" help:"Take a user id and sign in."`
	Login      loginCommand      `cmd:"" group:"user" help:"Sign in."`
	Logout     logoutCommand     `cmd:"" group:"user" help:"Sign out."`
	Chat       chatCommand       `cmd:"" group:"user" help:"Talk in the terminal."`
	Send       sendCommand       `cmd:"" group:"user" help:"Send one message."`
	Ops        opsCommand        `cmd:"" group:"user" help:"Print the operations of the mailbox."`
	Replay     replayCommand     `cmd:"" group:"measure" help:"Play conversations from a file and check that every turn arrives once, in order, byte for byte."`
	Bench      bench.Command     `cmd:"" group:"measure" help:"Measure a server."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}

const description = `A messaging server, and the tools to use and run it.

Start with "tegami serve", then "tegami register alice" in another terminal.

Exit codes: 0 done; 1 it failed, or the server refused; 2 wrong usage or configuration; 3 the server, or one that it needs (Kafka, HBase, Redis), could not be reached, so that a retry may help; 4 not signed in.`

// streams are the standard streams of a command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// printf prints for a person or a script. That nobody reads is no failure.
func (s streams) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

// notef tells a person what goes on, apart from what the command prints.
func (s streams) notef(format string, args ...any) { _, _ = fmt.Fprintf(s.err, format+"\n", args...) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second interruption ends the program at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run parses and runs one command line and returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	var line commands
	parser, err := kong.New(&line,
		kong.Name("tegami"),
		kong.Description(description),
		kong.Writers(std.out, std.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "user", Title: "As a user:"},
			{Key: "server", Title: "Running a server:"},
			{Key: "measure", Title: "Trying a server out:"},
		}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		std.notef("tegami: %v", err)
		return codeFailed
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		std.notef("tegami: %v", err)
		return codeUsage
	}
	if err := parsed.Run(); err != nil {
		std.notef("tegami: %s", plain(err))
		return exitCode(err)
	}
	return 0
}

// The exit codes beside 0.
const (
	codeFailed      = 1
	codeUsage       = 2
	codeUnreachable = 3
	codeSignedOut   = 4
)

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// unreachableError is a call to the admin listener that was not answered.
type unreachableError struct{ error }

func (e unreachableError) Unwrap() error { return e.error }

func (e unreachableError) Error() string {
	return "the server cannot be reached: " + e.error.Error()
}

func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return codeUsage
	}
	if _, ok := errors.AsType[unreachableError](err); ok || isAway(err) {
		return codeUnreachable
	}
	if _, ok := errors.AsType[correctError](err); ok {
		return codeUsage
	}
	switch client.CodeOf(err) {
	case client.CodeUnavailable:
		return codeUnreachable
	case client.CodeUnauthenticated:
		return codeSignedOut
	default:
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return codeUnreachable
	}
	if errors.Is(err, client.ErrNoSession) {
		return codeSignedOut
	}
	return codeFailed
}

// plain words an error for a person.
func plain(err error) string {
	refused, ok := errors.AsType[*client.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case !ok || refused.Code == client.CodeUnavailable && errors.Is(err, context.DeadlineExceeded):
		return err.Error()
	case refused.Code == client.CodeUnavailable && refused.Unwrap() != nil:
		return "the server cannot be reached: " + refused.Message
	case refused.RetryAfter > 0:
		return fmt.Sprintf("%v; try again in %v", err, refused.RetryAfter)
	default:
		return err.Error()
	}
}
