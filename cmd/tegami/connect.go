package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tegami-im/tegami/client"
)

const defaultServer = "http://127.0.0.1:7400"

// connectFlags say which server, and where sessions are kept.
type connectFlags struct {
	Server      string `placeholder:"URL" env:"TEGAMI_URL" help:"The server; that of the session, else http://127.0.0.1:7400."`
	CA          string `placeholder:"FILE" env:"TEGAMI_CA" type:"existingfile" help:"PEM file with the certificates to trust instead of the system's."`
	Credentials string `placeholder:"FILE" env:"TEGAMI_CREDENTIALS" type:"path" help:"Where sessions are kept; by default in the user's configuration folder."`
}

// Validate is called by kong.
func (f *connectFlags) Validate() error {
	if server, err := url.Parse(f.server()); err != nil || server.Host == "" {
		return fmt.Errorf("--server %s: not a URL such as %s", f.Server, defaultServer)
	}
	return nil
}

// server returns the URL to sign in at.
func (f *connectFlags) server() string {
	if f.Server == "" {
		return defaultServer
	}
	return strings.TrimSuffix(f.Server, "/")
}

func (f *connectFlags) credentials() (credentials, error) {
	if f.Credentials != "" {
		return credentials{f.Credentials}, nil
	}
	folder, err := os.UserConfigDir()
	if err != nil {
		return credentials{}, usagef("no place for the sessions: %w; give --credentials FILE", err)
	}
	return credentials{filepath.Join(folder, "tegami", "credentials.json")}, nil
}

// options are those of every client that commands make.
func (f *connectFlags) options(std streams) ([]client.Option, error) {
	httpClient, err := f.httpClient()
	if err != nil {
		return nil, err
	}
	return []client.Option{client.WithHTTPClient(httpClient), client.WithOnRetry(noticeOnce(std))}, nil
}

func (f *connectFlags) httpClient() (*http.Client, error) {
	httpClient := client.NewHTTPClient()
	if f.CA == "" {
		return httpClient, nil
	}
	certificates, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certificates) {
		return nil, usagef("%s holds no certificate", f.CA)
	}
	transport, ok := httpClient.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("the SDK's transport takes no certificates")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return httpClient, nil
}

// noticeOnce tells of an outage when it begins, not at each attempt. Attempts
// that are more than a minute apart belong to different outages. Many clients
// may share the function.
func noticeOnce(std streams) func(error, time.Duration) {
	var mu sync.Mutex
	var last time.Time // guarded by mu
	return func(err error, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) > time.Minute {
			std.notef("%s; trying again", plain(err))
		}
		last = time.Now()
	}
}

// asFlags say who the command acts as.
type asFlags struct {
	connectFlags
	As string `placeholder:"USER[/DEVICE]" env:"TEGAMI_AS" help:"Who to act as, of those who signed in here; not needed when there is only one."`
}

// resume returns a client for the session that the flags name.
func (f *asFlags) resume(ctx context.Context, std streams) (*client.Client, error) {
	kept, err := f.credentials()
	if err != nil {
		return nil, err
	}
	session, err := kept.find(f.As, f.Server)
	if err != nil {
		return nil, err
	}
	options, err := f.options(std)
	if err != nil {
		return nil, err
	}
	return client.Resume(ctx, kept.of(session), options...)
}
