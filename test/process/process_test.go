package process

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// fake answers every call with a status and a body.
func fake(t *testing.T, status int, contentType, body string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return &Client{HTTP: HTTP1(), URL: server.URL, JSON: true}
}

func TestCallDecodesAnAnswer(t *testing.T) {
	client := fake(t, http.StatusOK, "application/json", `{"revision":"42"}`)
	response := new(tegamiv1.GetHeadResponse)
	if err := client.Call(t.Context(), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, response); err != nil {
		t.Fatal(err)
	}
	if response.GetRevision() != 42 {
		t.Errorf("revision %d, want 42", response.GetRevision())
	}
}

func TestCallDecodesARefusal(t *testing.T) {
	// The value is ErrorDetail{field: "to", reason: "x"}.
	client := fake(t, http.StatusNotFound, "application/json",
		`{"code":"not_found","message":"no such user","details":[{"type":"tegami.v1.ErrorDetail","value":"CgJ0bxIBeA"}]}`)
	err := client.Call(t.Context(), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
	refused, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	if refused.Code != "not_found" || refused.Status != 404 || refused.Detail.GetField() != "to" || refused.Detail.GetReason() != "x" {
		t.Errorf("decoded %v", refused)
	}
}

func TestCallTellsNonsenseFromARefusal(t *testing.T) {
	for name, client := range map[string]*Client{
		"a proxy's page":     fake(t, http.StatusBadGateway, "text/html", "<html>"),
		"other content type": fake(t, http.StatusOK, "text/plain", `{"revision":"42"}`),
		"broken detail": fake(t, http.StatusNotFound, "application/json",
			`{"code":"not_found","details":[{"type":"tegami.v1.ErrorDetail","value":"!"}]}`),
	} {
		err := client.Call(t.Context(), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
		if _, refused := errors.AsType[*Error](err); err == nil || refused {
			t.Errorf("%s: got %v, want an error that is no refusal", name, err)
		}
	}
}

func TestComplaints(t *testing.T) {
	for line, want := range map[string]bool{
		`time=… level=ERROR msg="journal failed"`:     true,
		`{"time":"…","level":"ERROR","msg":"failed"}`: true,
		"WARNING: DATA RACE":                          true,
		"panic: runtime error: index out of range":    true,
		"fatal error: concurrent map writes":          true,
		`time=… level=WARN msg="torn tail cut"`:       false,
		`time=… level=INFO msg="no panic: all fine"`:  false,
	} {
		if got := complaint(line); got != want {
			t.Errorf("complaint(%q) = %v", line, got)
		}
	}
}

func TestComplaintsKeepTheStack(t *testing.T) {
	got := complaints("fine\nlevel=ERROR one\nfine\npanic: two\n\tstack\n")
	if want := []string{"level=ERROR one\n", "panic: two\n\tstack\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLogTail(t *testing.T) {
	l := new(logBuffer)
	_, _ = l.Write([]byte("1\n2\n3\n"))
	if got := l.tail(2); got != "2\n3" {
		t.Errorf("tail(2) = %q", got)
	}
	if got := l.tail(9); got != "1\n2\n3" {
		t.Errorf("tail(9) = %q", got)
	}
}
