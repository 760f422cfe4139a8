// Package bench measures a Tegami server: how many messages it carries and
// how fast, what they cost it in CPU time and fsyncs, what a held poll and an
// account cost it in memory, and how long it takes to start. It also checks
// every message that it sent: acknowledged ones must be there exactly once, in
// order, unchanged. A run with a fault is a failed run.
//
// It starts a server of its own as a child process, or attaches to one that
// runs. Client and server share a machine as a rule, so the client is made to
// take little of it (package h2client), and reports what it took.
//
// Latencies count from the moment at which a message was due. With a fixed
// rate (an open loop) they are free of coordinated omission: a server that
// stalls gets no rest from a client that waits for it.
package bench
