// Package h2 is the server side of HTTP/2 (RFC 9113), for a server that holds
// many requests open and answers each with a little: it knows no method and no
// encoding of what it carries.
//
// # What a connection costs
//
// A connection is one goroutine, which reads, and one struct with a buffer of
// 1 KiB, through which every frame passes. A request that waits for its answer
// is an entry in the connection's map of streams. No goroutine waits for it:
// [Stream.Answer], called from wherever the answer came from, puts the stream
// into the connection's queue, and a kept goroutine of the server's is lent to
// the connection as its writer for as long as there is something to write. All
// that is in the queue by then leaves in one write. The writer's buffers go
// back with it, so a connection that waits has none.
//
// Frames are read here and not by [http2.Framer]: that keeps a buffer as large
// as the largest frame it met, up to 16 KiB for each connection, and allocates
// each frame. Header blocks are decoded as they come through the small buffer,
// and bodies are read to where they are wanted. What is sent needs no table:
// fields are static references and literals, so any writer can encode for any
// connection.
//
// # Two ways through
//
// [Options.Route] may take a request as an [Exchange], whose methods are the
// steps of a request and are called one after the other, never two at a time,
// whatever the client does meanwhile. What it does not take is served by an
// [http.Handler] on a goroutine, with its answer collected before it is
// written.
//
// # Who may hold what
//
// Everything that a client can make the server keep has a bound: streams,
// header blocks, bodies, frames that answer its own (PING, SETTINGS, resets),
// answers that it does not take, handlers of requests that it reset. A client
// that goes over is told ENHANCE_YOUR_CALM and loses the connection, or for one
// request REFUSED_STREAM, which tells it that nothing was done. Time is watched
// by one sweep over all connections and not by timers.
package h2
