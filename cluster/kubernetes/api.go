package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// lease is an object of coordination.k8s.io/v1, as far as it is used here. What
// else it has is not ours, and is lost when it is written: nobody else writes to
// these.
type lease struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Metadata   metadata  `json:"metadata"`
	Spec       leaseSpec `json:"spec"`
}

type metadata struct {
	Name            string            `json:"name"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
}

type leaseSpec struct {
	HolderIdentity       string `json:"holderIdentity"`
	LeaseDurationSeconds int    `json:"leaseDurationSeconds"`
	RenewTime            string `json:"renewTime"`
}

// leaseList is the answer to a list.
type leaseList struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Items []lease `json:"items"`
}

// deleteOptions say under which conditions an object is removed.
type deleteOptions struct {
	APIVersion    string `json:"apiVersion"`
	Kind          string `json:"kind"`
	Preconditions struct {
		UID             string `json:"uid,omitempty"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	} `json:"preconditions"`
}

// event is one line of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// The types of events.
const (
	eventAdded    = "ADDED"
	eventModified = "MODIFIED"
	eventDeleted  = "DELETED"
	eventBookmark = "BOOKMARK"
	eventError    = "ERROR"
)

// status is how the server says that it refuses.
type status struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (s *status) Error() string {
	return fmt.Sprintf("the API server says %d %s: %s", s.Code, s.Reason, s.Message)
}

// isStatus reports whether the server refused with a code.
func isStatus(err error, code int) bool {
	refused, ok := errors.AsType[*status](err)
	return ok && refused.Code == code
}

// api makes calls for the leases of one namespace.
type api struct {
	http      *http.Client
	server    string // without a slash at its end
	namespace string
	selector  string
	tokenFile string
}

// callLimit bounds a call, the beginning of a watch included.
const callLimit = 5 * time.Second

// newAPI returns one for options that have their defaults.
func newAPI(o Options) (*api, error) {
	a := &api{
		http: o.Client, server: strings.TrimSuffix(o.Server, "/"), namespace: o.Namespace,
		selector: label + "=" + o.Cluster, tokenFile: o.TokenFile,
	}
	if server, err := url.Parse(a.server); err != nil || server.Host == "" {
		return nil, fmt.Errorf("%q is no URL of an API server", o.Server)
	}
	if a.http != nil {
		return a, nil
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", o.CAFile)
		}
	}
	transport := &http.Transport{
		TLSClientConfig: settings, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment,
		TLSHandshakeTimeout: callLimit, ResponseHeaderTimeout: callLimit, IdleConnTimeout: time.Minute,
	}
	a.http = &http.Client{Transport: transport}
	return a, nil
}

func (a *api) path(name string) string {
	path := a.server + "/apis/coordination.k8s.io/v1/namespaces/" + url.PathEscape(a.namespace) + "/leases"
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// call makes a request and decodes its answer into a value, unless that is nil.
// Error: a *status when the server refuses.
func (a *api) call(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	response, err := a.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// maxAnswer bounds what is read of an answer: a thousand members are a megabyte.
const maxAnswer = 32 << 20

// send makes a request. The caller closes the body of its answer.
func (a *api) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader = http.NoBody
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, path, content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if a.tokenFile != "" {
		token, err := os.ReadFile(a.tokenFile) // Kubernetes replaces it every hour
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	response, err := a.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response, nil
	}
	defer response.Body.Close()
	refused := &status{}
	data, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if json.Unmarshal(data, refused) != nil || refused.Code == 0 {
		*refused = status{Message: strings.TrimSpace(string(data[:min(len(data), 200)]))}
	}
	refused.Code = response.StatusCode
	return nil, refused
}

func (a *api) list(ctx context.Context) (all leaseList, err error) {
	query := url.Values{"labelSelector": {a.selector}}
	err = a.call(ctx, http.MethodGet, a.path("")+"?"+query.Encode(), nil, &all)
	return all, err
}

func (a *api) get(ctx context.Context, name string) (l lease, err error) {
	err = a.call(ctx, http.MethodGet, a.path(name), nil, &l)
	return l, err
}

func (a *api) create(ctx context.Context, l lease) (made lease, err error) {
	err = a.call(ctx, http.MethodPost, a.path(""), l, &made)
	return made, err
}

// update replaces a lease as it was read. Error: a *status with 409 when it is
// another by now, with 404 when it is gone.
func (a *api) update(ctx context.Context, l lease) (made lease, err error) {
	err = a.call(ctx, http.MethodPut, a.path(l.Metadata.Name), l, &made)
	return made, err
}

// remove removes a lease if it is what it was when it was read; one without a
// revision whatever it is by now. Error: as update.
func (a *api) remove(ctx context.Context, l lease) error {
	options := deleteOptions{APIVersion: "v1", Kind: "DeleteOptions"}
	options.Preconditions.UID, options.Preconditions.ResourceVersion = l.Metadata.UID, l.Metadata.ResourceVersion
	return a.call(ctx, http.MethodDelete, a.path(l.Metadata.Name), options, nil)
}

// watchFor is for how long the server is asked to go on with a watch.
const watchFor = 5 * time.Minute

// watch has take called with each event behind a revision, until ctx ends, the
// watch does, or take returns an error.
func (a *api) watch(ctx context.Context, revision string, take func(event) error) error {
	query := url.Values{
		"labelSelector": {a.selector}, "watch": {"true"}, "resourceVersion": {revision}, "allowWatchBookmarks": {"true"},
		"timeoutSeconds": {strconv.Itoa(int(watchFor / time.Second))},
	}
	response, err := a.send(ctx, http.MethodGet, a.path("")+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var e event
		if err := decoder.Decode(&e); err != nil {
			return err
		}
		if e.Type == eventError {
			refused := &status{}
			if err := json.Unmarshal(e.Object, refused); err != nil {
				return err
			}
			return refused
		}
		if err := take(e); err != nil {
			return err
		}
	}
}
