package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/limit"
)

// promptTalk answers at once, so that what is measured is the edge.
type promptTalk struct {
	Talk
	page talk.Page
	body talk.Body
}

func (promptTalk) Send(_ context.Context, send talk.Send) {
	send.Answer(talk.Sent{Time: time.Now().UnixMilli()}, nil)
}

func (p promptTalk) Poll(poll talk.Poll) (cancel func()) {
	poll.Answer(p.page, nil)
	return noCancel
}

func (p promptTalk) Open(_ context.Context, _ string, operations []*record.Operation) ([]talk.Body, error) {
	return slices.Repeat([]talk.Body{p.body}, len(operations)), nil
}

func (p promptTalk) Opener(context.Context, string) (talk.Opener, error) {
	return promptOpener(p.body.Encode()), nil
}

// promptOpener opens every body to the same one.
type promptOpener []byte

func (o promptOpener) Open(dst, _, _ []byte) []byte { return append(dst, o...) }

func (promptTalk) CheckSession(context.Context, talk.Session) error { return nil }

func (promptTalk) OnSessionEnded(func(talk.Session)) {}

// discardingWriter is a ResponseWriter that costs next to nothing.
type discardingWriter struct {
	header http.Header
	status int
}

func (w *discardingWriter) Header() http.Header { return w.header }

func (w *discardingWriter) Write(p []byte) (int, error) { return len(p), nil }

func (w *discardingWriter) WriteHeader(status int) { w.status = status }

// BenchmarkHot is what a request costs above net/http: routing, admission,
// decoding, the continuation, opening and encoding. The messages have 100
// bytes.
func BenchmarkHot(b *testing.B) {
	text := string(bytes.Repeat([]byte("x"), 100))
	operation := &record.Operation{
		Revision: 1,
		Time:     time.Now().UnixMilli(),
		Kind: &record.Operation_ReceiveMessage{ReceiveMessage: &record.Message{
			MessageId: make([]byte, 16), From: "alice", To: "bob", ClientMessageId: "0192f0c1-2345-7890-abcd-ef0123456789", Time: time.Now().UnixMilli(),
		}},
	}
	stored, err := proto.Marshal(operation)
	if err != nil {
		b.Fatal(err)
	}
	tier := promptTalk{
		page: talk.Page{Operations: [][]byte{stored}, Revision: 1, Reason: talk.Operations},
		body: talk.Body{Text: text},
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Options{
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", SigningKey: key, AdminToken: "token",
		Limits: Limits{Sends: limit.Rate{PerSecond: 1e9, Burst: 1e6}, Polls: limit.Rate{PerSecond: 1e9, Burst: 1e6}},
	}, tier)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	token, _, err := s.tokens.IssueAccess(caller)
	if err != nil {
		b.Fatal(err)
	}
	handler := s.publicHandler(s.hotMethods())

	for _, method := range []struct {
		name, procedure string
		request         proto.Message
	}{
		{"SendMessage", tegamiv1connect.TalkServiceSendMessageProcedure, &tegamiv1.SendMessageRequest{
			To: "bob", Body: &tegamiv1.SendMessageRequest_Text{Text: text}, ClientMessageId: "0192f0c1-2345-7890-abcd-ef0123456789",
		}},
		{"FetchOps", tegamiv1connect.TalkServiceFetchOpsProcedure, &tegamiv1.FetchOpsRequest{Limit: 100}},
	} {
		for contentType, marshal := range map[string]func(proto.Message) ([]byte, error){
			"application/proto": proto.Marshal, "application/json": protojson.Marshal,
		} {
			b.Run(method.name+"/"+contentType, func(b *testing.B) {
				body, err := marshal(method.request)
				if err != nil {
					b.Fatal(err)
				}
				reader := bytes.NewReader(body)
				request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, method.procedure, io.NopCloser(reader))
				if err != nil {
					b.Fatal(err)
				}
				request.ProtoMajor, request.ContentLength = 2, int64(len(body))
				request.Header = http.Header{"Content-Type": {contentType}, "Authorization": {"Bearer " + token}}
				w := &discardingWriter{header: http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					reader.Reset(body)
					clear(w.header)
					handler.ServeHTTP(w, request)
				}
				if w.status != http.StatusOK {
					b.Fatalf("status %d", w.status)
				}
			})
		}
	}
}
