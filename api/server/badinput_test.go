package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// wire is a protocol and encoding as raw HTTP requests speak it.
type wire struct {
	contentType string
	major       int
}

var wires = []wire{
	{"application/json", 1},
	{"application/json", 2},
	{"application/json; charset=utf-8", 2},
	{"application/proto", 1},
	{"application/proto", 2},
	{"application/grpc", 2},
	{"application/grpc+proto", 2},
	{"application/grpc+json", 2},
	{"application/grpc-web+proto", 1},
	{"application/grpc-web+proto", 2},
	{"application/grpc-web+json", 2},
}

func (w wire) String() string { return fmt.Sprintf("%s over HTTP/%d", w.contentType, w.major) }

func (w wire) json() bool { return strings.Contains(w.contentType, "json") }

func (w wire) grpc() bool { return strings.Contains(w.contentType, "grpc") }

// frame puts a message into what the protocol puts around it.
func (w wire) frame(message []byte) []byte {
	if !w.grpc() {
		return message
	}
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(framed, message...)
}

// failure returns the error that an answer is in the protocol.
func (w wire) failure(t *testing.T, a *answer) *failed {
	t.Helper()
	if !w.grpc() {
		return failureOf(t, a.failure())
	}
	get := func(name string) string { return a.header.Get(name) + a.trailer.Get(name) }
	if strings.Contains(w.contentType, "grpc-web") && get("Grpc-Status") == "" {
		// gRPC-Web has its trailers in the body, after the messages.
		for body := a.body; len(body) >= 5; body = body[5+binary.BigEndian.Uint32(body[1:5]):] {
			if body[0]&0x80 == 0 {
				continue
			}
			for line := range strings.SplitSeq(string(body[5:]), "\r\n") {
				if name, value, ok := strings.Cut(line, ":"); ok {
					a.header.Set(name, strings.TrimSpace(value))
				}
			}
			break
		}
	}
	code, ok := map[string]string{
		"3": "invalid_argument", "4": "deadline_exceeded", "8": "resource_exhausted", "12": "unimplemented",
		"13": "internal", "14": "unavailable", "16": "unauthenticated",
	}[get("Grpc-Status")]
	if !ok {
		t.Fatalf("%v: grpc-status %q, HTTP status %d", w, get("Grpc-Status"), a.status)
	}
	f := &failed{code: code, text: get("Grpc-Message"), retryAfter: get("Retry-After")}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(get("Grpc-Status-Details-Bin"), "="))
	if err != nil {
		t.Fatal(err)
	}
	f.detail = statusDetail(t, raw)
	return f
}

// statusDetail finds the ErrorDetail in a google.rpc.Status, whose field 3
// holds Any messages with the value in field 2.
func statusDetail(t *testing.T, status []byte) *tegamiv1.ErrorDetail {
	t.Helper()
	anyMessage := field(status, 3)
	if anyMessage == nil {
		return nil
	}
	detail := &tegamiv1.ErrorDetail{}
	if err := proto.Unmarshal(field(anyMessage, 2), detail); err != nil {
		t.Fatal(err)
	}
	return detail
}

// field returns the first bytes field of that number in an encoded message.
func field(message []byte, number protowire.Number) []byte {
	for len(message) > 0 {
		got, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil
		}
		size := protowire.ConsumeFieldValue(got, kind, message[n:])
		if size < 0 {
			return nil
		}
		if got == number && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message[n:])
			return value
		}
		message = message[n+size:]
	}
	return nil
}

// malformed has requests that no method can read, by their encoding.
var malformed = []struct {
	what   string
	json   string // empty: not for JSON
	binary string // empty: not for binary
	field  string
	reason string
}{
	{what: "an unknown field", json: `{"surprise": 1}`, field: "surprise", reason: "unknown_field"},
	{what: "an unknown field that is null", json: `{"surprise": null}`, field: "surprise", reason: "unknown_field"},
	{what: "an unknown field with a long name", json: `{"` + strings.Repeat("é", 100) + `": 1}`, field: strings.Repeat("é", 32), reason: "unknown_field"},
	{what: "JSON that breaks off", json: `{"`, reason: "malformed"},
	{what: "JSON with a tail", json: `{} {}`, reason: "malformed"},
	{what: "JSON that is no object", json: `[]`, reason: "malformed"},
	{what: "JSON null", json: `null`, reason: "malformed"},
	{what: "not JSON", json: `to=alice`, reason: "malformed"},
	{what: "deep JSON", json: strings.Repeat(`{"a":`, 20_000) + `1` + strings.Repeat(`}`, 20_000), reason: "malformed"},
	{what: "deep lists", json: strings.Repeat(`[`, 100_000), reason: "malformed"},
	{what: "a field name that is not UTF-8", json: "{\"\xff\": 1}", reason: "invalid_utf8"},
	{what: "a message that breaks off", binary: "\x0a\x7f", reason: "malformed"},
	{what: "a field number of 0", binary: "\x02\x00", reason: "malformed"},
	{what: "an end of a group", binary: "\x0c", reason: "malformed"},
}

func TestMalformedRequests(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		httpClient := e.httpClient(t, w.major)
		for _, r := range routes(t) {
			for _, m := range malformed {
				body := m.binary
				if w.json() {
					body = m.json
				}
				if body == "" {
					continue
				}
				t.Run(fmt.Sprintf("%v/%s/%s", w, r.name(), m.what), func(t *testing.T) {
					got, err := post(within(t), httpClient, e.urlOf(r.procedure)+r.procedure, w.contentType, r.token(alice),
						bytes.NewReader(w.frame([]byte(body))))
					if err != nil {
						t.Fatal(err)
					}
					f := w.failure(t, got)
					if f.code != "invalid_argument" || f.detail.GetReason() != m.reason || f.detail.GetField() != m.field {
						t.Errorf("got %v, want invalid_argument, reason %q, field %q", f, m.reason, m.field)
					}
					if !w.grpc() && got.status != http.StatusBadRequest {
						t.Errorf("got the status %d", got.status)
					}
				})
			}
		}
	}
}

// A newer client's fields are ignored in binary, for rolling upgrades.
func TestUnknownBinaryFieldsAreIgnored(t *testing.T) {
	e := start(t, nil)
	register(t, e.jsonClient(t), "registered")
	unknown := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "from the future")
	for i, w := range wires {
		if w.json() {
			continue
		}
		for j, r := range routes(t) {
			n := fmt.Sprintf("%d-%d", i, j)
			devices := e.signIn(t, "alice-"+n, "bob-"+n)
			r.prepareFor(e.talk, devices[0], devices[1])
			body, err := proto.Marshal(r.request(devices[0], devices[1], n))
			if err != nil {
				t.Fatal(err)
			}
			got, err := post(within(t), e.httpClient(t, w.major), e.urlOf(r.procedure)+r.procedure, w.contentType, r.token(devices[0]),
				bytes.NewReader(w.frame(append(body, unknown...))))
			if err != nil {
				t.Fatal(err)
			}
			if failed := got.status != 200 || w.grpc() && !strings.Contains(got.trailer.Get("Grpc-Status")+strings.ToLower(string(got.body)), "0"); failed {
				t.Errorf("%v: %s: status %d, %q", w, r.name(), got.status, got.body)
			}
		}
	}
}

func TestCompressedRequestsAreRefused(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		header := "Content-Encoding"
		if w.grpc() {
			header = "Grpc-Encoding"
		}
		for _, r := range routes(t) {
			for _, encoding := range []string{"gzip", "br", "zstd"} {
				got, err := post(within(t), e.httpClient(t, w.major), e.urlOf(r.procedure)+r.procedure, w.contentType, r.token(alice),
					bytes.NewReader(w.frame([]byte("anything"))), header, encoding)
				if err != nil {
					t.Fatal(err)
				}
				if f := w.failure(t, got); f.code != "unimplemented" || f.detail.GetReason() != "compressed" {
					t.Errorf("%v: %s: %v", w, r.name(), f)
				}
			}
		}
	}
}

// stalled is a body that begins and then neither goes on nor ends, so that an
// answer shows that the server did not want the rest.
type stalled struct {
	io.Reader
	closed chan struct{}
	once   sync.Once
}

func newStalled(beginning []byte) *stalled {
	return &stalled{Reader: bytes.NewReader(beginning), closed: make(chan struct{})}
}

func (b *stalled) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); err == nil {
		return n, nil
	}
	<-b.closed
	return 0, io.ErrClosedPipe
}

func (b *stalled) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func TestLargeRequestsAreRefusedBeforeTheyAreRead(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		for _, r := range routes(t) {
			limit := 192 << 10
			if r.caller == operatorToken {
				limit = 4 << 20
			}
			const undeclared = -1
			const buffered = 16 << 10 // what the client may keep until there is more
			type body struct {
				beginning []byte
				declared  int64
			}
			bodies := map[string]body{
				"a gigabyte, declared":              {nil, 1 << 30},
				"one byte too many, declared":       {nil, int64(len(w.frame(nil)) + limit + 1)},
				"too many bytes, then more to come": {w.frame(make([]byte, limit+buffered)), undeclared},
			}
			if w.grpc() {
				huge := binary.BigEndian.AppendUint32([]byte{0}, 1<<30)
				bodies["a gigabyte, announced by its frame"] = body{append(huge, make([]byte, limit+buffered)...), undeclared}
			}
			for what, b := range bodies {
				t.Run(fmt.Sprintf("%v/%s/%s", w, r.name(), what), func(t *testing.T) {
					request, err := http.NewRequestWithContext(within(t), http.MethodPost, e.urlOf(r.procedure)+r.procedure, newStalled(b.beginning))
					if err != nil {
						t.Fatal(err)
					}
					request.ContentLength = b.declared
					request.Header.Set("Content-Type", w.contentType)
					request.Header.Set("Authorization", "Bearer "+r.token(alice))
					got, err := do(e.httpClient(t, w.major), request)
					if err != nil {
						t.Fatal(err)
					}
					if f := w.failure(t, got); f.code != "resource_exhausted" || f.detail.GetReason() != "too_large" || f.retryAfter != "" {
						t.Errorf("got %v", f)
					}
				})
			}
		}
	}
}

// A request of exactly the limit is read and judged by what it says.
func TestRequestsUpToTheLimitAreRead(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		for _, r := range routes(t) {
			limit := 192 << 10
			if r.caller == operatorToken {
				limit = 4 << 20
			}
			got, err := post(within(t), e.httpClient(t, w.major), e.urlOf(r.procedure)+r.procedure, w.contentType, r.token(alice),
				bytes.NewReader(w.frame(make([]byte, limit))))
			if err != nil {
				t.Fatal(err)
			}
			if f := w.failure(t, got); f.code != "invalid_argument" || f.detail.GetReason() != "malformed" {
				t.Errorf("%v: %s: %v", w, r.name(), f)
			}
		}
	}
}

func TestHTTPMethodsAndContentTypes(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, major := range []int{1, 2} {
		httpClient := e.httpClient(t, major)
		for _, r := range routes(t) {
			url := e.urlOf(r.procedure) + r.procedure
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions} {
				request, err := http.NewRequestWithContext(within(t), method, url, strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "application/json")
				request.Header.Set("Authorization", "Bearer "+r.token(alice))
				got, err := do(httpClient, request)
				if err != nil {
					t.Fatal(err)
				}
				if f := failureOf(t, got.failure()); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" || f.detail.GetReason() != "http_method" {
					t.Errorf("%s %s: status %d, %v", method, r.name(), got.status, f)
				}
			}
			for _, contentType := range []string{"", "text/plain", "application/xml", "application/json; charset=latin1", "application/connect+json", "application/grpc-web-text"} {
				got, err := post(within(t), httpClient, url, contentType, r.token(alice), strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				if f := failureOf(t, got.failure()); got.status != http.StatusUnsupportedMediaType ||
					!strings.Contains(got.header.Get("Accept-Post"), "application/json") || f.detail.GetReason() != "content_type" {
					t.Errorf("%q to %s: status %d, %v", contentType, r.name(), got.status, f)
				}
			}
		}
	}
}

func TestBrokenProtocolHeaders(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		headers := map[string][]string{
			"Connect-Timeout-Ms":       {"soon", "-1", "12345678901", "1.5"},
			"Connect-Protocol-Version": {"2", "one"},
		}
		if w.grpc() {
			headers = map[string][]string{"Grpc-Timeout": {"soon", "S", "-1S", "123456789S", "1x", "1"}}
		}
		for _, r := range routes(t) {
			for name, values := range headers {
				for _, value := range values {
					got, err := post(within(t), e.httpClient(t, w.major), e.urlOf(r.procedure)+r.procedure, w.contentType, r.token(alice),
						bytes.NewReader(w.frame([]byte("{}"))), name, value)
					if err != nil {
						t.Fatal(err)
					}
					if f := w.failure(t, got); f.code != "invalid_argument" || f.detail.GetReason() == "" {
						t.Errorf("%v: %s: %s: %q: %v", w, r.name(), name, value, f)
					}
				}
			}
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	e := start(t, nil)
	for _, w := range wires {
		for _, path := range []string{"/", "/tegami.v1.TalkService", "/tegami.v1.TalkService/", "/tegami.v1.TalkService/Nothing", "/other.Service/Method"} {
			got, err := post(within(t), e.httpClient(t, w.major), e.url()+path, w.contentType, "", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			f := w.failure(t, got)
			if f.code != "unimplemented" || f.detail.GetReason() != "unknown_method" {
				t.Errorf("%v: %s: %v", w, path, f)
			}
			if !w.grpc() && got.status != http.StatusNotFound {
				t.Errorf("%v: %s: status %d", w, path, got.status)
			}
		}
	}
}
