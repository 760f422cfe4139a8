package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Limits against hanging: about ten times what the server promises.
const (
	startLimit = 100 * time.Second
	stopLimit  = 50 * time.Second
)

// Options say how to run a server.
type Options struct {
	// Binary is a path from Build.
	Binary string
	// Data is the data folder; a temporary one when empty.
	Data string
	// Config is the text of a YAML file.
	Config string
	// Address is where clients come to; a free one when empty.
	Address string
	// Command is what the binary runs as: serve when empty, talk, gateway or
	// worker, which has no clients.
	Command string
	// Flags go behind the flags of the command that the harness sets itself.
	Flags []string
	// Wrapper is put before the binary: strace, prlimit.
	Wrapper []string
	// TLS is what clients use; nil for cleartext. Config sets the certificate.
	TLS *tls.Config
}

// Server is one server on one data folder, through all its restarts; its
// addresses stay the same. Its methods are for the goroutine of the test,
// except Log and Complaints.
type Server struct {
	t       testing.TB
	options Options
	// Address and Admin are host:port.
	Address, Admin string
	config         string
	log            *logBuffer

	command *exec.Cmd
	// exited is closed when the process has ended; state holds how.
	exited chan struct{}
	state  error
}

// New prepares a server. It is killed at the end of the test, and its log
// shown when the test failed.
func New(t testing.TB, options Options) *Server {
	t.Helper()
	if options.Data == "" {
		options.Data = t.TempDir()
	}
	if options.Command == "" {
		options.Command = "serve"
	}
	if options.Address == "" {
		options.Address = freeAddress(t)
	}
	s := &Server{
		t: t, options: options, Address: options.Address, Admin: freeAddress(t),
		config: filepath.Join(t.TempDir(), "tegami.yaml"), log: new(logBuffer),
	}
	if err := os.WriteFile(s.config, []byte(options.Config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", s.log.tail(60))
		}
	})
	return s
}

// Start prepares a server, starts it and waits until it is ready.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	s := New(t, options)
	s.Start()
	return s
}

// Start starts the process and waits until it is ready.
func (s *Server) Start() {
	s.t.Helper()
	s.Launch()
	if err := s.AwaitReady(); err != nil {
		s.t.Fatal(err)
	}
}

// Launch starts the process and does not wait.
func (s *Server) Launch() {
	s.t.Helper()
	arguments := append([]string{}, s.options.Wrapper...)
	arguments = append(arguments, s.options.Binary, s.options.Command, "--data", s.options.Data,
		"--listen", s.Address, "--admin", s.Admin, "--set", "worker.listen="+s.Admin, "--config", s.config)
	arguments = append(arguments, s.options.Flags...)
	// Not bound to the test's context: Kill in Cleanup ends it, and the log is
	// read until then.
	command := exec.CommandContext(context.WithoutCancel(s.t.Context()), arguments[0], arguments[1:]...)
	command.Stdout, command.Stderr = s.log, s.log
	// A server with the race detector would wait a second before it ends.
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	dieWithParent(command)
	if err := command.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	s.command, s.exited = command, exited
	go func() {
		s.state = command.Wait()
		close(exited)
	}()
}

// AwaitReady waits until /readyz says so. It fails when the process ends
// first.
func (s *Server) AwaitReady() error {
	ctx, cancel := context.WithTimeout(s.t.Context(), startLimit)
	defer cancel()
	probe := time.NewTicker(5 * time.Millisecond)
	defer probe.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		if ready(ctx, client, "http://"+s.Admin+"/readyz") {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended before it was ready: %w\n%s", s.state, s.log.tail(30))
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v\n%s", startLimit, s.log.tail(30))
		case <-probe.C:
		}
	}
}

func ready(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Kill ends the process with SIGKILL and returns when it is gone. It does
// nothing when none runs.
func (s *Server) Kill() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill()
	<-s.exited
	s.command = nil
}

// Signal sends a signal.
func (s *Server) Signal(signal os.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// Exit waits until the process has ended by itself and returns its exit code.
func (s *Server) Exit() int {
	s.t.Helper()
	hung := time.NewTimer(stopLimit) // The test's context may have ended.
	defer hung.Stop()
	select {
	case <-s.exited:
	case <-hung.C:
		s.t.Fatalf("the process has not ended after %v", stopLimit)
	}
	s.command = nil
	if s.state == nil {
		return 0
	}
	failed, ok := errors.AsType[*exec.ExitError](s.state)
	if !ok {
		s.t.Fatal(s.state)
	}
	return failed.ExitCode()
}

// Stop ends the process as an operator does, by SIGTERM, and fails the test
// unless it ends well.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	if code := s.Exit(); code != 0 {
		s.t.Fatalf("exit code %d after SIGTERM\n%s", code, s.log.tail(30))
	}
}

// Running reports whether a process was started and neither killed nor stopped
// nor waited for.
func (s *Server) Running() bool { return s.command != nil }

// Alive reports whether the process runs.
func (s *Server) Alive() bool {
	select {
	case <-s.exited:
		return false
	default:
		return s.command != nil
	}
}

// Pid of the running process.
func (s *Server) Pid() int { return s.command.Process.Pid }

// Data is the data folder.
func (s *Server) Data() string { return s.options.Data }

// URL is where clients connect to.
func (s *Server) URL() string {
	if s.options.TLS != nil {
		return "https://" + s.Address
	}
	return "http://" + s.Address
}

// Log is everything that all runs of the server wrote.
func (s *Server) Log() string { return s.log.String() }

// Complaints are what no healthy run has in its log: errors, panics, data
// races, each with the lines that follow it. A test that provokes an error
// looks for it itself.
func (s *Server) Complaints() []string { return complaints(s.Log()) }

// maxFollowing lines are kept of a stack or of a race.
const maxFollowing = 40

func complaints(log string) []string {
	var found []string
	following := 0
	for line := range strings.Lines(log) {
		switch {
		case complaint(line):
			found = append(found, line)
			following = 0
			if !strings.Contains(line, "ERROR") {
				following = maxFollowing
			}
		case following > 0:
			found[len(found)-1] += line
			following--
		}
	}
	return found
}

func complaint(line string) bool {
	for _, mark := range []string{"level=ERROR", `"level":"ERROR"`, "DATA RACE"} {
		if strings.Contains(line, mark) {
			return true
		}
	}
	return strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:")
}

// FreeAddress returns a loopback address that nobody listens on. It keeps off
// the range that the system takes the ports of outgoing connections from: a
// client must not get the server's port while the server is down.
func FreeAddress(ctx context.Context) (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port found")
}

func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := FreeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return address
}
