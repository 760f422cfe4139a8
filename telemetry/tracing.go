package telemetry

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tegami-im/tegami/actors/shard"
)

// Tracing sends OpenTelemetry traces of single messages: one span for a send,
// and in it one for each stage, from the shard's queue to the answer. A span
// names no user, no text and no id of theirs.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTracing sends traces of a share of the messages, 0 to 1, to an OTLP/HTTP
// endpoint, such as http://127.0.0.1:4318.
func NewTracing(ctx context.Context, endpoint string, share float64) (*Tracing, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("tracing to %s: %w", endpoint, err)
	}
	return newTracing(sdktrace.NewBatchSpanProcessor(exporter), share), nil
}

func newTracing(processor sdktrace.SpanProcessor, share float64) *Tracing {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(processor),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "tegami"))),
	)
	return &Tracing{provider: provider, tracer: provider.Tracer("github.com/tegami-im/tegami/actors")}
}

// Send begins the trace of one message. It returns nil for those that are not
// sampled.
func (t *Tracing) Send(ctx context.Context) shard.Trace {
	ctx, span := t.tracer.Start(ctx, "SendMessage", trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return nil
	}
	return &sendTrace{tracer: t.tracer, ctx: context.WithoutCancel(ctx), span: span, last: time.Now()}
}

// Close sends what waits and ends.
func (t *Tracing) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// sendTrace is used by one goroutine after the other, as the message passes
// from actor to actor.
type sendTrace struct {
	tracer trace.Tracer
	ctx    context.Context
	span   trace.Span
	last   time.Time
}

// Stage implements shard.Trace.
func (s *sendTrace) Stage(stage shard.Stage) {
	now := time.Now()
	_, span := s.tracer.Start(s.ctx, stages[stage], trace.WithTimestamp(s.last))
	span.End(trace.WithTimestamp(now))
	s.last = now
}

// End implements shard.Trace.
func (s *sendTrace) End(refused string) {
	if refused != "" {
		s.span.SetStatus(codes.Error, refused)
	}
	s.span.End()
}
