// Package webhook is the task that posts each event, as JSON, to a URL.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/worker"
)

// Poster sends a body under an id; hook.Client does.
type Poster interface {
	Post(ctx context.Context, id string, body []byte) error
}

// Task is a worker.Task.
type Task struct {
	poster Poster
	kinds  []string
}

// New returns a task that posts events of some kinds, as Kinds names them; of
// all that this version knows when kinds is empty.
func New(poster Poster, kinds []string) (*Task, error) {
	for _, kind := range kinds {
		if !slices.Contains(Kinds(), kind) {
			return nil, fmt.Errorf("%q is no kind of event: there are %v", kind, Kinds())
		}
	}
	return &Task{poster: poster, kinds: kinds}, nil
}

// Kinds returns the names of the kinds of events, which are those of the fields
// of Event: message_received and so on.
func Kinds() []string {
	fields := new(eventsv1.Event).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	kinds := make([]string, fields.Len())
	for i := range kinds {
		kinds[i] = string(fields.Get(i).Name())
	}
	return kinds
}

func kindOf(e *eventsv1.Event) string {
	message := e.ProtoReflect()
	field := message.WhichOneof(message.Descriptor().Oneofs().ByName("kind"))
	if field == nil {
		return "" // of a newer version
	}
	return string(field.Name())
}

// Handle implements worker.Task. The event's id is that of the request.
func (t *Task) Handle(ctx context.Context, event *worker.Event) error {
	kind := kindOf(event.Event)
	if kind == "" || len(t.kinds) > 0 && !slices.Contains(t.kinds, kind) {
		return nil
	}
	encoded, err := protojson.Marshal(event.Event)
	if err != nil {
		return worker.Permanent(err)
	}
	var body bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&body, encoded); err != nil {
		return worker.Permanent(err)
	}
	return t.poster.Post(ctx, event.ID, body.Bytes())
}
