package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
)

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(data)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// workerProcess is a process that runs `tegami worker`.
type workerProcess struct {
	t       *testing.T
	admin   string
	command *exec.Cmd
	output  output
	exited  chan struct{}
	state   error
}

// startWorker starts a worker and waits until it says that it runs.
func (s *system) startWorker() *workerProcess {
	s.t.Helper()
	address, err := process.FreeAddress(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	w := &workerProcess{t: s.t, admin: address, exited: make(chan struct{})}
	w.command = process.Command(s.t, s.binary, "worker", "--config", s.config, "--set", "worker.listen="+address)
	w.command.Stdout, w.command.Stderr = &w.output, &w.output
	if err := w.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		w.state = w.command.Wait()
		close(w.exited)
	}()
	s.t.Cleanup(func() {
		w.kill()
		if s.t.Failed() {
			text := w.output.String()
			s.t.Logf("the end of a worker's output:\n%s", text[max(0, len(text)-4000):])
		}
	})
	await(s.t, "the worker runs", func() bool { return strings.Contains(w.output.String(), "Tegami runs ") })
	return w
}

// kill ends it by SIGKILL.
func (w *workerProcess) kill() {
	_ = w.command.Process.Kill() // it may have ended
	<-w.exited
}

// stop ends it by SIGTERM, and checks that it ends well.
func (w *workerProcess) stop() {
	w.t.Helper()
	if err := w.command.Process.Signal(syscall.SIGTERM); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-w.exited:
		if w.state != nil {
			w.t.Errorf("a worker that was asked to stop ends with %v", w.state)
		}
	case <-time.After(hangLimit):
		w.t.Fatal("a worker does not stop")
	}
}

// metric sums a metric over its labels.
func (w *workerProcess) metric(name string) float64 {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.admin+"/metrics", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(string(body)) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), " "); found && strings.HasPrefix(key, name) {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				w.t.Fatal(err)
			}
			sum += number
		}
	}
	return sum
}

// run runs a command of tegami's to its end and returns what it prints.
func (s *system) run(arguments ...string) string {
	s.t.Helper()
	command := process.Command(s.t, s.binary, append(arguments, "--config", s.config)...)
	var printed, complaints bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complaints
	if err := command.Run(); err != nil {
		s.t.Fatalf("tegami %v: %v\n%s", arguments, err, complaints.String())
	}
	return printed.String()
}

// configure writes the configuration of workers that post to the receiver.
func (s *system) configure(brokers, url string) {
	s.t.Helper()
	folder := s.t.TempDir()
	s.config = filepath.Join(folder, "tegami.yaml")
	file := filepath.Join(folder, "secret")
	err := errors.Join(
		os.WriteFile(file, append(secret, '\n'), 0o600),
		os.WriteFile(s.config, fmt.Appendf(nil, `
store: {kind: hybrid}
kafka: {brokers: %q, allow_one_broker: true}
worker: {session_timeout: 2s, drain_timeout: 1s, backoff: 20ms, backoff_max: 200ms, attempts: 100}
webhook: {urls: "%s/hook", secret_file: %q, timeout: 500ms, allow_private: true}
push: {url: "%s/push", secret_file: %q, timeout: 500ms, allow_private: true}
analytics: {enabled: true}
audit: {rate: 0}
`, brokers, url, file, url, file), 0o600),
	)
	if err != nil {
		s.t.Fatal(err)
	}
}
