// Package target is the server that a benchmark measures: one that runs
// already, or a child process that the benchmark starts, stops and kills. It
// makes users, and reads what the server spends: CPU time, memory, fsyncs.
package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// MaxCreate is how many users one CreateUsers call takes.
const MaxCreate = 5_000

const (
	// callLimit bounds each call to the admin listener.
	callLimit = time.Minute
	// readyLimit bounds a start, stopLimit an orderly stop.
	readyLimit = 5 * time.Minute
	stopLimit  = time.Minute
)

// Target is a server under measurement. Its methods are safe for concurrent
// use, except those that start and end its process.
type Target struct {
	// URL is where clients connect to.
	URL *url.URL

	admin   string
	token   string
	http    *http.Client
	process *process // nil when the server is not ours
}

// Attach returns a server that runs already. Its CPU time and memory are read
// from its metrics.
func Attach(clients, admin, token string) (*Target, error) {
	address, err := url.Parse(clients)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an http or https URL", clients)
	}
	return &Target{
		URL:   address,
		admin: strings.TrimSuffix(admin, "/"),
		token: token,
		http:  &http.Client{Timeout: callLimit},
	}, nil
}

// Start starts a server of our own and waits until it is ready. Close ends it.
func Start(ctx context.Context, options Options) (*Target, error) {
	p, err := newProcess(ctx, options)
	if err != nil {
		return nil, err
	}
	t, err := Attach("http://"+p.listen, "http://"+p.admin, "")
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	t.process = p
	if _, err := t.Launch(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	token, err := os.ReadFile(filepath.Join(p.data, "admin.token"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the admin token: %w", err), p.close())
	}
	t.token = strings.TrimSpace(string(token))
	return t, nil
}

// Own reports whether the server is our child process.
func (t *Target) Own() bool { return t.process != nil }

// InMemory reports whether our own server's data lies on a file system in
// memory, where an fsync costs nothing.
func (t *Target) InMemory() bool { return t.Own() && t.process.inMemory() }

// Launch starts the process again after Stop or Kill, waits until /readyz
// answers 200 and returns how long that took, from before the exec.
func (t *Target) Launch(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	began := time.Now()
	if err := t.process.start(ctx); err != nil {
		return 0, err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if t.ready(ctx) {
			return time.Since(began), nil
		}
		select {
		case <-t.process.exited:
			return 0, fmt.Errorf("the server ended before it was ready\n%s", t.process.logTail())
		case <-ctx.Done():
			return 0, fmt.Errorf("the server is not ready: %w\n%s", ctx.Err(), t.process.logTail())
		case <-tick.C:
		}
	}
}

func (t *Target) ready(ctx context.Context) bool {
	_, err := t.request(ctx, http.MethodGet, "/readyz", "", nil)
	return err == nil
}

// Stop ends the process as an operator does and waits until it is gone.
func (t *Target) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	return t.process.stop(ctx)
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (t *Target) Kill() { t.process.kill() }

// Close ends our own process and removes its temporary folder.
func (t *Target) Close() error {
	t.http.CloseIdleConnections()
	if t.process == nil {
		return nil
	}
	return t.process.close()
}

// CreateUsers makes at most MaxCreate users.
func (t *Target) CreateUsers(ctx context.Context, users []string) error {
	request := &tegamiv1.CreateUsersRequest{}
	for _, user := range users {
		request.Users = append(request.Users, &tegamiv1.NewUser{UserId: user, DisplayName: user})
	}
	response := &tegamiv1.CreateUsersResponse{}
	if err := t.call(ctx, "CreateUsers", request, response); err != nil {
		return err
	}
	if int(response.Created) != len(users) {
		return fmt.Errorf("only %d of %d users were created", response.Created, len(users))
	}
	return nil
}

// IssueToken signs a device of a user in and returns its access token.
func (t *Target) IssueToken(ctx context.Context, user, device string) (string, error) {
	response := &tegamiv1.IssueTokenResponse{}
	err := t.call(ctx, "IssueToken", &tegamiv1.IssueTokenRequest{UserId: user, DeviceId: device}, response)
	return response.AccessToken, err
}

// FreeMemory has the server collect its garbage and return what it does not
// use to the system, so that its memory is what it holds.
func (t *Target) FreeMemory(ctx context.Context) error {
	_, err := t.request(ctx, http.MethodPost, "/debug/free-memory", "", nil)
	return err
}

// call makes a unary Connect call to AdminService.
func (t *Target) call(ctx context.Context, method string, request, response proto.Message) error {
	body, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	answer, err := t.request(ctx, http.MethodPost, "/tegami.v1.AdminService/"+method, "application/proto", body)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(answer, response); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// request asks the admin listener and returns the body of a 200.
func (t *Target) request(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, t.admin+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+t.token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := t.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %.200s", path, response.Status, answer)
	}
	return answer, nil
}
