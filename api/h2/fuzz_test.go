package h2

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// FuzzConnection sends anything after the preface. Whatever it is: no panic,
// every exchange ends, and nothing of the connection is left.
func FuzzConnection(f *testing.F) {
	var script bytes.Buffer
	seed := func(send func(*peer)) {
		script.Reset()
		p := newPeer(f, nil)
		p.Framer = http2.NewFramer(&script, nil)
		p.AllowIllegalWrites = true
		_ = p.WriteSettings()
		send(p)
		f.Add(bytes.Clone(script.Bytes()))
	}
	for _, path := range []string{"/echo", "/held", "/wait", "/early", "/large", "/copy", "/panic", "/trailer"} {
		seed(func(p *peer) {
			p.open(1, false, post(path)...)
			_ = p.WriteData(1, true, []byte("x"))
			p.open(3, true, post(path)...)
			_ = p.WriteRSTStream(3, http2.ErrCodeCancel)
			_ = p.WriteWindowUpdate(0, 100_000)
			_ = p.WriteGoAway(0, 0, nil)
		})
	}
	seed(func(p *peer) {
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14})
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.headers(post("/large")...), PadLength: 9})
		_ = p.WriteContinuation(1, true, nil)
		_ = p.WriteDataPadded(1, false, []byte("xy"), make([]byte, 5))
		_ = p.WritePing(false, [8]byte{})
		_ = p.WritePriority(1, http2.PriorityParam{})
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSite(t, nil)
		s.letIn()
		client, server := net.Pipe()
		c := newConn(s.Server, server)
		s.open.Add(1)
		s.know(c)
		go func() { _, _ = io.Copy(io.Discard, client) }()
		go func() {
			_, _ = io.WriteString(client, http2.ClientPreface)
			_, _ = client.Write(data)
			_ = client.Close()
		}()
		c.greet()
		if len(s.conns) != 0 || s.open.Load() != 0 {
			t.Error("the connection is still known")
		}
		s.judge()
		eventually(t, "its goroutines end", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.streams) == 0 && c.handlers == 0 && !c.writing && c.held == 0 && c.buffered == 0 && c.incomplete == 0
		})
		_ = s.Close()
	})
}
