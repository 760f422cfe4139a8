// Package stack runs the real servers behind Tegami's hybrid store for tests:
// Redis, HBase, Kafka and etcd, by the scripts of scripts/stack, in a folder of
// their own and on ports of their own. It kills, pauses and restarts them.
//
// A package of tests that shares one stack, which saves the seconds that a
// server takes to start, has
//
//	func TestMain(m *testing.M) { stack.Main(m) }
//
// and calls Shared.
//
// Servers that a test process left behind, because it was killed itself, are
// stopped by the scripts within a second or two. For a server with other
// settings, such as TLS, Set the variables that its script names before Up.
package stack

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The services that there are.
const (
	Redis = "redis"
	HBase = "hbase"
	Kafka = "kafka"
	Etcd  = "etcd"
)

// addresses maps a service to the variable of its client port.
var addresses = map[string]string{
	Redis: "REDIS_PORT",
	HBase: "ZK_PORT",
	Kafka: "KAFKA_PORT",
	Etcd:  "ETCD_PORT",
}

var ports = []string{
	"REDIS_PORT", "KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "ZK_PORT", "HBASE_MASTER_PORT",
	"HBASE_REGIONSERVER_PORT", "ETCD_PORT", "ETCD_PEER_PORT",
}

// Stack is a set of servers. Its methods may be used by several goroutines, but
// for one service only by one at a time.
type Stack struct {
	folder  string
	scripts string

	mu        sync.Mutex // guards the following
	variables map[string]string
	up        map[string]bool
}

// New returns a stack whose data will lie in folder, with free ports and no
// server running.
func New(folder string) (*Stack, error) {
	root, err := root()
	if err != nil {
		return nil, err
	}
	s := &Stack{
		folder:  folder,
		scripts: filepath.Join(root, "scripts", "stack"),
		variables: map[string]string{
			"STACK_DIR":   folder,
			"STACK_OWNER": strconv.Itoa(os.Getpid()),
		},
		up: map[string]bool{},
	}
	for _, name := range ports {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		s.variables[name] = strconv.Itoa(port)
	}
	return s, nil
}

// Start runs services in a folder of the test and stops them when it ends. The
// ends of their logs are shown when it fails.
func Start(t testing.TB, services ...string) *Stack {
	t.Helper()
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.StopAfter(t)
	s.Up(t, services...)
	return s
}

// StopAfter stops the servers when the test ends.
func (s *Stack) StopAfter(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			s.showLogs(t)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// shared is the stack of this process.
var shared struct {
	sync.Mutex
	stack   *Stack
	prepare []func(*Stack) error
}

// Shared returns the stack that all tests of this process share, with these
// services running. They are stopped by Main.
func Shared(t testing.TB, services ...string) *Stack {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.stack == nil {
		folder, err := os.MkdirTemp("", "tegami-stack-") //nolint:usetesting // it outlives the test
		if err != nil {
			t.Fatal(err)
		}
		if shared.stack, err = New(folder); err != nil {
			t.Fatal(err)
		}
		for _, prepare := range shared.prepare {
			if err := prepare(shared.stack); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := shared.stack
	var missing []string
	for _, service := range services {
		if !s.running(service) {
			missing = append(missing, service)
		}
	}
	s.Up(t, missing...)
	t.Cleanup(func() {
		if t.Failed() {
			s.showLogs(t)
		}
	})
	return s
}

// Main runs the tests, stops the shared stack and exits. Before anything of the
// shared stack is started, prepare may set variables.
func Main(m *testing.M, prepare ...func(*Stack) error) {
	shared.prepare = prepare
	code := m.Run()
	if s := shared.stack; s != nil {
		if err := errors.Join(s.Stop(), os.RemoveAll(s.folder)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Set sets a variable for the scripts, from the next Up on.
func (s *Stack) Set(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.variables[name] = value
}

// Environ returns the variables for the scripts, as NAME=value: for a program that
// runs them itself.
func (s *Stack) Environ() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for name, value := range s.variables {
		all = append(all, name+"="+value)
	}
	return all
}

// Port returns the value of a port variable, such as KAFKA_PORT.
func (s *Stack) Port(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	port, _ := strconv.Atoi(s.variables[name])
	return port
}

// Addr returns the address that clients of a service use, as host:port; for
// HBase it is that of its ZooKeeper.
func (s *Stack) Addr(service string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port(addresses[service])))
}

// Folder returns the folder of a service, with its data, log and pid.
func (s *Stack) Folder(service string) string { return filepath.Join(s.folder, service) }

// Up starts services, on the data that they left, and returns when they are
// ready.
func (s *Stack) Up(t testing.TB, services ...string) {
	t.Helper()
	if len(services) == 0 {
		return
	}
	if err := s.script("up.sh", services...); err != nil {
		// Some may have started.
		t.Fatal(errors.Join(err, s.script("down.sh", services...)))
	}
	s.mark(true, services...)
}

// Kill ends a service by SIGKILL and returns when it is gone. Its data stay.
func (s *Stack) Kill(t testing.TB, service string) {
	t.Helper()
	if err := s.script("down.sh", service); err != nil {
		t.Fatal(err)
	}
	s.mark(false, service)
}

// Restart kills a service and starts it again on the same data and port.
func (s *Stack) Restart(t testing.TB, service string) {
	t.Helper()
	s.Kill(t, service)
	s.Up(t, service)
}

// Wipe kills a service and removes its data.
func (s *Stack) Wipe(t testing.TB, service string) {
	t.Helper()
	s.Kill(t, service)
	if err := os.RemoveAll(s.Folder(service)); err != nil {
		t.Fatal(err)
	}
}

// Pause stops a service by SIGSTOP: its connections stay open and nothing
// answers. Resume lets it go on.
func (s *Stack) Pause(t testing.TB, service string) {
	t.Helper()
	s.signal(t, service, syscall.SIGSTOP)
}

// Resume lets a paused service go on.
func (s *Stack) Resume(t testing.TB, service string) {
	t.Helper()
	s.signal(t, service, syscall.SIGCONT)
}

// Stop kills whatever runs.
func (s *Stack) Stop() error {
	s.mu.Lock()
	services := slices.Sorted(maps.Keys(s.up))
	s.mu.Unlock()
	if len(services) == 0 {
		return nil
	}
	s.mark(false, services...)
	return s.script("down.sh", services...)
}

func (s *Stack) signal(t testing.TB, service string, signal syscall.Signal) {
	t.Helper()
	pid, err := s.pid(service)
	if err == nil {
		err = syscall.Kill(pid, signal)
	}
	if err != nil {
		t.Fatalf("send %v to %s: %v", signal, service, err)
	}
}

// PID returns the process id of a running service.
func (s *Stack) PID(t testing.TB, service string) int {
	t.Helper()
	pid, err := s.pid(service)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func (s *Stack) pid(service string) (int, error) {
	content, err := os.ReadFile(filepath.Join(s.Folder(service), "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

func (s *Stack) running(service string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up[service]
}

func (s *Stack) mark(up bool, services ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range services {
		if up {
			s.up[service] = true
		} else {
			delete(s.up, service)
		}
	}
}

// script runs one of the scripts to its end. They have limits of their own.
func (s *Stack) script(name string, services ...string) error {
	command := exec.Command(filepath.Join(s.scripts, name), services...) //nolint:noctx // a script that stops servers must not be stopped with the test
	command.Env = append(os.Environ(), s.Environ()...)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(services, " "), err, output.Bytes())
	}
	return nil
}

// showLogs shows the end of every server's log.
func (s *Stack) showLogs(t testing.TB) {
	logs, _ := filepath.Glob(filepath.Join(s.folder, "*", "log"))
	for _, name := range logs {
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		const shown = 4 << 10
		t.Logf("end of %s:\n%s", name, content[max(0, len(content)-shown):])
	}
}

// FreePort returns a port that nothing listens on. It lies below those that
// the system gives to outgoing connections: otherwise such a connection could
// take it while a server is down, or a client could even connect to itself.
func FreePort() (int, error) {
	for range 100 {
		port := 11000 + rand.IntN(20000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // it returns at once
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, errors.New("no free port found")
}

// root returns the repository's root.
func root() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", errors.New("no go.mod above the working directory")
		}
		folder = parent
	}
}
