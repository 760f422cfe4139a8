package h2

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// What a client must not do to a connection, and what it is told. The cases
// are in the order of RFC 9113.
func TestConnectionErrors(t *testing.T) {
	raw := func(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) func(*peer) {
		return func(p *peer) { _ = p.WriteRawFrame(kind, flags, id, payload) }
	}
	const (
		protocol    = http2.ErrCodeProtocol
		size        = http2.ErrCodeFrameSize
		flow        = http2.ErrCodeFlowControl
		compression = http2.ErrCodeCompression
	)
	s := serveSite(t, nil)
	for _, test := range []struct {
		name string
		send func(*peer)
		want http2.ErrCode
	}{
		{"4.2 a frame above the size", raw(http2.FrameData, 0, 1, make([]byte, maxFrame+1)...), size},
		{"4.3 a block that is no HPACK", raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, 0x80|70), compression},
		{"4.3 a block that breaks off", raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, 0x40, 0x05, 'a'), compression},
		{"5.1 DATA on an idle stream", raw(http2.FrameData, 0, 1, 'x'), protocol},
		{"5.1 RST_STREAM on an idle stream", raw(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), protocol},
		{"5.1 WINDOW_UPDATE on an idle stream", raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 8), protocol},
		{"5.1.1 an even stream", func(p *peer) { p.open(2, true, post("/echo")...) }, protocol},
		{"6.1 DATA on no stream", raw(http2.FrameData, 0, 0, 'x'), protocol},
		{"6.1 padding as long as DATA", func(p *peer) {
			p.open(1, false, post("/echo")...)
			_ = p.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{5, 0, 0, 0, 0})
		}, protocol},
		{"6.2 HEADERS on no stream", raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0), protocol},
		{"6.2 padding as long as HEADERS", raw(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, 9, 0x82), protocol},
		{"6.2 HEADERS too short for its flags", raw(http2.FrameHeaders, http2.FlagHeadersPriority|http2.FlagHeadersEndHeaders, 1, 0, 0), size},
		{"6.3 PRIORITY on no stream", raw(http2.FramePriority, 0, 0, 0, 0, 0, 0, 0), protocol},
		{"6.4 RST_STREAM on no stream", raw(http2.FrameRSTStream, 0, 0, 0, 0, 0, 8), protocol},
		{"6.4 RST_STREAM of another size", raw(http2.FrameRSTStream, 0, 1, 0), size},
		{"6.5 SETTINGS on a stream", raw(http2.FrameSettings, 0, 1), protocol},
		{"6.5 SETTINGS of another size", raw(http2.FrameSettings, 0, 0, 0, 1, 0), size},
		{"6.5 an acknowledgement with content", raw(http2.FrameSettings, http2.FlagSettingsAck, 0, 0, 1, 0, 0, 0, 0), size},
		{"6.5.2 ENABLE_PUSH is 2", raw(http2.FrameSettings, 0, 0, 0, 2, 0, 0, 0, 2), protocol},
		{"6.5.2 INITIAL_WINDOW_SIZE is 2^31", raw(http2.FrameSettings, 0, 0, 0, 4, 0x80, 0, 0, 0), flow},
		{"6.5.2 MAX_FRAME_SIZE is 1", raw(http2.FrameSettings, 0, 0, 0, 5, 0, 0, 0, 1), protocol},
		{"6.6 PUSH_PROMISE", raw(http2.FramePushPromise, 0, 1, 0, 0, 0, 2), protocol},
		{"6.7 PING on a stream", raw(http2.FramePing, 0, 1, make([]byte, 8)...), protocol},
		{"6.7 PING of another size", raw(http2.FramePing, 0, 0, make([]byte, 7)...), size},
		{"6.8 GOAWAY on a stream", raw(http2.FrameGoAway, 0, 1, make([]byte, 8)...), protocol},
		{"6.8 GOAWAY too short", raw(http2.FrameGoAway, 0, 0, make([]byte, 7)...), size},
		{"6.9 WINDOW_UPDATE of another size", raw(http2.FrameWindowUpdate, 0, 0, 0), size},
		{"6.9 WINDOW_UPDATE by 0", raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0), protocol},
		{"6.9.1 a window above 2^31-1", raw(http2.FrameWindowUpdate, 0, 0, 0x7f, 0xff, 0xff, 0xff), flow},
		{"6.9.2 INITIAL_WINDOW_SIZE takes a stream above 2^31-1", func(p *peer) {
			p.open(1, false, post("/held")...)
			_ = p.WriteWindowUpdate(1, 1<<20)
			_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}, flow},
		{"6.10 CONTINUATION alone", raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1), protocol},
		{"6.10 another frame within a header block", func(p *peer) {
			_ = p.WriteRawFrame(http2.FrameHeaders, 0, 1, p.headers(post("/echo")...))
			_ = p.WritePing(false, [8]byte{})
		}, protocol},
		{"6.10 CONTINUATION of another stream", func(p *peer) {
			_ = p.WriteRawFrame(http2.FrameHeaders, 0, 1, p.headers(post("/echo")...))
			_ = p.WriteContinuation(3, true, nil)
		}, protocol},
		{"10.5.1 a header block without end", func(p *peer) {
			_ = p.WriteRawFrame(http2.FrameHeaders, 0, 1, nil)
			for range 20 {
				_ = p.WriteContinuation(1, false, bytes.Repeat([]byte{0x00, 0x01, 'x', 0x01, 'y'}, 2000))
			}
		}, http2.ErrCodeEnhanceYourCalm},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := s.dial()
			p.t = t
			test.send(p)
			for {
				switch f := p.next().(type) {
				case *http2.GoAwayFrame:
					if f.ErrCode != test.want {
						t.Errorf("GOAWAY %v, want %v", f.ErrCode, test.want)
					}
					if frame := p.next(); frame != nil {
						t.Errorf("%v after GOAWAY", frame)
					}
					return
				case nil:
					t.Fatal("the connection ended without GOAWAY")
				}
			}
		})
	}
	t.Run("3.4 another frame first", func(t *testing.T) {
		p := newPeer(t, s.silent())
		_, _ = p.Write([]byte(http2.ClientPreface))
		_ = p.WritePing(false, [8]byte{})
		if f, ok := p.next().(*http2.GoAwayFrame); !ok || f.ErrCode != protocol {
			t.Errorf("got %v", f)
		}
	})
}

// What a client must not do to a stream, and what it is told. The connection
// goes on.
func TestStreamErrors(t *testing.T) {
	headers := func(end bool, fields ...string) func(*peer) {
		return func(p *peer) { p.open(1, end, fields...) }
	}
	const (
		protocol = http2.ErrCodeProtocol
		gone     = http2.ErrCodeStreamClosed
	)
	s := serveSite(t, nil)
	for _, test := range []struct {
		name string
		send func(*peer)
		want http2.ErrCode
	}{
		{"5.1 DATA after the end", func(p *peer) {
			p.open(1, true, post("/held")...)
			_ = p.WriteData(1, true, []byte("x"))
		}, gone},
		{"5.1 HEADERS after the end", func(p *peer) {
			p.open(1, true, post("/held")...)
			p.open(1, true, "x: y")
		}, gone},
		{"5.1 DATA after a reset", func(p *peer) {
			p.open(1, false, post("/held")...)
			_ = p.WriteRSTStream(1, http2.ErrCodeCancel)
			_ = p.WriteData(1, true, []byte("x"))
		}, gone},
		{"5.1.1 a stream below the newest", func(p *peer) {
			p.open(3, true, post("/held")...)
			p.open(1, true, post("/held")...)
		}, gone},
		{"6.3 PRIORITY of another size", func(p *peer) {
			p.open(1, true, post("/held")...)
			_ = p.WriteRawFrame(http2.FramePriority, 0, 1, []byte{0})
		}, http2.ErrCodeFrameSize},
		{"6.9 WINDOW_UPDATE by 0", func(p *peer) {
			p.open(1, true, post("/held")...)
			_ = p.WriteRawFrame(http2.FrameWindowUpdate, 0, 1, make([]byte, 4))
		}, protocol},
		{"6.9.1 a window above 2^31-1", func(p *peer) {
			p.open(1, true, post("/held")...)
			_ = p.WriteWindowUpdate(1, 1<<31-1)
		}, http2.ErrCodeFlowControl},
		{"6.9.1 more than the window", func(p *peer) {
			p.open(1, false, post("/block")...) // whose handler does not read
			for range 5 {
				_ = p.WriteDataPadded(1, false, make([]byte, 15_000), make([]byte, 200))
			}
		}, http2.ErrCodeFlowControl},
		{"8.1 a trailer that does not end", func(p *peer) {
			p.open(1, false, post("/held")...)
			p.open(1, false, "x: y")
		}, protocol},
		{"8.1 a trailer with a pseudo-header", func(p *peer) {
			p.open(1, false, post("/held")...)
			p.open(1, true, ":path: /")
		}, protocol},
		{"8.1.1 a body shorter than declared", func(p *peer) {
			p.open(1, false, post("/held", "content-length: 2")...)
			_ = p.WriteData(1, true, []byte("x"))
		}, protocol},
		{"8.1.1 a body longer than declared", func(p *peer) {
			p.open(1, false, post("/held", "content-length: 2")...)
			_ = p.WriteData(1, false, []byte("xyz"))
		}, protocol},
		{"8.1.1 a body declared and none there", headers(true, post("/held", "content-length: 2")...), protocol},
		{"8.1.1 two lengths", headers(false, post("/held", "content-length: 2", "content-length: 3")...), protocol},
		{"8.1.1 a length that is none", headers(false, post("/held", "content-length: +2")...), protocol},
		{"8.2.1 a name in capitals", headers(true, post("/held", "X: y")...), protocol},
		{"8.2.1 a name with a blank", headers(true, post("/held", "x y: z")...), protocol},
		{"8.2.1 a value with a line break", headers(true, post("/held", "x: y\nz")...), protocol},
		{"8.2.2 Connection", headers(true, post("/held", "connection: close")...), protocol},
		{"8.2.2 Transfer-Encoding", headers(true, post("/held", "transfer-encoding: chunked")...), protocol},
		{"8.2.2 TE", headers(true, post("/held", "te: gzip")...), protocol},
		{"8.3 an unknown pseudo-header", headers(true, post("/held", ":x: y")...), protocol},
		{"8.3 a pseudo-header after a field", headers(true, ":method: POST", ":scheme: http", "x: y", ":path: /held"), protocol},
		{"8.3.1 no method", headers(true, ":scheme: http", ":path: /held"), protocol},
		{"8.3.1 no scheme", headers(true, ":method: POST", ":path: /held"), protocol},
		{"8.3.1 no path", headers(true, ":method: POST", ":scheme: http"), protocol},
		{"8.3.1 an empty path", headers(true, post("")...), protocol},
		{"8.3.1 a relative path", headers(true, post("held")...), protocol},
		{"8.3.1 a path that is no URL", headers(true, post("/%zz")...), protocol},
		{"8.3.1 two methods", headers(true, append(post("/held"), ":method: GET")...), protocol},
		{"8.5 CONNECT with a path", headers(true, ":method: CONNECT", ":authority: x", ":path: /"), protocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := s.dial()
			p.t = t
			test.send(p)
			for {
				frame := p.next()
				if f, ok := frame.(*http2.RSTStreamFrame); ok {
					if f.StreamID != 1 || f.ErrCode != test.want {
						t.Errorf("stream %d was reset with %v, want %v", f.StreamID, f.ErrCode, test.want)
					}
					break
				}
				if frame == nil {
					t.Fatal("the connection ended")
				}
			}
			p.open(5, true, post("/echo")...)
			if status, _ := p.answer(5); status != "200" {
				t.Errorf("afterwards: status %s", status)
			}
		})
	}
}

// What is unusual and allowed.
func TestUnusualFramesAreTaken(t *testing.T) {
	s := serveSite(t, nil)
	for name, send := range map[string]func(*peer){
		"an unknown frame and setting": func(p *peer) {
			_ = p.WriteRawFrame(0x42, 0xff, 7, []byte("anything"))
			_ = p.WriteSettings(http2.Setting{ID: 0x42, Val: 1})
			p.open(1, false, post("/echo")...)
			_ = p.WriteData(1, true, []byte("body"))
		},
		"PRIORITY anywhere": func(p *peer) {
			_ = p.WritePriority(9, http2.PriorityParam{StreamDep: 3})
			p.open(1, false, post("/echo")...)
			_ = p.WritePriority(1, http2.PriorityParam{Weight: 3})
			_ = p.WriteData(1, true, []byte("body"))
		},
		"padding and a priority": func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: p.headers(post("/echo")...), EndHeaders: true, PadLength: 200,
				Priority: http2.PriorityParam{StreamDep: 7, Exclusive: true},
			})
			_ = p.WriteDataPadded(1, false, []byte("bo"), make([]byte, 255))
			_ = p.WriteDataPadded(1, true, []byte("dy"), make([]byte, 1))
		},
		"a header block in pieces": func(p *peer) {
			block := p.headers(post("/echo", "x: "+strings.Repeat("y", 3000))...)
			_ = p.WriteRawFrame(http2.FrameHeaders, 0, 1, block[:1])
			for _, b := range block[1:20] {
				_ = p.WriteContinuation(1, false, []byte{b})
			}
			_ = p.WriteContinuation(1, true, block[20:])
			_ = p.WriteData(1, true, []byte("body"))
		},
		"a trailer": func(p *peer) {
			p.open(1, false, post("/echo", "trailer: x")...)
			_ = p.WriteData(1, false, []byte("body"))
			p.open(1, true, "x: y")
		},
		"an empty frame at the end": func(p *peer) {
			p.open(1, false, post("/echo", "content-length: 4")...)
			_ = p.WriteData(1, false, []byte("body"))
			_ = p.WriteData(1, true, nil)
		},
		"a table of another size": func(p *peer) {
			_ = p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
			p.open(1, false, post("/echo")...)
			_ = p.WriteData(1, true, []byte("body"))
		},
		"the host in a field": func(p *peer) {
			p.open(1, false, ":method: POST", ":scheme: http", ":path: /echo", "host: here")
			_ = p.WriteData(1, true, []byte("body"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.dial()
			p.t = t
			send(p)
			if status, body := p.answer(1); status != "200" || body != "body" {
				t.Errorf("status %s, %q", status, body)
			}
			_ = p.WritePing(false, [8]byte{7})
			for {
				switch f := p.next().(type) {
				case *http2.PingFrame:
					if !f.IsAck() || f.Data != [8]byte{7} {
						t.Errorf("PING is answered with %v", f)
					}
					return
				case nil:
					t.Fatal("PING is not answered")
				}
			}
		})
	}
}
