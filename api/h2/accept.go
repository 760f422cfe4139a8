package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"

	"golang.org/x/net/http2"
)

// accept takes a new connection.
func (s *Server) accept(nc net.Conn) {
	if s.open.Add(1) > int64(s.opts.MaxConnections) {
		s.open.Add(-1)
		s.refuse(nc, false)
		return
	}
	secure, isSecure := nc.(*tls.Conn)
	if isSecure && s.shakes.Add(1) > int64(s.opts.MaxHandshakes) {
		s.shakes.Add(-1)
		s.open.Add(-1)
		s.refuse(secure.NetConn(), true)
		return
	}
	c := newConn(s, nc)
	known, last := s.know(c)
	if !known {
		if isSecure {
			s.shakes.Add(-1)
		}
		s.open.Add(-1)
		_ = nc.Close()
		return
	}
	if last {
		c.drain()
	}
	if isSecure {
		// On a goroutine that has grown its stack already. That of the reader
		// would keep what it needed for this.
		s.pool.start(taskFunc(func() {
			c.handshake(secure)
			s.shakes.Add(-1)
		}))
		return
	}
	go c.greet()
}

// refuse closes a connection that is one too many.
func (s *Server) refuse(nc net.Conn, handshake bool) {
	_ = nc.Close()
	if s.opts.Refused != nil {
		s.opts.Refused(handshake)
	}
}

// handshake finds out by ALPN what a TLS client speaks. The sweep ends one that
// takes too long.
func (c *conn) handshake(secure *tls.Conn) {
	err := secure.HandshakeContext(context.Background())
	state := secure.ConnectionState()
	switch {
	case err != nil:
		_ = c.net.Close()
		c.server.forget(c)
	case state.NegotiatedProtocol != http2.NextProtoTLS:
		c.handOver(nil)
	default:
		c.secure = true
		c.weak = state.Version < tls.VersionTLS12 || state.Version == tls.VersionTLS12 && !slices.Contains(strongSuites, state.CipherSuite)
		go c.greet()
	}
}

// strongSuites are the cipher suites of TLS 1.2 that HTTP/2 allows (RFC 9113,
// 9.2.2), of those that Go has.
var strongSuites = []uint16{
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}

// greet reads the preface, by which a cleartext client tells that it speaks
// HTTP/2, and then serves, on this goroutine. The sweep ends a client that
// takes too long.
func (c *conn) greet() {
	const preface = http2.ClientPreface
	for c.to < len(preface) {
		n, err := c.net.Read(c.in[c.to:])
		c.to += n
		if !bytes.HasPrefix(c.in[:c.to], []byte(preface)[:min(c.to, len(preface))]) {
			if c.secure { // it said that it speaks HTTP/2
				_ = c.net.Close()
				c.server.forget(c)
				return
			}
			c.handOver(bytes.Clone(c.in[:c.to]))
			return
		}
		if err != nil && c.to < len(preface) {
			_ = c.net.Close()
			c.server.forget(c)
			return
		}
	}
	c.from = len(preface)
	c.serve()
}

// handOver gives a connection to HTTP/1.1 with what was read of it.
func (c *conn) handOver(read []byte) {
	if c.server.opts.HTTP1 == nil {
		_ = c.net.Close()
		c.server.forget(c)
		return
	}
	other := &handedOver{Conn: c.net, read: read, ended: func() { c.server.open.Add(-1) }}
	c.server.disown(c)
	c.server.opts.HTTP1(other)
}

// handedOver is a connection that speaks HTTP/1.1.
type handedOver struct {
	net.Conn

	read  []byte // what it sent so far
	once  sync.Once
	ended func()
}

// Read implements net.Conn.
func (h *handedOver) Read(p []byte) (int, error) {
	if len(h.read) == 0 {
		return h.Conn.Read(p)
	}
	n := copy(p, h.read)
	h.read = h.read[n:]
	if len(h.read) == 0 {
		h.read = nil
	}
	return n, nil
}

// Close implements net.Conn.
func (h *handedOver) Close() error {
	h.once.Do(h.ended)
	return h.Conn.Close()
}

// CloseWrite says that nothing more will come, as net/http does before it
// closes.
func (h *handedOver) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
