package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/api/server"
)

// Calls of behaviours are taken when they are signed, and answered when they are
// durable; each refusal says why.
func TestBehaviourCalls(t *testing.T) {
	taken := map[string]string{}
	e := start(t, func(o *server.Options) {
		o.Behaviours = server.BehaviourCalls{
			Users: []string{"bridge", "other"},
			Verify: func(signature string, signed []byte) error {
				if signature != "of "+strings.ReplaceAll(string(signed), "\n", " ") && signature != "any" {
					return errors.New("no")
				}
				return nil
			},
			Call: func(_ context.Context, user, id string, body []byte) error {
				if id == "again" {
					return refusal.Of(refusal.DifferentBody)
				}
				taken[user+" "+id] = string(body)
				return nil
			},
		}
	})
	largest := strings.Repeat("x", 64<<10)
	for _, test := range []struct {
		what, method, user, id, signature, body string

		status int
		reason string
	}{
		{"a call", "POST", "bridge", "1", "of /behaviours/bridge 1 hello", "hello", 200, ""},
		{"the largest body", "POST", "bridge", "2", "any", largest, 200, ""},
		{"a signature of another body", "POST", "bridge", "3", "of /behaviours/bridge 3 else", "hello", 401, "bad_signature"},
		{"a signature of another id", "POST", "bridge", "3", "of /behaviours/bridge 1 hello", "hello", 401, "bad_signature"},
		{"a signature of another behaviour", "POST", "other", "1", "of /behaviours/bridge 1 hello", "hello", 401, "bad_signature"},
		{"a signature of what Tegami posts", "POST", "bridge", "3", "of hello", "hello", 401, "bad_signature"},
		{"no signature", "POST", "bridge", "3", "", "hello", 401, "bad_signature"},
		{"no id", "POST", "bridge", "", "any", "hello", 400, "required"},
		{"a long id", "POST", "bridge", strings.Repeat("x", 129), "any", "hello", 400, "required"},
		{"another user", "POST", "alice", "3", "any", "hello", 404, "unknown_recipient"},
		{"too large a body", "POST", "bridge", "3", "any", largest + "x", 429, "too_large"},
		{"another body", "POST", "bridge", "again", "any", "hello", 409, "different_body"},
		{"another method", "GET", "bridge", "3", "any", "", 404, "unknown_method"},
	} {
		t.Run(test.what, func(t *testing.T) {
			status, answer := e.post(t, test.method, "/behaviours/"+test.user, test.body, map[string]string{
				"Tegami-Id": test.id, "Tegami-Signature": test.signature,
			})
			if status != test.status || !strings.Contains(answer, test.reason) {
				t.Errorf("status %d, %s", status, answer)
			}
		})
	}
	if len(taken) != 2 || taken["bridge 1"] != "hello" || taken["bridge 2"] != largest {
		t.Errorf("taken: %d", len(taken))
	}
	e.Refuse()
	if status, answer := e.post(t, "POST", "/behaviours/bridge", "x", map[string]string{"Tegami-Id": "4"}); status != 503 {
		t.Errorf("while it stops: status %d, %s", status, answer)
	}
}

func (e *env) post(t *testing.T, method, path, body string, header map[string]string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+e.PublicAddr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}
