package hostile

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// fillMailbox gives mallory a mailbox whose pages are as large as they get,
// and returns tokens of so many of mallory's devices.
func (a *arena) fillMailbox(devices int) []string {
	a.t.Helper()
	a.server.CreateUsers("mallory")
	tokens := make([]string, devices)
	for i := range tokens {
		tokens[i] = a.server.SignIn("mallory", fmt.Sprintf("device-%d", i)).GetAccessToken()
	}
	mallory := a.server.Device("mallory", "filler")
	for i := range 20 {
		request := &tegamiv1.SendMessageRequest{To: "mallory", ClientMessageId: fmt.Sprint(i), Body: &tegamiv1.SendMessageRequest_Content{
			Content: &tegamiv1.Content{MimeType: "application/octet-stream", Data: make([]byte, 64<<10)},
		}}
		if err := mallory.Call(a.t.Context(), "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse)); err != nil {
			a.t.Fatal(err)
		}
	}
	return tokens
}

// askForPages sends polls that are answered at once with a page of a MiB each,
// until the server takes no more.
func askForPages(p *peer, token string, asked *atomic.Int64) {
	body, _ := proto.Marshal(&tegamiv1.FetchOpsRequest{Limit: 1000})
	for i := range uint32(200) {
		if p.request(2*i+1, "TalkService/FetchOps", token, body) != nil {
			return
		}
		asked.Add(1)
	}
}

func neverRead(a *arena) string {
	const devices = 5
	tokens := a.fillMailbox(devices)
	var asked atomic.Int64
	attackers(devices, func(i int) {
		// A window as wide as can be: only TCP holds the server back.
		p, err := a.http2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		if err == nil && p.WriteWindowUpdate(0, 1<<31-1-65535) == nil {
			askForPages(p, tokens[i], &asked)
			everySecond(func() error { return p.WritePing(false, [8]byte{}) })
		}
	})
	return fmt.Sprintf("%d pages of 1 MiB asked for on %d connections", asked.Load(), devices)
}

func noWindow(a *arena) string {
	const devices = 5
	tokens := a.fillMailbox(devices)
	var asked atomic.Int64
	attackers(devices, func(i int) {
		p, err := a.http2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			return
		}
		go drain(p.Conn)
		askForPages(p, tokens[i], &asked)
		everySecond(func() error { return p.WritePing(false, [8]byte{}) })
	})
	return fmt.Sprintf("%d pages of 1 MiB asked for on %d connections", asked.Load(), devices)
}

func slowBodies(a *arena) string {
	const count, streams = 50, 20
	token := a.server.SignIn("alice", "slow").GetAccessToken()
	var sent atomic.Int64
	attackers(count, func(i int) {
		if i%2 == 0 { // HTTP/1.1
			conn, err := a.dial()
			if err != nil {
				return
			}
			_, err = fmt.Fprintf(conn, "POST /tegami.v1.TalkService/SendMessage HTTP/1.1\r\nHost: tegami\r\n"+
				"Content-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n", token)
			if err != nil {
				return
			}
			go drain(conn)
			everySecond(func() error {
				_, err := conn.Write([]byte("{"))
				sent.Add(1)
				return err
			})
			return
		}
		p, err := a.http2()
		if err != nil {
			return
		}
		go drain(p.Conn)
		for s := range uint32(streams) {
			header := http2.HeadersFrameParam{StreamID: 2*s + 1, BlockFragment: p.post("TalkService/SendMessage", token), EndHeaders: true}
			if p.WriteHeaders(header) != nil {
				return
			}
		}
		everySecond(func() error {
			for s := range uint32(streams) {
				if err := p.WriteData(2*s+1, false, []byte{10}); err != nil {
					return err
				}
				sent.Add(1)
			}
			return nil
		})
	})
	return fmt.Sprintf("%d bytes of %d requests sent", sent.Load(), count/2+count/2*streams)
}

func slowHeaders(a *arena) string {
	const count = 100
	var sent, cut atomic.Int64
	attackers(count, func(int) {
		conn, err := a.dial()
		if err != nil {
			return
		}
		go drain(conn)
		text := strings.NewReader("POST /tegami.v1.TalkService/SendMessage HTTP/1.1\r\nHost: tegami\r\n")
		everySecond(func() error {
			_, err := io.CopyN(conn, text, 1)
			if err != nil {
				cut.Add(1)
			}
			sent.Add(1)
			return err
		})
	})
	return fmt.Sprintf("%d bytes sent on %d connections, %d of them cut off", sent.Load(), count, cut.Load())
}

func idle(a *arena) string {
	const count = 1000
	var open atomic.Int64
	attackers(count, func(i int) {
		var err error
		if i%2 == 0 {
			_, err = a.dial() // says nothing at all
		} else {
			_, err = a.http2() // says what it has to, and no more
		}
		if err == nil {
			open.Add(1)
		}
	})
	everySecond(func() error { return nil }) // while the friends go on
	return fmt.Sprintf("%d connections opened", open.Load())
}

func rapidReset(a *arena) string {
	const count, resets = 10, 20_000
	token := a.server.SignIn("alice", "reset").GetAccessToken()
	var sent, cut atomic.Int64
	attackers(count, func(int) {
		p, err := a.http2()
		if err != nil {
			return
		}
		survived := p.awaitPong()
		for i := range uint32(resets) {
			header := http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: p.post("TalkService/FetchOps", token), EndHeaders: true}
			if p.WriteHeaders(header) != nil || p.WriteRSTStream(2*i+1, http2.ErrCodeCancel) != nil {
				break
			}
			sent.Add(1)
		}
		_ = p.WritePing(false, [8]byte{})
		if !<-survived {
			cut.Add(1)
		}
	})
	return fmt.Sprintf("%d requests made and reset, %d of %d connections cut off", sent.Load(), cut.Load(), count)
}

func garbage(a *arena) string {
	const count = 500
	var sent atomic.Int64
	attackers(count, func(i int) {
		noise := make([]byte, 4096)
		_, _ = rand.Read(noise)
		conn, err := a.dial()
		if err != nil {
			return
		}
		switch i % 3 {
		case 1: // behind a good beginning
			noise = append([]byte(http2.ClientPreface), noise...)
		case 2: // in frames that look like frames
			var frames bytes.Buffer
			framer := http2.NewFramer(&frames, nil)
			framer.AllowIllegalWrites = true
			_ = framer.WriteSettings()
			for n := 0; n+40 < len(noise); n += 40 {
				_ = framer.WriteRawFrame(http2.FrameType(noise[n]%12), http2.Flags(noise[n+1]), uint32(noise[n+2]%8), noise[n+3:n+40])
			}
			noise = append([]byte(http2.ClientPreface), frames.Bytes()...)
		}
		n, _ := conn.Write(noise)
		sent.Add(int64(n))
		_, _ = io.Copy(io.Discard, conn) // until the server has had enough
	})
	return fmt.Sprintf("%d KiB sent on %d connections", sent.Load()>>10, count)
}

func continuationFlood(a *arena) string {
	const count, limit = 10, 64 << 20 // bytes for each connection
	var sent, cut atomic.Int64
	attackers(count, func(int) {
		p, err := a.http2()
		if err != nil {
			return
		}
		go drain(p.Conn)
		if p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.post("TalkService/FetchOps", "")}) != nil {
			return
		}
		// A literal that is not put into the table, again and again.
		fragment := bytes.Repeat([]byte{0x00, 0x01, 'x', 0x01, 'y'}, 3000)
		for total := 0; total < limit; total += len(fragment) {
			if p.WriteContinuation(1, false, fragment) != nil {
				cut.Add(1)
				return
			}
			sent.Add(int64(len(fragment)))
		}
	})
	return fmt.Sprintf("%d MiB sent, %d of %d connections cut off", sent.Load()>>20, cut.Load(), count)
}

// headerBombs sends header blocks that are small on the wire and large when
// decoded: one long value in the table, named thousands of times.
func headerBombs(a *arena) string {
	const count, requests = 20, 200
	var sent atomic.Int64
	attackers(count, func(int) {
		p, err := a.http2()
		if err != nil {
			return
		}
		go drain(p.Conn)
		for i := range uint32(requests) {
			block := bytes.Clone(p.post("TalkService/FetchOps", "", hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 3000)}))
			block = append(block, bytes.Repeat([]byte{0x80 | 62}, 12_000)...) // 36 MB decoded
			if p.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndHeaders: true, EndStream: true}) != nil {
				return
			}
			sent.Add(1)
		}
	})
	return fmt.Sprintf("%d header blocks of 36 MB sent", sent.Load())
}

func controlFloods(a *arena) string {
	const count = 15
	var sent atomic.Int64
	token := a.server.SignIn("alice", "flood").GetAccessToken()
	attackers(count, func(i int) {
		p, err := a.http2()
		if err != nil {
			return
		}
		if i%2 == 0 { // the others never read the answers
			go drain(p.Conn)
		}
		flood := []func() error{
			func() error { return p.WritePing(false, [8]byte{}) },
			func() error { return p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}) },
			func() error { return p.WriteData(1, false, nil) },
		}[i%3]
		header := http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.post("TalkService/SendMessage", token), EndHeaders: true}
		if p.WriteHeaders(header) != nil {
			return
		}
		for end := time.Now().Add(attackTime / 2); time.Now().Before(end); {
			if flood() != nil {
				return
			}
			sent.Add(1)
		}
	})
	return fmt.Sprintf("%d frames sent on %d connections", sent.Load(), count)
}

func hugeBodies(a *arena) string {
	const count, limit = 20, 16 << 20
	var sent atomic.Int64
	token := a.server.SignIn("alice", "huge").GetAccessToken()
	attackers(count, func(i int) {
		conn, err := a.dial()
		if err != nil {
			return
		}
		go drain(conn)
		bearer := []string{token, "nonsense"}[i%2]
		_, err = fmt.Fprintf(conn, "POST /tegami.v1.TalkService/SendMessage HTTP/1.1\r\nHost: tegami\r\n"+
			"Content-Type: application/proto\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", bearer, limit)
		for chunk := make([]byte, 64<<10); err == nil && sent.Load() < count*limit; {
			var n int
			n, err = conn.Write(chunk)
			sent.Add(int64(n))
		}
	})
	return fmt.Sprintf("%d MiB sent in %d requests", sent.Load()>>20, count)
}

func otherProtocols(a *arena) string {
	openings := []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // the start of a TLS handshake
		"SSH-2.0-OpenSSH_9.6\r\n",
		"GET / HTTP/0.9\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", // a preface without its end
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		strings.Repeat("A", 100_000),
	}
	const each = 25
	var sent atomic.Int64
	attackers(each*len(openings), func(i int) {
		conn, err := a.dial()
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, openings[i%len(openings)]); err == nil {
			sent.Add(1)
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	return fmt.Sprintf("%d openings sent", sent.Load())
}
