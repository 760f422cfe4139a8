package talk

import (
	"bytes"
	"testing"
)

func TestBodyComesBackAsItWas(t *testing.T) {
	for name, body := range map[string]Body{
		"text":           {Text: "ご飯食べた？"},
		"empty text":     {},
		"content":        {MimeType: "image/webp", Data: []byte{0, 1, 2, 't'}},
		"content, empty": {MimeType: "text/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeBody(body.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if got.Text != body.Text || got.MimeType != body.MimeType || !bytes.Equal(got.Data, body.Data) {
				t.Errorf("got %+v, want %+v", got, body)
			}
		})
	}
}

func FuzzDecodeBody(f *testing.F) {
	f.Add(Body{Text: "hello"}.Encode())
	f.Add(Body{MimeType: "image/webp", Data: []byte("x")}.Encode())
	f.Fuzz(func(t *testing.T, encoded []byte) {
		body, err := DecodeBody(encoded)
		if err != nil {
			return
		}
		if again, err := DecodeBody(body.Encode()); err != nil || again.Text != body.Text || again.MimeType != body.MimeType || !bytes.Equal(again.Data, body.Data) {
			t.Errorf("%q decodes to %+v, which encodes to %q", encoded, body, body.Encode())
		}
	})
}
