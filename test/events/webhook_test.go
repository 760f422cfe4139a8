package events

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/encoding/protojson"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/worker/hook"
)

// receiver is the other side of the webhook.
type receiver struct {
	t      *testing.T
	url    string
	secret []byte

	mu     sync.Mutex // guards posted
	posted *published
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, secret: []byte("a secret of the tests"), posted: newPublished()}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // the worker was killed
	}
	if err := hook.Verify(request.Header.Get(hook.HeaderSignature), body, r.secret, time.Now(), time.Minute); err != nil {
		r.t.Error(err)
	}
	e := new(eventsv1.Event)
	if err := protojson.Unmarshal(body, e); err != nil {
		r.t.Errorf("%s: %v", body, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posted.take(e)
	w.WriteHeader(http.StatusNoContent)
}

// configuration is what the workers have in theirs beside what the server has.
func (r *receiver) configuration() string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "secret")
	if err := os.WriteFile(file, r.secret, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprintf(`
worker: {session_timeout: 2s, drain_timeout: 1s}
webhook: {urls: %q, secret_file: %q, allow_private: true}
audit: {rate: 0}
`, r.url, file)
}

// awaitPosts waits until a worker has posted some event.
func awaitPosts(t *testing.T, worker *process.Server) {
	t.Helper()
	await(t, "the worker posts", func() bool { return worker.Sum(`tegami_task_events_total{outcome="handled"`) > 0 })
}

// awaitPosted waits until the workers are through the topic: what they have
// committed is its end.
func awaitPosted(t *testing.T, servers *stack.Stack) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(servers.Addr(stack.Kafka)))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
	defer cancel()
	want := ends(ctx, t, client)
	await(t, "the workers have no lag", func() bool { return maps.Equal(committed(ctx, t, client), want) })
}

// committed returns what the workers have committed of each partition.
func committed(ctx context.Context, t *testing.T, client *kgo.Client) map[int32]int64 {
	t.Helper()
	asked := kmsg.NewOffsetFetchRequestTopic()
	asked.Topic = topic
	for n := range int32(partitions) {
		asked.Partitions = append(asked.Partitions, n)
	}
	request := kmsg.NewPtrOffsetFetchRequest()
	request.Group, request.Topics = "tegami-worker-webhook", []kmsg.OffsetFetchRequestTopic{asked}
	response, err := request.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	offsets := map[int32]int64{}
	for _, partition := range response.Topics[0].Partitions {
		if partition.Offset > 0 {
			offsets[partition.Partition] = partition.Offset
		}
	}
	return offsets
}
