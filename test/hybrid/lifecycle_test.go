package hybrid

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/stack"
)

// TestWithoutKafka stops the server while Kafka hangs, and starts it while Kafka
// is not there: neither is held up by it for longer than was promised, and it
// is ready by itself when Kafka is back.
func TestWithoutKafka(t *testing.T) {
	s := start(t, crowd)
	s.await("before", afterwards)
	pause(stack.Kafka)(s)
	<-time.After(500 * time.Millisecond) // appends are on their way
	began := time.Now()
	s.server.Signal(syscall.SIGTERM)
	if code := s.server.Exit(); code != 0 {
		t.Errorf("exit code %d after SIGTERM while Kafka hangs", code)
	}
	t.Logf("progress: stopped in %.1f s while Kafka hangs", time.Since(began).Seconds())

	resume(stack.Kafka)(s)
	kill(stack.Kafka)(s)
	s.server.Launch()
	for deadline := time.Now().Add(hangLimit); ; {
		answer := s.readiness()
		if strings.Contains(answer, "waiting for kafka at ") {
			break
		}
		if time.Now().After(deadline) || !s.server.Alive() {
			t.Fatalf("/readyz answers %q while there is no Kafka", answer)
		}
		<-time.After(10 * time.Millisecond)
	}
	up(stack.Kafka)(s)
	began = time.Now()
	if err := s.server.AwaitReady(); err != nil {
		t.Fatal(err)
	}
	t.Logf("progress: ready %.1f s after Kafka", time.Since(began).Seconds())
	s.await("after", afterwards)
	s.users.Judge(append(complaints, "not everything was drained in time", "server=kafka")...)
}

// readiness returns what /readyz says; nothing while nobody answers.
func (s *system) readiness() string {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.server.Admin+"/readyz", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return string(content)
}
