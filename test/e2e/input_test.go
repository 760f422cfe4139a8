package e2e

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// post makes a request with a body as it is and returns the refusal, nil when
// it was accepted.
func (u user) post(procedure, contentType, body string) *process.Error {
	u.t.Helper()
	response, err := u.Post(u.t.Context(), procedure, contentType, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	defer response.Body.Close()
	err = process.ReadAnswer(response, new(tegamiv1.LogoutResponse))
	refusal, _ := errors.AsType[*process.Error](err)
	return refusal
}

const (
	sendMessage  = "TalkService/SendMessage"
	fetchOps     = "TalkService/FetchOps"
	listMessages = "TalkService/ListMessages"
	register     = "AuthService/Register"
	login        = "AuthService/Login"
)

// Every bad input has its answer. Nothing is clamped, cut or guessed.
func TestBadInput(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice", "bob")[0]
	long65, long257 := strings.Repeat("a", 65), strings.Repeat("a", 257)
	for _, test := range []struct {
		name, procedure, body string
		field                 string
	}{
		{"unknown field", sendMessage, `{"to":"bob","text":"x","colour":"red"}`, ""},
		{"unknown field, nested", sendMessage, `{"to":"bob","content":{"mimeType":"a/b","data":"","x":1}}`, ""},
		{"malformed JSON", sendMessage, `{"to":"bob"`, ""},
		{"no JSON", sendMessage, `hello`, ""},
		{"empty body", sendMessage, ``, ""},
		{"an array", sendMessage, `[]`, ""},
		{"null", sendMessage, `null`, ""},
		{"something behind it", sendMessage, `{"to":"bob","text":"x"}{}`, ""},
		{"wrong type", sendMessage, `{"to":7,"text":"x"}`, ""},
		{"field twice", sendMessage, `{"to":"bob","to":"bob","text":"x"}`, ""},
		{"two bodies", sendMessage, `{"to":"bob","text":"x","content":{"mimeType":"a/b"}}`, ""},
		{"bad base64", sendMessage, `{"to":"bob","content":{"mimeType":"a/b","data":"*"}}`, ""},
		{"deeply nested", sendMessage, strings.Repeat(`{"a":`, 10_000), ""},
		{"lone surrogate", sendMessage, `{"to":"bob","text":"\ud800"}`, ""},
		{"invalid UTF-8", sendMessage, "{\"to\":\"bob\",\"text\":\"\xff\xfe\"}", ""},

		{"no recipient", sendMessage, `{"text":"x"}`, "to"},
		{"recipient too short", sendMessage, `{"to":"ab","text":"x"}`, "to"},
		{"recipient too long", sendMessage, `{"to":"` + long65 + `","text":"x"}`, "to"},
		{"recipient in capitals", sendMessage, `{"to":"Bob","text":"x"}`, "to"},
		{"recipient with a digit first", sendMessage, `{"to":"1bob","text":"x"}`, "to"},
		{"recipient with a space", sendMessage, `{"to":"bob ","text":"x"}`, "to"},
		{"recipient with U+0000", sendMessage, `{"to":"bob\u0000","text":"x"}`, "to"},
		{"recipient with a slash", sendMessage, `{"to":"../bob","text":"x"}`, "to"},
		{"no text", sendMessage, `{"to":"bob"}`, "text"},
		{"empty text", sendMessage, `{"to":"bob","text":""}`, "text"},
		{"text too long", sendMessage, `{"to":"bob","text":"` + strings.Repeat("長", 10_001) + `"}`, "text"},
		{"no MIME type", sendMessage, `{"to":"bob","content":{"data":"AA=="}}`, "content.mimeType"},
		{"MIME type with a control character", sendMessage, `{"to":"bob","content":{"mimeType":"a\n","data":"AA=="}}`, "content.mimeType"},
		{"data too large", sendMessage, `{"to":"bob","content":{"mimeType":"a/b","data":"` + strings.Repeat("AAAA", (64<<10)/3+1) + `"}}`, "content.data"},
		{"client message id too long", sendMessage, `{"to":"bob","text":"x","clientMessageId":"` + long65 + `"}`, "clientMessageId"},
		{"client message id with é", sendMessage, `{"to":"bob","text":"x","clientMessageId":"é"}`, "clientMessageId"},
		{"client message id with a newline", sendMessage, `{"to":"bob","text":"x","clientMessageId":"a\nb"}`, "clientMessageId"},

		{"negative revision", fetchOps, `{"afterRevision":"-1"}`, "afterRevision"},
		{"revision that is no number", fetchOps, `{"afterRevision":"x"}`, ""},
		{"revision beyond 64 bits", fetchOps, `{"afterRevision":"9223372036854775808"}`, ""},
		{"negative limit", fetchOps, `{"limit":-1}`, "limit"},
		{"limit too high", fetchOps, `{"limit":1001}`, "limit"},
		{"fractional limit", fetchOps, `{"limit":1.5}`, ""},
		{"negative timeout", fetchOps, `{"timeout":"-1s"}`, "timeout"},
		{"timeout too long", fetchOps, `{"timeout":"120.001s"}`, "timeout"},
		{"timeout without unit", fetchOps, `{"timeout":"25"}`, ""},
		{"timeout beyond every limit", fetchOps, `{"timeout":"315576000001s"}`, ""},

		{"no peer", listMessages, `{}`, "peer"},
		{"negative before", listMessages, `{"peer":"bob","before":"-1"}`, "before"},
		{"list limit too high", listMessages, `{"peer":"bob","limit":1001}`, "limit"},
		{"list limit negative", listMessages, `{"peer":"bob","limit":-1}`, "limit"},

		{"user id too short", register, `{"userId":"ab","password":"` + password + `"}`, "userId"},
		{"user id with an underscore first", register, `{"userId":"_abc","password":"` + password + `"}`, "userId"},
		{"password too short", register, `{"userId":"carol","password":"1234567"}`, "password"},
		{"password too long", register, `{"userId":"carol","password":"` + long257 + `"}`, "password"},
		{"no password", register, `{"userId":"carol"}`, "password"},
		{"display name too long", register, `{"userId":"carol","password":"` + password + `","displayName":"` + long257 + `"}`, "displayName"},
		{"device id too long", login, `{"userId":"alice","password":"` + password + `","deviceId":"` + long65 + `"}`, "deviceId"},
		{"neither password nor ID token", login, `{"userId":"alice"}`, "password"},
		{"password and ID token", login, `{"userId":"alice","password":"` + password + `","idToken":"a.b.c"}`, "idToken"},
		{"ID token too long", login, `{"idToken":"` + strings.Repeat("a", 16<<10+1) + `"}`, "idToken"},
		{"ID token with a space", login, `{"idToken":"a.b.c "}`, "idToken"},
		{"device id with a space", login, `{"userId":"alice","password":"` + password + `","deviceId":"a b"}`, "deviceId"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := alice
			u.t = t
			refusal := u.post(test.procedure, "application/json", test.body)
			if refusal == nil {
				t.Fatal("it was accepted")
			}
			if refusal.Code != "invalid_argument" || refusal.Status != http.StatusBadRequest {
				t.Errorf("got %v, want invalid_argument", refusal)
			}
			if refusal.Detail.GetReason() == "" {
				t.Errorf("%v names no reason", refusal)
			}
			if test.field != "" && refusal.Detail.GetField() != test.field {
				t.Errorf("%v blames field %q, want %q", refusal, refusal.Detail.GetField(), test.field)
			}
		})
	}
	if head := alice.head(); head != 0 {
		t.Errorf("alice's mailbox is at %d: a refused send left something", head)
	}
}

// What is at a limit is allowed, and both ways to write a number are.
func TestGoodInputAtTheLimits(t *testing.T) {
	server := start(t)
	longest := "a" + strings.Repeat("0", 61) + "._"
	alice := signIn(t, server, "alice", "bob", longest)[0]
	alice.send(text("alice", "so that no poll is held"))
	u := visitor(t, server)
	for name, test := range map[string]struct {
		user            user
		procedure, body string
	}{
		"longest user id":            {alice, sendMessage, `{"to":"` + longest + `","text":"x"}`},
		"longest client message id":  {alice, sendMessage, `{"to":"bob","text":"x","clientMessageId":"` + strings.Repeat("~", 64) + `"}`},
		"client message id of space": {alice, sendMessage, `{"to":"bob","text":"x","clientMessageId":" "}`},
		"snake case":                 {alice, sendMessage, `{"to":"bob","text":"x","client_message_id":"s"}`},
		"empty content":              {alice, sendMessage, `{"to":"bob","content":{"mimeType":"a/b"}}`},
		"white space":                {alice, sendMessage, " {\n\"to\" : \"bob\",\t\"text\":\"x\" }\r\n"},
		"revision as a number":       {alice, fetchOps, `{"afterRevision":0}`},
		"revision as a string":       {alice, fetchOps, `{"afterRevision":"0"}`},
		"longest timeout":            {alice, fetchOps, `{"limit":1000,"timeout":"120s"}`},
		"fractional timeout":         {alice, fetchOps, `{"timeout":"0.001s"}`},
		"shortest user id":           {u, register, `{"userId":"abc","password":"` + secret + `!!"}`},
		"longest password":           {u, register, `{"userId":"abd","password":"` + secret + strings.Repeat("長", 83) + `!"}`},
		"longest display name":       {u, register, `{"userId":"abe","password":"` + password + `","displayName":"` + strings.Repeat("長", 256) + `"}`},
	} {
		if refusal := test.user.post(test.procedure, "application/json", test.body); refusal != nil {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

func TestMalformedProtobuf(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice", "bob")[0]
	good, err := proto.Marshal(withID(text("bob", "x"), "id"))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"cut":           good[:len(good)-1],
		"noise":         {0xff, 0xff, 0xff, 0xff},
		"invalid UTF-8": protowire.AppendString(protowire.AppendTag(bytes.Clone(good), 2, protowire.BytesType), "\xff"),
		"group":         protowire.AppendTag(bytes.Clone(good), 9, protowire.StartGroupType),
	} {
		if refusal := alice.post(sendMessage, "application/proto", string(body)); refusal == nil || refusal.Code != "invalid_argument" {
			t.Errorf("%s: got %v, want invalid_argument", name, refusal)
		}
	}
	// A newer client may send fields that this server does not know.
	unknown := protowire.AppendString(protowire.AppendTag(bytes.Clone(good), 900, protowire.BytesType), "new")
	if refusal := alice.post(sendMessage, "application/proto", string(unknown)); refusal != nil {
		t.Errorf("unknown field: %v", refusal)
	}
}

func TestOtherRequests(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice", "bob")[0]
	for _, contentType := range []string{"text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=latin1"} {
		response, err := alice.Post(t.Context(), sendMessage, contentType, strings.NewReader(`{"to":"bob","text":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("content type %q: status %d, want 415", contentType, response.StatusCode)
		}
	}
	for _, path := range []string{"/", "/tegami.v1.TalkService/", "/tegami.v1.TalkService/Unknown", "/tegami.v1.NoService/X", "/../etc/passwd"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL()+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := alice.HTTP.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s: status %d, want 404 or 501", path, response.StatusCode)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+"/tegami.v1."+fetchOps, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := alice.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d, want 405", response.StatusCode)
	}
}

// Compression would let a small request ask for much memory.
func TestCompressedRequestsAreRefused(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice", "bob")[0]
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	_, _ = zip.Write([]byte(`{"to":"bob","text":"x"}`))
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	for _, procedure := range []string{sendMessage, fetchOps, "TalkService/GetHead", login} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL()+"/tegami.v1."+procedure, bytes.NewReader(body.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Content-Encoding", "gzip")
		request.Header.Set("Authorization", "Bearer "+alice.Token)
		response, err := alice.HTTP.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		err = process.ReadAnswer(response, new(tegamiv1.LogoutResponse))
		response.Body.Close()
		if refusal, ok := errors.AsType[*process.Error](err); !ok || refusal.Code != "unimplemented" || refusal.Status != http.StatusNotImplemented {
			t.Errorf("%s: got %v, want unimplemented", procedure, err)
		}
	}
}

// endless is a body without end, and counts what was taken of it.
type endless struct{ taken int }

func (e *endless) Read(p []byte) (int, error) {
	if e.taken > 64<<20 {
		return 0, io.EOF // The test fails, but it ends.
	}
	for i := range p {
		p[i] = 'a'
	}
	e.taken += len(p)
	return len(p), nil
}

func TestLargeRequestsAreRefusedUnread(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice", "bob")[0]
	for name, client := range map[string]*http.Client{"HTTP/2": process.HTTP2(), "HTTP/1.1": process.HTTP1()} {
		for _, procedure := range []string{sendMessage, fetchOps, "TalkService/GetHead", login} {
			u := alice
			u.Client = &process.Client{HTTP: client, URL: server.URL(), Token: alice.Token}
			body := new(endless)
			response, err := u.Post(t.Context(), procedure, "application/json", io.MultiReader(strings.NewReader(`{"to":"bob","text":"`), body))
			if err != nil {
				// HTTP/1.1: the server closed the connection, and the client saw
				// that before the answer.
				if name != "HTTP/1.1" {
					t.Errorf("%s %s: %v", name, procedure, err)
				}
				continue
			}
			err = process.ReadAnswer(response, new(tegamiv1.LogoutResponse))
			response.Body.Close()
			refusal, ok := errors.AsType[*process.Error](err)
			if !ok || refusal.Code != "resource_exhausted" {
				t.Errorf("%s %s: got %v, want resource_exhausted", name, procedure, err)
			}
			if body.taken > 8<<20 {
				t.Errorf("%s %s: %d bytes were read of a request that may have 192 KiB", name, procedure, body.taken)
			}
		}
		client.CloseIdleConnections()
	}
	// 192 KiB are allowed; what is in them is too long as a text.
	refusal := alice.post(sendMessage, "application/json", `{"to":"bob","text":"`+strings.Repeat("a", 190<<10)+`"}`)
	if refusal == nil || refusal.Code != "invalid_argument" {
		t.Errorf("190 KiB: got %v, want invalid_argument", refusal)
	}
}

func TestRateLimits(t *testing.T) {
	server := start(t, "limits: {send_rate: 1, send_burst: 5, poll_rate: 2}")
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	until := func(u user, procedure string, request proto.Message) *process.Error {
		t.Helper()
		for range 1000 {
			err := u.Call(t.Context(), procedure, request, new(tegamiv1.LogoutResponse))
			if refusal, ok := errors.AsType[*process.Error](err); ok {
				return refusal
			} else if err != nil {
				t.Fatal(err)
			}
		}
		t.Fatalf("%s: 1,000 calls and no limit", procedure)
		return nil
	}
	refusal := until(alice, sendMessage, text("bob", "x"))
	want(t, refusal, "resource_exhausted", "rate_limited")
	retryAfter(t, refusal)
	// The limit is each user's own.
	bob.send(text("alice", "x"))

	refusal = until(bob, fetchOps, &tegamiv1.FetchOpsRequest{})
	want(t, refusal, "resource_exhausted", "rate_limited")
	retryAfter(t, refusal)
	alice.fetch(0)

	// And it passes.
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	hang := time.After(hangLimit)
	for alice.Call(t.Context(), sendMessage, text("bob", "y"), new(tegamiv1.SendMessageResponse)) != nil {
		select {
		case <-look.C:
		case <-hang:
			t.Fatal("the limit does not pass")
		}
	}
}
