package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// maxAnswer bounds what is read of an answer: a page of operations is about
// 1 MiB.
const maxAnswer = 8 << 20

// NewHTTPClient returns an HTTP client as Login, Resume and New make one for
// each Client: HTTP/2 over TLS for https URLs, HTTP/2 in cleartext for http
// URLs, and a ping that notices a dead connection within half a minute. Many
// clients in one program share connections by sharing it with
// [WithHTTPClient].
func NewHTTPClient() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		Protocols:           protocols,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     2 * time.Minute,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}}
}

// wire makes unary calls by the Connect protocol, in binary.
type wire struct {
	http *http.Client
	base string // without a slash at the end
	// gateways are chosen from in place of base, unless they are nil.
	gateways *gateways
}

func newWire(o options, server string) (wire, error) {
	parsed, err := url.Parse(server)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return wire{}, fmt.Errorf("%q is not a server's URL, such as http://127.0.0.1:7400", server)
	}
	w := wire{http: o.http, base: strings.TrimSuffix(server, "/")}
	if o.nearest {
		w.gateways = newGateways(w.http, w.base)
	}
	return w, nil
}

// server returns what a call is made to.
func (w wire) server(ctx context.Context) (string, error) {
	if w.gateways == nil {
		return w.base, nil
	}
	return w.gateways.address(ctx)
}

// drained has another gateway be chosen, if there is a choice: the present one is
// to end.
func (w wire) drained() {
	if w.gateways != nil {
		w.gateways.leave(w.gateways.chosen(), false)
	}
}

// judge has another gateway be chosen after a failure that is the gateway's.
func (w wire) judge(base string, failure *Error) *Error {
	if w.gateways != nil && failure.Code == CodeUnavailable &&
		(failure.Reason == "" || failure.Reason == reasonUnreachable || failure.Reason == "stopping") {
		w.gateways.leave(base, true)
	}
	return failure
}

// call makes one call of at most timeout. Its error is the context's when that
// ended, else an *Error.
func (w wire) call(ctx context.Context, timeout time.Duration, method, token string, request, response proto.Message) error {
	base, err := w.server(ctx)
	if err != nil {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, header, body, err := w.post(attempt, timeout, base+"/tegami.v1."+method, token, request)
	switch {
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case err != nil:
		return w.judge(base, unanswered(err))
	case status != http.StatusOK:
		return w.judge(base, refusal(status, header, body))
	}
	if err := proto.Unmarshal(body, response); err != nil {
		return &Error{Code: CodeInternal, Message: "the answer is not the server's: " + err.Error()}
	}
	return nil
}

func (w wire) post(ctx context.Context, timeout time.Duration, to, token string, request proto.Message) (int, http.Header, []byte, error) {
	encoded, err := proto.Marshal(request)
	if err != nil {
		return 0, nil, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(encoded))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("Content-Type", "application/proto")
	r.Header.Set("Connect-Protocol-Version", "1")
	r.Header.Set("Connect-Timeout-Ms", strconv.FormatInt(timeout.Milliseconds(), 10))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := w.http.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	return answer.StatusCode, answer.Header, body, err
}
