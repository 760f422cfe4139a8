// Package hook posts signed JSON to another service's URL.
//
// A request carries
//
//	Tegami-Id: ID                    the same whenever the same thing is sent again
//	Tegami-Signature: t=SECONDS,v1=HEX
//
// where t is when the request was made, in seconds since 1970, and v1 the
// HMAC-SHA256 of t, a dot and the body, by the shared secret. There is a v1 for
// each secret, so that a secret can be replaced. The receiver compares in
// constant time, refuses times too far from its own clock, which makes a copy
// useless later, and remembers ids for as long, which makes it useless at once.
package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tegami-im/tegami/worker"
)

// The header fields of a request.
const (
	HeaderID        = "Tegami-Id"
	HeaderSignature = "Tegami-Signature"
)

// Options of a Client. URL and Secrets must be given.
type Options struct {
	// URL is http or https, without a user.
	URL string
	// Secrets are signed with, each; at least one, of at least 16 bytes.
	Secrets [][]byte
	// Timeout bounds a request, from the look-up of the name to the end of the
	// answer. Default 10 s.
	Timeout time.Duration
	// AllowPrivate lets the URL lead to addresses that are not public: those of
	// this machine, of private networks and the like. Without it they are refused
	// when the connection is made, whatever the name was looked up as before; New
	// refuses those that the URL has as they are.
	AllowPrivate bool
	// Connections to the receiver at a time. Default 64.
	Connections int
}

// Client posts to one URL. It may be used by any number of goroutines.
type Client struct {
	options Options
	http    *http.Client
	now     func() time.Time
}

// New checks the options and returns a client.
func New(options Options) (*Client, error) {
	if err := CheckURL(options.URL); err != nil {
		return nil, err
	}
	if len(options.Secrets) == 0 {
		return nil, errors.New("no secret to sign with")
	}
	for _, secret := range options.Secrets {
		if len(secret) < minSecret {
			return nil, fmt.Errorf("a secret of %d bytes: at least %d are needed", len(secret), minSecret)
		}
	}
	if options.Timeout == 0 {
		options.Timeout = 10 * time.Second
	}
	if options.Connections == 0 {
		options.Connections = 64
	}
	dialer := &net.Dialer{}
	if !options.AllowPrivate {
		if err := checkPublic(options.URL); err != nil {
			return nil, err
		}
		dialer.Control = refusePrivate
	}
	transport := &http.Transport{
		// No proxy: it would look the name up for us, behind the guard.
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		MaxConnsPerHost:        options.Connections,
		MaxIdleConnsPerHost:    options.Connections,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    options.Timeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &Client{
		options: options,
		http: &http.Client{
			Transport: transport, Timeout: options.Timeout,
			// What is elsewhere was not configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		now: time.Now,
	}, nil
}

// minSecret is the least length of a secret, in bytes.
const minSecret = 16

// CheckURL refuses what is no URL to post to.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("%q is not a URL such as https://example.org/hook", text)
	case u.User != nil:
		return errors.New("a URL must not hold a user or a password")
	}
	return nil
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Post sends a body. Nil means that the receiver answered 2xx. Other errors are
// for a task to return: permanent when trying again is of no use (an address
// that is refused, and any answer of 4xx but 408, 425 and 429), otherwise with
// the delay that the receiver asks for. Redirects are not followed, and count as
// errors.
func (c *Client) Post(ctx context.Context, id string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.options.URL, bytes.NewReader(body))
	if err != nil {
		return worker.Permanent(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "tegami")
	request.Header.Set(HeaderID, id)
	request.Header.Set(HeaderSignature, Sign(c.now(), body, c.options.Secrets...))
	response, err := c.http.Do(request)
	if errors.Is(err, errPrivate) {
		return worker.Permanent(errPrivate)
	}
	if err != nil {
		// The URL may hold a token, which belongs into no log or dead letter.
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		return fmt.Errorf("no answer from the receiver: %w", err)
	}
	defer response.Body.Close()
	// The status has come, and is what counts. A short answer is read so that the
	// connection can be used again; a long one costs the connection.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer))
	return outcome(response, c.now())
}

// maxAnswer is how much of an answer is read.
const maxAnswer = 64 << 10

func outcome(response *http.Response, now time.Time) error {
	code := response.StatusCode
	err := fmt.Errorf("the receiver answered %s", response.Status)
	switch {
	case code >= 200 && code < 300:
		return nil
	case code < 400, code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return worker.RetryAfter(err, retryAfter(response.Header.Get("Retry-After"), now))
	default:
		return worker.Permanent(err)
	}
}

// retryAfter reads the header field, in seconds or as a date; 0 for none.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// Sign returns the value of the signature's header field.
func Sign(at time.Time, body []byte, secrets ...[]byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	var header strings.Builder
	header.WriteString("t=" + seconds)
	for _, secret := range secrets {
		header.WriteString(",v1=" + hex.EncodeToString(mac(secret, seconds, body)))
	}
	return header.String()
}

func mac(secret []byte, seconds string, body []byte) []byte {
	hash := hmac.New(sha256.New, secret)
	hash.Write([]byte(seconds + "."))
	hash.Write(body)
	return hash.Sum(nil)
}

// Verify checks a signature's header field as a receiver should: that one of its
// v1 was made with the secret over this body, within tolerance of now.
func Verify(header string, body, secret []byte, now time.Time, tolerance time.Duration) error {
	var seconds string
	var signatures []string
	for part := range strings.SplitSeq(header, ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			seconds = value
		case "v1":
			signatures = append(signatures, value)
		}
	}
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return errors.New("the signature has no time")
	}
	if age := now.Sub(time.Unix(at, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("the signature is %v old", age)
	}
	want := mac(secret, seconds, body)
	for _, signature := range signatures {
		if got, err := hex.DecodeString(signature); err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("the signature does not fit")
}
