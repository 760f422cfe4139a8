package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tegami-im/tegami/test/process"
)

// startWorker starts a worker and waits until it is in its groups.
func (s *system) startWorker() *process.Server {
	s.t.Helper()
	return process.Start(s.t, process.Options{Binary: s.binary, Command: "worker", Config: s.config})
}

// run runs a command of tegami's to its end and returns what it prints.
func (s *system) run(arguments ...string) string {
	s.t.Helper()
	command := process.Command(s.t, s.binary, append(arguments, "--config", s.file)...)
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
	s.file = filepath.Join(folder, "tegami.yaml")
	secretFile := filepath.Join(folder, "secret")
	s.config = fmt.Sprintf(`
store: {kind: hybrid}
kafka: {brokers: %q, allow_one_broker: true}
worker: {session_timeout: 2s, drain_timeout: 1s, backoff: 20ms, backoff_max: 200ms, attempts: 100}
webhook: {urls: "%s/hook", secret_file: %q, timeout: 500ms, allow_private: true}
push: {url: "%s/push", secret_file: %q, timeout: 500ms, allow_private: true}
analytics: {enabled: true}
audit: {rate: 0}
`, brokers, url, secretFile, url, secretFile)
	err := errors.Join(
		os.WriteFile(secretFile, append(secret, '\n'), 0o600),
		os.WriteFile(s.file, []byte(s.config), 0o600),
	)
	if err != nil {
		s.t.Fatal(err)
	}
}
