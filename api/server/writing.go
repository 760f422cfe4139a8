package server

import (
	"sync"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// largeReply is the size from which on a reply counts while it is written.
const largeReply = 64 << 10

// writing knows the devices that a large reply is being written to. Such a
// device gets no other page before it has taken this one: one that polls and
// never reads would else have a page in memory for each of its polls. A client
// that reads never notices, since a reply has ended here before it ends there.
type writing struct {
	mu      sync.Mutex
	devices map[talk.Session]int
}

// refuses returns why a device may not poll now, nil if it may.
func (w *writing) refuses(device talk.Session) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.devices[device] > 0 {
		return refusal.After(refusal.PollTooOften, time.Second)
	}
	return nil
}

// begin notes that a reply of a size is being written, until end is called.
func (w *writing) begin(device talk.Session, size int) (end func()) {
	if size < largeReply {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.devices == nil {
		w.devices = make(map[talk.Session]int)
	}
	w.devices[device]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.devices[device]--; w.devices[device] == 0 {
			delete(w.devices, device)
		}
	}
}
