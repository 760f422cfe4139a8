package server

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tegami-im/tegami/api/codec"
	"github.com/tegami-im/tegami/api/fault"
	"github.com/tegami-im/tegami/api/h2"
)

// route takes the requests for hot methods in Connect's unary protocol, and
// leaves the rest to the handler.
func (s *Server) route(hot map[string]*hotMethod) func(*h2.Stream, *h2.Request) h2.Exchange {
	return func(stream *h2.Stream, r *h2.Request) h2.Exchange {
		method := hot[r.Path]
		if method == nil || r.Method != "POST" {
			return nil
		}
		head := &Head{ContentLength: r.ContentLength, Peer: r.Remote}
		for _, field := range slices.Backward(r.Fields) { // the first of its name is left
			value := field.Value
			switch field.Name {
			case "content-type":
				head.Codec = codecOf(mediaType(value))
			case "content-encoding":
				head.ContentEncoding = value
			case "connect-protocol-version":
				head.ProtocolVersion = value
			case "connect-timeout-ms":
				head.Timeout = value
			case "authorization":
				head.Authorization = value
			case "expect":
				return nil
			}
		}
		if head.Codec == nil {
			return nil
		}
		return &exchange{server: s, method: method, stream: stream, head: head, codec: head.Codec, started: time.Now()}
	}
}

// exchange is one request for a hot method on package h2. Until its answer it
// is all that there is of a held poll.
type exchange struct {
	server  *Server
	method  *hotMethod
	stream  *h2.Stream
	head    *Head // until Open is through
	codec   codec.Codec
	call    Call
	cancel  func() // nil before Serve
	started time.Time
	took    time.Duration // of the stages before

	answered atomic.Bool
	reply    Reply        // set before the stream is told to answer
	failed   *fault.Fault // set by Encode
	encoded  bool
	written  func()
}

// Open implements [h2.Exchange].
func (e *exchange) Open(wait bool) bool {
	defer e.recover()
	var decided bool
	var err error
	if wait {
		decided = true
		e.call, err = e.method.open(e.stream.Context(), e.head)
	} else {
		e.call, decided, err = e.method.openNow(e.head)
	}
	if !decided {
		return false
	}
	e.head = nil
	if err != nil {
		e.answer(failure{err})
	}
	return true
}

// Serve implements [h2.Exchange].
func (e *exchange) Serve(body []byte, err error) {
	defer e.recover()
	if err != nil {
		if errors.Is(err, h2.ErrBodyTooLong) {
			err = fault.TooLarge()
		}
		e.answer(failure{err})
		return
	}
	e.cancel = e.call.serve(e.stream.Context(), body, e.answer)
	e.stage(Accepted)
}

// answer takes the reply, from any goroutine. Only a panic behind a reply makes
// a second one.
func (e *exchange) answer(reply Reply) {
	if e.answered.CompareAndSwap(false, true) {
		e.reply = reply
		e.stream.Answer()
	}
}

// Encode implements [h2.Exchange].
func (e *exchange) Encode(a *h2.Answer) {
	defer func() {
		if cause := recover(); cause != nil {
			e.server.logPanic(e.method.procedure, cause)
			e.fail(a, errPanic)
		}
	}()
	if e.cancel != nil {
		e.stage(Waited)
	}
	body, err := e.call.encode(e.stream.Context(), a.Body, e.reply)
	if err != nil {
		e.fail(a, err)
		return
	}
	a.Body = body
	a.Fields = append(a.Fields, h2.Field{Name: "content-type", Value: contentTypes[e.codec][0]})
	e.encoded = true
	e.written = e.server.writing.begin(e.call.caller, len(body))
}

// fail makes an error the answer.
func (e *exchange) fail(a *h2.Answer, err error) {
	f := fault.From(err)
	e.failed = f
	a.Status, a.Body = f.HTTPStatus(), f.AppendJSON(a.Body[:0])
	a.Fields = append(a.Fields[:0], h2.Field{Name: "content-type", Value: "application/json"})
	if after := f.RetryAfterHeader(); after != "" {
		a.Fields = append(a.Fields, h2.Field{Name: "retry-after", Value: after})
	}
}

// End implements [h2.Exchange].
func (e *exchange) End(err error) {
	procedure := e.method.procedure
	switch {
	case e.encoded:
		e.written()
		e.stage(Answered)
		e.server.opts.Hooks.request(procedure, codeOK, e.took)
		return
	case e.failed == nil: // nobody is left to tell
		e.failed = fault.From(context.Canceled)
	}
	if err != nil && e.cancel != nil {
		e.cancel()
	}
	e.server.note(procedure, e.failed, e.started.Add(-e.took))
}

// stage ends a stage of the call.
func (e *exchange) stage(stage Stage) {
	now := time.Now()
	elapsed := now.Sub(e.started)
	e.took += elapsed
	e.started = now
	e.server.opts.Hooks.stage(e.method.procedure, stage, elapsed)
}

// recover turns a panic into an answer.
func (e *exchange) recover() {
	if cause := recover(); cause != nil {
		e.server.logPanic(e.method.procedure, cause)
		e.answer(failure{errPanic})
	}
}
