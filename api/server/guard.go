package server

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/tegami-im/tegami/api/fault"
)

// codeOK is what stands for success where codes are counted.
const codeOK = "ok"

// otherProcedure stands for paths that are none of ours where procedures are
// counted, so that nobody can make up names.
const otherProcedure = "other"

// protocol is one of the RPC protocols that the content type tells.
type protocol uint8

const (
	unknownProtocol protocol = iota
	connectProtocol
	grpcProtocol
)

var protocols = map[string]protocol{
	"application/json":           connectProtocol,
	"application/proto":          connectProtocol,
	"application/grpc":           grpcProtocol,
	"application/grpc+proto":     grpcProtocol,
	"application/grpc+json":      grpcProtocol,
	"application/grpc-web":       grpcProtocol,
	"application/grpc-web+proto": grpcProtocol,
	"application/grpc-web+json":  grpcProtocol,
}

// acceptPost is told to a client whose content type is none of these.
var acceptPost = func() string {
	names := make([]string, 0, len(protocols))
	for name := range protocols {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}()

// contentType returns a request's content type without the charset that JSON
// has anyway.
func contentType(r *http.Request) string { return mediaType(header(r, "Content-Type")) }

func mediaType(contentType string) string {
	kind, charset, found := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if !found || strings.EqualFold(strings.ReplaceAll(charset, " ", ""), "charset=utf-8") {
		return kind
	}
	return ""
}

// envelopeSize is what gRPC puts before a message.
const envelopeSize = 5

// guard refuses what Connect's handlers would refuse without a detail, or only
// after reading more than the limit.
func (s *Server) guard(procedure string, maxBytes int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.passes(w, r, procedure, maxBytes) {
			next.ServeHTTP(w, r)
			readOn(w, r)
		}
	})
}

// passes checks a request and bounds its body, or answers it. It is apart from
// guard so that its frame is gone while a poll is held.
func (s *Server) passes(w http.ResponseWriter, r *http.Request, procedure string, maxBytes int64) bool {
	started := time.Now()
	limit := maxBytes
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		s.refuseWith(w, procedure, errHTTPMethod, http.StatusMethodNotAllowed, started)
		return false
	}
	kind := contentType(r)
	switch protocols[kind] {
	case unknownProtocol:
		w.Header().Set("Accept-Post", acceptPost)
		s.refuseWith(w, procedure, errContentType, http.StatusUnsupportedMediaType, started)
		return false
	case connectProtocol:
		if err := checkConnect(header(r, "Content-Encoding"), header(r, "Connect-Protocol-Version")); err != nil {
			s.refuse(w, r, procedure, err, started)
			return false
		}
		if _, err := parseConnectTimeout(header(r, "Connect-Timeout-Ms")); err != nil {
			s.refuse(w, r, procedure, err, started)
			return false
		}
	case grpcProtocol:
		if err := checkGRPC(r); err != nil {
			s.refuse(w, r, procedure, err, started)
			return false
		}
		limit += envelopeSize
	}
	if r.ContentLength > limit {
		s.refuse(w, r, procedure, fault.TooLarge(), started)
		return false
	}
	// Connect measures messages and would read on to the end of one that
	// is too large.
	r.Body = borrowedBody{http.MaxBytesReader(unwrapped(w), r.Body, limit)}
	r.Header["Content-Type"] = []string{kind}
	return true
}

var (
	errHTTPMethod  = fault.New(connect.CodeUnimplemented, "http_method", "calls are made with POST")
	errContentType = fault.New(connect.CodeUnimplemented, "content_type", "the content type is none that is spoken here")
	errNoSuchPath  = fault.New(connect.CodeUnimplemented, "unknown_method", "there is no such method")
)

func checkGRPC(r *http.Request) error {
	if encoding := header(r, "Grpc-Encoding"); encoding != "" && encoding != connect.CompressionNameIdentity {
		return errCompressed
	}
	if timeout := header(r, "Grpc-Timeout"); timeout != "" && !validGRPCTimeout(timeout) {
		return fault.Invalid("", "bad_timeout", "grpc-timeout is a number of at most 8 digits and a unit")
	}
	return nil
}

func validGRPCTimeout(timeout string) bool {
	digits, unit := timeout[:len(timeout)-1], timeout[len(timeout)-1]
	if digits == "" || len(digits) > 8 || !strings.ContainsRune("HMSmun", rune(unit)) {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}

// unknownPath answers what no method is at.
func (s *Server) unknownPath(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	if r.Method == http.MethodPost && protocols[contentType(r)] == grpcProtocol {
		s.refuse(w, r, otherProcedure, errNoSuchPath, started)
		return
	}
	s.refuseWith(w, otherProcedure, errNoSuchPath, http.StatusNotFound, started)
}

// grpcErrors writes errors for gRPC and gRPC-Web.
var grpcErrors = connecthttp.NewErrorWriter()

// refuse answers a request with an error, in the protocol that it speaks.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, procedure string, err error, started time.Time) {
	f := fault.From(err)
	if f.Reason == fault.TooLarge().Reason && r.ProtoMajor == 1 {
		// Else net/http reads on, in hope of another request behind this one.
		w.Header()["Connection"] = []string{"close"}
	}
	readOn(w, r)
	if protocols[contentType(r)] != grpcProtocol {
		s.refuseWith(w, procedure, f, f.HTTPStatus(), started)
		return
	}
	s.note(procedure, f, started)
	setRetryAfter(w.Header(), f)
	_ = grpcErrors.Write(w, r, f.Connect()) // the client has gone away: nobody is left to tell
}

const (
	// smallBody is up to where the body of a refused request is read all the
	// same, and lingering for how long.
	smallBody = 16 << 10
	lingering = 500 * time.Millisecond
)

// readOn reads what is left of a small body, before the answer goes out. It
// would be cut off with a reset, which some clients take for a failure although
// they have the answer.
func readOn(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > smallBody {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingering)) // one that has none bounds the body otherwise
	_, _ = io.CopyN(io.Discard, r.Body, smallBody)
}

// refuseWith answers with an error and a status of its own in Connect's
// protocol.
func (s *Server) refuseWith(w http.ResponseWriter, procedure string, f *fault.Fault, status int, started time.Time) {
	s.note(procedure, f, started)
	writeFault(w, f, status)
}

func writeFault(w http.ResponseWriter, f *fault.Fault, status int) {
	setRetryAfter(w.Header(), f)
	writeBody(w, []string{"application/json"}, status, f.AppendJSON(nil))
}

func setRetryAfter(h http.Header, f *fault.Fault) {
	if after := f.RetryAfterHeader(); after != "" {
		h["Retry-After"] = []string{after}
	}
}

// note counts a request that failed and logs what is the server's own fault.
func (s *Server) note(procedure string, f *fault.Fault, started time.Time) {
	if f.Code == connect.CodeInternal {
		s.log.Error("request failed", "procedure", procedure, "error", f.Unwrap())
	}
	s.opts.Hooks.request(procedure, f.Code.String(), time.Since(started))
}
