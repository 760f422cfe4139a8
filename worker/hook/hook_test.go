package hook

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/worker"
)

var secret = []byte("0123456789abcdef")

func client(t *testing.T, options Options) *Client {
	t.Helper()
	options.Secrets = append(options.Secrets, secret)
	c, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// receiver answers requests in a handler's way.
func receiver(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestRequestsAreSigned(t *testing.T) {
	replaced := []byte("the secret that was there before")
	var checked atomic.Int64
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		header, now := r.Header.Get(HeaderSignature), time.Now()
		for _, s := range [][]byte{secret, replaced} {
			if err := Verify(header, body, s, now, time.Minute); err != nil {
				t.Error(err)
			}
		}
		for name, err := range map[string]error{
			"another body":   Verify(header, []byte(`{"a":2}`), secret, now, time.Minute),
			"another secret": Verify(header, body, []byte("fedcba9876543210"), now, time.Minute),
			"a later time":   Verify(header, body, secret, now.Add(time.Hour), time.Minute),
			"another time":   Verify(strings.Replace(header, "t=", "t=1", 1), body, secret, now, time.Minute),
			"no time":        Verify("v1=00", body, secret, now, time.Minute),
			"no signature":   Verify("t=0", body, secret, time.Unix(0, 0), time.Minute),
			"nonsense":       Verify("t=0,v1=xyz,=", body, secret, time.Unix(0, 0), time.Minute),
		} {
			if err == nil {
				t.Errorf("%s is accepted", name)
			}
		}
		if r.Header.Get(HeaderID) != "7-1-2-0" || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		checked.Add(1)
	})
	c := client(t, Options{URL: url, AllowPrivate: true, Secrets: [][]byte{replaced}})
	if err := c.Post(t.Context(), "7-1-2-0", []byte(`{"a":1}`)); err != nil || checked.Load() != 1 {
		t.Fatalf("%v, %d checked", err, checked.Load())
	}
}

// A signature that other implementations can be held against.
func TestSignatureOfAnExample(t *testing.T) {
	const want = "t=1700000000,v1=99cf97b4e63fb413ffbfb1c78b42cb6b1c47624df983125c7967ff9b28b5b841"
	if got := Sign(time.Unix(1_700_000_000, 0), []byte(`{"user":"alice"}`), secret); got != want {
		t.Errorf("signed %s", got)
	}
}

func TestAnswers(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		status     int
		retryAfter string
		ok         bool
		permanent  bool
		delay      time.Duration
	}{
		{status: 200, ok: true},
		{status: 204, ok: true},
		{status: 302},
		{status: 400, permanent: true},
		{status: 404, permanent: true},
		{status: 408},
		{status: 410, permanent: true},
		{status: 425},
		{status: 429, retryAfter: "30", delay: 30 * time.Second},
		{status: 500},
		{status: 503, retryAfter: now.Add(time.Hour).UTC().Format(http.TimeFormat), delay: time.Hour},
		{status: 503, retryAfter: now.Add(-time.Hour).UTC().Format(http.TimeFormat)},
		{status: 503, retryAfter: "soon"},
		{status: 503, retryAfter: "-5"},
	} {
		var asked atomic.Int64
		url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set("Retry-After", test.retryAfter)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(test.status)
		})
		c := client(t, Options{URL: url, AllowPrivate: true})
		c.now = func() time.Time { return now }
		err := c.Post(t.Context(), "id", []byte("{}"))
		permanent, delay := worker.Judge(err)
		if (err == nil) != test.ok || permanent != test.permanent || asked.Load() != 1 ||
			delay > test.delay || delay < test.delay-time.Second {
			t.Errorf("%d, Retry-After %q: %v, permanent: %v, after %v, %d requests",
				test.status, test.retryAfter, err, permanent, delay, asked.Load())
		}
	}
}

// A receiver that hangs, or talks without end, costs the timeout at most, and a
// bounded amount of memory.
func TestReceiversThatDoNotEnd(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the client is gone
			<-r.Context().Done()
		},
		"no header's end": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for {
				if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 4096) + "\r\n")); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, Options{URL: receiver(t, handler) + "/?token=hidden", AllowPrivate: true, Timeout: 100 * time.Millisecond})
			if err := c.Post(t.Context(), "id", []byte("{}")); err == nil || strings.Contains(err.Error(), "hidden") {
				t.Errorf("it ends with %v", err)
			} else if permanent, _ := worker.Judge(err); permanent {
				t.Errorf("%v is permanent", err)
			}
		})
	}
	t.Run("an answer without end", func(t *testing.T) {
		c := client(t, Options{URL: receiver(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			chunk := make([]byte, 4096)
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}), AllowPrivate: true})
		if err := c.Post(t.Context(), "id", []byte("{}")); err != nil {
			t.Errorf("its status was 200: %v", err)
		}
	})
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	url := receiver(t, func(http.ResponseWriter, *http.Request) { t.Error("it was reached") })
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "169.254.169.254"} {
		if _, err := New(Options{URL: "http://" + host + ":" + port, Secrets: [][]byte{secret}}); !errors.Is(err, errPrivate) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"localhost", "127.1"} { // what a name leads to is known when it is looked up
		c := client(t, Options{URL: "http://" + host + ":" + port, Timeout: time.Second})
		err := c.Post(t.Context(), "id", []byte("{}"))
		if permanent, _ := worker.Judge(err); err == nil || host != "127.1" && (!permanent || !errors.Is(err, errPrivate)) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "127.255.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false, "172.32.0.1": true,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "100.128.0.1": true, "0.0.0.0": false, "0.1.2.3": false,
		"224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, "198.18.0.1": false, "192.0.2.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd12::1": false, "ff02::1": false,
		"::ffff:10.0.0.1": false, "::10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "2001::1": false, "2001:db8::1": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is public: %v", address, got)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{URL: "https://example.org/hook", Secrets: [][]byte{secret}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no URL":       func(o *Options) { o.URL = "" },
		"no host":      func(o *Options) { o.URL = "https:///hook" },
		"a scheme":     func(o *Options) { o.URL = "file:///etc/passwd" },
		"a password":   func(o *Options) { o.URL = "https://a:b@example.org" },
		"no secret":    func(o *Options) { o.Secrets = nil },
		"short secret": func(o *Options) { o.Secrets = [][]byte{secret, []byte("short")} },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// Whatever a header field holds, verifying it does no harm and accepts nothing.
func FuzzVerify(f *testing.F) {
	f.Add("t=1700000000,v1=00")
	f.Add("t=,v1=,,=")
	f.Fuzz(func(t *testing.T, header string) {
		if Verify(header, []byte("body"), secret, time.Unix(1_700_000_000, 0), time.Minute) == nil {
			t.Errorf("%q is accepted", header)
		}
	})
}
