package talk

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
)

func TestBodyComesBackAsItWas(t *testing.T) {
	for name, body := range map[string]Body{
		"text":           {Text: "ご飯食べた？"},
		"empty text":     {},
		"content":        {MimeType: "image/webp", Data: []byte{0, 1, 2, 't'}},
		"content, empty": {MimeType: "text/plain"},
		"reply":          {Text: "そうだね", ReplyTo: "0123456789abcdef"},
		"mention":        {Text: "@bob", Mentions: []*record.Mention{{UserId: "bob", Length: 4}}},
		"forwarded":      {MimeType: "image/webp", Data: []byte{0, 1}, Forwarded: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeBody(body.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if !sameBody(got, body) {
				t.Errorf("got %+v, want %+v", got, body)
			}
		})
	}
}

func sameBody(a, b Body) bool {
	return a.Text == b.Text && a.MimeType == b.MimeType && bytes.Equal(a.Data, b.Data) && a.ReplyTo == b.ReplyTo && a.Forwarded == b.Forwarded &&
		slices.EqualFunc(a.Mentions, b.Mentions, func(m, n *record.Mention) bool { return proto.Equal(m, n) })
}

func FuzzDecodeBody(f *testing.F) {
	f.Add(Body{Text: "hello"}.Encode())
	f.Add(Body{Text: "hello", ReplyTo: "id", Mentions: []*record.Mention{{}}}.Encode())
	f.Add(Body{MimeType: "image/webp", Data: []byte("x")}.Encode())
	f.Fuzz(func(t *testing.T, encoded []byte) {
		body, err := DecodeBody(encoded)
		if err != nil {
			return
		}
		if again, err := DecodeBody(body.Encode()); err != nil || !sameBody(again, body) {
			t.Errorf("%q decodes to %+v, which encodes to %q", encoded, body, body.Encode())
		}
	})
}
