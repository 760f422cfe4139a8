package main

import (
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/api/socket"
	"github.com/tegami-im/tegami/config"
)

// served stands for a server.
type served server.Listeners

func (s served) Sockets() server.Listeners { return server.Listeners(s) }

// A successor that the predecessor has given up finds it serving, and must not
// serve beside it.
func TestASuccessorThatComesTooLateDoesNotServe(t *testing.T) {
	var sockets [2]net.Listener
	for i := range sockets {
		var err error
		if sockets[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil { //nolint:noctx // a test's own
			t.Fatal(err)
		}
		defer sockets[i].Close()
	}
	c := new(config.Config)
	c.Data.Dir = t.TempDir()
	path := filepath.Join(c.Data.Dir, takeoverFile)
	predecessor, err := socket.NewOffer(path, map[string]net.Listener{publicSocket: sockets[0], adminSocket: sockets[1]}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer predecessor.Close()

	s, err := succeed(t.Context(), c, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	next, err := socket.Take(t.Context(), path) // it was given up by then
	if err != nil {
		t.Fatal(err)
	}
	_ = next.Close()
	if _, err := s.begin(t.Context(), served(s.listeners), slog.New(slog.DiscardHandler)); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("it takes over all the same: %v", err)
	}
	select {
	case <-predecessor.Taken():
		t.Error("the predecessor leaves")
	default:
	}
}
