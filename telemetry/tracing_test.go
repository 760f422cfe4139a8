package telemetry

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/tegami-im/tegami/actors/shard"
)

func TestTraceFollowsOneMessage(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracing := newTracing(recorder, 1)
	message := tracing.Send(t.Context())
	for _, stage := range []shard.Stage{shard.Appended, shard.Applied, shard.Answered} {
		message.Stage(stage)
	}
	message.End("")
	if err := tracing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	ended := recorder.Ended()
	var whole sdktrace.ReadOnlySpan
	for _, span := range ended {
		if span.Name() == "SendMessage" {
			whole = span
		}
	}
	if whole == nil || len(ended) != 4 {
		t.Fatalf("%d spans, want the message and its three stages", len(ended))
	}
	for i, name := range []string{"appended", "applied", "answered"} {
		if got := ended[i]; got.Name() != name || got.Parent().SpanID() != whole.SpanContext().SpanID() {
			t.Errorf("span %d is %s of %v, want %s of the message", i, got.Name(), got.Parent().SpanID(), name)
		}
		if i > 0 && ended[i].StartTime() != ended[i-1].EndTime() {
			t.Errorf("%s does not begin where %s ends", name, ended[i-1].Name())
		}
	}
}

func TestNoTraceOfAMessageThatIsNotSampled(t *testing.T) {
	if message := newTracing(tracetest.NewSpanRecorder(), 0).Send(t.Context()); message != nil {
		t.Error("a trace with a share of 0")
	}
}
