package process

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Client makes Connect calls by hand. It is safe for concurrent use.
type Client struct {
	HTTP *http.Client
	// URL is the server's, without a path.
	URL string
	// Token is sent as the bearer, unless empty.
	Token string
	// JSON is spoken instead of binary protobuf.
	JSON bool
}

// Error is the answer to a call that the server refused. A call that failed on
// the way has another kind of error.
type Error struct {
	Status  int
	Code    string
	Message string
	// Detail is never nil: it is empty when the server sent none.
	Detail *tegamiv1.ErrorDetail
	// Header of the answer, where the caller had it.
	Header http.Header
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s (%d): %s, reason %q, field %q", e.Code, e.Status, e.Message, e.Detail.GetReason(), e.Detail.GetField())
}

// HTTP2 returns a client that keeps one cleartext HTTP/2 connection, as one
// device does.
func HTTP2() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, IdleConnTimeout: 90 * time.Second}}
}

// HTTP1 returns a client that speaks HTTP/1.1.
func HTTP1() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

// HTTPS returns a client that speaks HTTP/2 over TLS to a server with a
// certificate that config accepts.
func HTTPS(config *tls.Config) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: config}}
}

// Call makes one call. The procedure is as in "TalkService/SendMessage".
func (c *Client) Call(ctx context.Context, procedure string, request, response proto.Message) error {
	body, contentType, err := c.encode(request)
	if err != nil {
		return err
	}
	answer, err := c.Post(ctx, procedure, contentType, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if got := answer.Header.Get("Content-Type"); answer.StatusCode == http.StatusOK && got != contentType {
		return fmt.Errorf("%s answered with content type %q, asked was %q", procedure, got, contentType)
	}
	return ReadAnswer(answer, response)
}

// Post makes one request with a body as it is.
func (c *Client) Post(ctx context.Context, procedure, contentType string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/tegami.v1."+procedure, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	return c.HTTP.Do(request)
}

func (c *Client) encode(message proto.Message) ([]byte, string, error) {
	if c.JSON {
		data, err := protojson.Marshal(message)
		return data, "application/json", err
	}
	data, err := proto.Marshal(message)
	return data, "application/proto", err
}

// ReadAnswer reads the answer to a Post into a message, or returns the error
// that it carries.
func ReadAnswer(response *http.Response, into proto.Message) error {
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK && response.Header.Get("Content-Type") == "application/proto" {
		return proto.Unmarshal(data, into)
	}
	err = ReadBody(response.StatusCode, data, into)
	if refused, ok := errors.AsType[*Error](err); ok {
		refused.Header = response.Header
	}
	return err
}

// ReadBody reads an answer in JSON.
func ReadBody(status int, data []byte, into proto.Message) error {
	if status == http.StatusOK {
		return protojson.Unmarshal(data, into)
	}
	return decodeError(status, data)
}

// decodeError reads an error as Connect writes it.
func decodeError(status int, data []byte) error {
	var wire struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Details []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"details"`
	}
	if err := json.Unmarshal(data, &wire); err != nil || wire.Code == "" {
		return fmt.Errorf("status %d with a body that is no Connect error: %.200q", status, data)
	}
	refused := &Error{
		Status: status, Code: wire.Code, Message: wire.Message,
		Detail: new(tegamiv1.ErrorDetail),
	}
	for _, detail := range wire.Details {
		if detail.Type != "tegami.v1.ErrorDetail" {
			continue
		}
		value, err := base64.RawStdEncoding.DecodeString(detail.Value)
		if err != nil {
			return fmt.Errorf("error detail %q: %w", detail.Value, err)
		}
		if err := proto.Unmarshal(value, refused.Detail); err != nil {
			return fmt.Errorf("error detail %q: %w", detail.Value, err)
		}
	}
	return refused
}
