package target

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Options say how to run a server of our own.
type Options struct {
	// Binary is the server's program; ours when empty.
	Binary string
	// Parent is the folder that the temporary data folder is made in; the
	// system's when empty. What it lies on decides what an fsync costs.
	Parent string
	// Flags go behind those that `serve` gets from here.
	Flags []string
	// Env adds to our own environment, as KEY=VALUE.
	Env []string
}

// process is one server on one data folder, through its restarts.
type process struct {
	options       Options
	folder        string // holds the data folder and the log
	data          string
	listen, admin string
	command       *exec.Cmd
	exited        chan struct{} // closed when the process has ended
	err           error         // how it ended; read after exited
}

func newProcess(ctx context.Context, options Options) (*process, error) {
	if options.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		options.Binary = self
	}
	p := &process{options: options}
	var err error
	if p.listen, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if p.admin, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if p.folder, err = os.MkdirTemp(options.Parent, "tegami-bench-"); err != nil {
		return nil, err
	}
	p.data = filepath.Join(p.folder, "data")
	return p, nil
}

// inMemory reports whether the data lies on a tmpfs, where an fsync costs
// nothing.
func (p *process) inMemory() bool {
	const tmpfs = 0x01021994 // from linux/magic.h
	var fs syscall.Statfs_t
	return syscall.Statfs(p.folder, &fs) == nil && fs.Type == tmpfs
}

func (p *process) logPath() string { return filepath.Join(p.folder, "server.log") }

func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	arguments := append([]string{"serve", "--data", p.data, "--listen", p.listen, "--admin", p.admin}, p.options.Flags...)
	// The context does not end it: stop, kill and close do.
	command := exec.CommandContext(context.WithoutCancel(ctx), p.options.Binary, arguments...) //nolint:gosec // The program is ours or the operator's choice.
	command.Env = append(os.Environ(), p.options.Env...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = dieWithUs()
	if err := command.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	exited := make(chan struct{})
	p.command, p.exited = command, exited
	go func() {
		p.err = command.Wait()
		close(exited)
	}()
	return nil
}

func (p *process) stop(ctx context.Context) error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		return fmt.Errorf("the server does not stop: %w", ctx.Err())
	}
	if p.err != nil {
		return fmt.Errorf("the server ended badly: %w\n%s", p.err, p.logTail())
	}
	return nil
}

func (p *process) kill() {
	if p.command == nil {
		return
	}
	_ = p.command.Process.Kill() // fails only when it has ended already
	<-p.exited
}

func (p *process) close() error {
	p.kill()
	return os.RemoveAll(p.folder)
}

// logTail returns the last lines that the server wrote.
func (p *process) logTail() string {
	log, err := os.ReadFile(p.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// freeAddress returns a loopback address that nobody listens on, outside the
// range that the system takes the ports of outgoing connections from: a
// benchmark's thousands of connections must not get it.
func freeAddress(ctx context.Context) (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000)) //nolint:gosec // no secret
		if listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port found")
}
