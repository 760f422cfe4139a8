package server

import (
	"context"
	"net"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/codec"
	"github.com/tegami-im/tegami/api/fault"
)

// An engine accepts connections and carries requests. On the public listener
// that is package h2 for HTTP/2 and [net/http.Server] for HTTP/1.1, and on the
// admin listener the latter alone. Either serves the hot methods by calling,
// for each request,
//
//	call, err := method.open(ctx, head) // when the header is there
//	cancel := call.serve(ctx, body, reply) // when the body is there
//	… later, where it may cost time …
//	out, err := call.encode(ctx, dst, r) // r is what reply was called with
//
// and cancel if the client goes away before. Nothing of this waits but open,
// which has openNow beside it, and encode, so an engine may keep a held poll as
// an entry in a map.
type engine interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// Head is what an engine knows of a request before its body has come.
type Head struct {
	Codec           codec.Codec // by the content type
	ContentLength   int64       // -1 when it is not declared
	ContentEncoding string
	ProtocolVersion string // Connect-Protocol-Version
	Timeout         string // Connect-Timeout-Ms
	Authorization   string
	Peer            string // address and port
}

// Reply is the answer to a call, not yet encoded.
type Reply interface {
	// Message builds what is sent, opening sealed bodies, or returns why the
	// call fails.
	Message(ctx context.Context) (proto.Message, error)
}

// binaryReply is a Reply that is appended in the binary encoding without being
// built first.
type binaryReply interface {
	// appendBinary appends what Message would come to.
	appendBinary(ctx context.Context, dst []byte) ([]byte, error)
}

// failure is the reply to a call that fails.
type failure struct{ err error }

func (f failure) Message(context.Context) (proto.Message, error) { return nil, f.err }

// Call is a request for a hot method that was let in.
type Call struct {
	method   *hotMethod
	codec    codec.Codec
	caller   talk.Session
	deadline time.Time // zero when the client set none
}

// hotMethod is a method that answers later.
type hotMethod struct {
	procedure string
	admission *admission
	maxBytes  int64
	// serve decodes a request and starts the work on it, as [Call.serve] says.
	serve func(ctx context.Context, call *Call, body []byte, reply func(Reply)) (cancel func())
}

// newHotMethod returns a method whose requests handle takes. handle must not
// wait; otherwise it is as [Call.serve] says.
func newHotMethod[Request any, Message interface {
	*Request
	proto.Message
}](
	s *Server, procedure string,
	handle func(ctx context.Context, caller talk.Session, deadline time.Time, request Message, reply func(Reply)) (cancel func()),
) *hotMethod {
	return &hotMethod{
		procedure: procedure,
		admission: s.admission,
		maxBytes:  s.opts.HTTP.MaxRequestBytes,
		serve: func(ctx context.Context, call *Call, body []byte, reply func(Reply)) func() {
			request := Message(new(Request))
			if err := call.codec.Unmarshal(body, request); err != nil {
				reply(failure{err})
				return noCancel
			}
			return handle(ctx, call.caller, call.deadline, request, reply)
		},
	}
}

// open lets a call in or refuses it. It blocks only as admission does.
func (m *hotMethod) open(ctx context.Context, head *Head) (Call, error) {
	call, err := m.check(head)
	if err != nil {
		return call, err
	}
	call.caller, err = m.admission.admit(ctx, m.procedure, head.Authorization, head.Peer)
	return call, err
}

// openNow is open where nothing may be waited for; decided is false when open
// has to be called.
func (m *hotMethod) openNow(head *Head) (call Call, decided bool, err error) {
	if call, err = m.check(head); err != nil {
		return call, true, err
	}
	call.caller, decided, err = m.admission.admitNow(m.procedure, head.Authorization)
	return call, decided, err
}

// check refuses a call for what its header says.
func (m *hotMethod) check(head *Head) (Call, error) {
	call := Call{method: m, codec: head.Codec}
	if err := checkConnect(head.ContentEncoding, head.ProtocolVersion); err != nil {
		return call, err
	}
	if head.ContentLength > m.maxBytes {
		return call, fault.TooLarge()
	}
	timeout, err := parseConnectTimeout(head.Timeout)
	if err != nil {
		return call, err
	}
	if timeout >= 0 {
		call.deadline = time.Now().Add(timeout)
	}
	return call, nil
}

// serve decodes the body, of which nothing is kept, and hands the call on. It
// does not wait: reply is called once, from any goroutine, perhaps before serve
// returns. After cancel, which may be called at any time and more than once, it
// need not be called.
func (c *Call) serve(ctx context.Context, body []byte, reply func(Reply)) (cancel func()) {
	return c.method.serve(ctx, c, body, reply)
}

// encode appends the reply's message to dst.
func (c *Call) encode(ctx context.Context, dst []byte, reply Reply) ([]byte, error) {
	if binary, ok := reply.(binaryReply); ok && c.codec == codec.Binary {
		return binary.appendBinary(ctx, dst)
	}
	message, err := reply.Message(ctx)
	if err != nil {
		return nil, err
	}
	return c.codec.MarshalAppend(dst, message)
}

// checkConnect checks the headers of Connect's protocol that every request may
// carry.
func checkConnect(encoding, version string) error {
	if encoding != "" && encoding != connect.CompressionNameIdentity {
		return errCompressed
	}
	if version != "" && version != "1" {
		return fault.Invalid("", "protocol_version", "Connect-Protocol-Version must be 1")
	}
	return nil
}

var errCompressed = fault.New(connect.CodeUnimplemented, "compressed", "compressed requests are not supported")

// parseConnectTimeout returns the timeout of a Connect-Timeout-Ms header, below
// zero when there is none.
func parseConnectTimeout(header string) (time.Duration, error) {
	if header == "" {
		return -1, nil
	}
	millis, err := strconv.ParseUint(header, 10, 64)
	if err != nil || len(header) > 10 {
		return 0, fault.Invalid("", "bad_timeout", "Connect-Timeout-Ms is a number of at most 10 digits")
	}
	return time.Duration(millis) * time.Millisecond, nil
}
