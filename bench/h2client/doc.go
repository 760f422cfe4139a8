// Package h2client is an HTTP/2 client for load generators: so cheap that a
// benchmark on the server's own machine measures the server.
//
// Three things make it so. Each connection has one goroutine, which reads;
// there is none for a request, held or not. An answer is a callback, so a
// held long-poll is one entry of a map. And what repeats from request to
// request (path, token, content type) is sent as HPACK index bytes.
//
// It does what the protocol asks of a client: flow control both ways, answers
// to PING and SETTINGS, GOAWAY, RST_STREAM, CONTINUATION, interim answers and
// trailers. It sends POST only, and does not pool, retry or redirect.
package h2client
