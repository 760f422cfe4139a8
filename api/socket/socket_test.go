package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tegami-im/tegami/api/socket"
)

// patience ends a test that waits for what never comes.
const patience = 10 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func offer(t *testing.T, path string, sockets map[string]net.Listener) *socket.Offer {
	t.Helper()
	o, err := socket.NewOffer(path, sockets, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func take(t *testing.T, path string) *socket.Taken {
	t.Helper()
	taken, err := socket.Take(within(t), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = taken.Close()
		for _, l := range taken.Listeners {
			_ = l.Close()
		}
	})
	return taken
}

// A client that connects while nobody accepts is served by the successor, also
// when the predecessor has closed the socket.
func TestASuccessorHasTheSameSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takeover.sock")
	public, admin := listen(t), listen(t)
	o := offer(t, path, map[string]net.Listener{"public": public, "admin": admin})
	client, err := net.Dial("tcp", public.Addr().String()) //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	taken := take(t, path)
	select {
	case <-o.Taken():
		t.Fatal("taken before the successor serves")
	default:
	}
	if err := taken.Done(within(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.Taken():
	case <-time.After(patience):
		t.Fatal("the predecessor does not hear of it")
	}
	_ = public.Close()
	for name, old := range map[string]net.Listener{"public": public, "admin": admin} {
		if got := taken.Listeners[name]; got == nil || got.Addr().String() != old.Addr().String() {
			t.Errorf("%s: got %v", name, got)
		}
	}
	served, err := taken.Listeners["public"].Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = served.Write([]byte("x"))
	_ = served.Close()
	if got, err := io.ReadAll(client); string(got) != "x" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	// The successor can be succeeded at once.
	offer(t, path, taken.Listeners)
}

func TestASuccessorThatDoesNotComeUpIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takeover.sock")
	o := offer(t, path, map[string]net.Listener{"public": listen(t)})
	if err := take(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.Taken():
		t.Fatal("taken by one that went away")
	default:
	}
	if err := take(t, path).Done(within(t)); err != nil {
		t.Fatal(err)
	}
	<-o.Taken()
}

// One that has the sockets and hangs does not keep the next one out. When it goes
// on, it hears that it is too late.
func TestASuccessorThatHangsIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takeover.sock")
	o, err := socket.NewOffer(path, map[string]net.Listener{"public": listen(t)}, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	hangs := take(t, path)
	next := take(t, path)
	if err := hangs.Done(within(t)); err == nil {
		t.Error("one that hung took over")
	}
	for next.Done(within(t)) != nil { // it was too slow, too
		next = take(t, path)
	}
	<-o.Taken()
}

func TestNobodyOffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takeover.sock")
	if _, err := socket.Take(within(t), path); !errors.Is(err, socket.ErrNobody) {
		t.Errorf("nothing is there: %v", err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close() // as of a process that was killed
	if _, err := socket.Take(within(t), path); !errors.Is(err, socket.ErrNobody) {
		t.Errorf("a socket that nobody has open: %v", err)
	}
	offer(t, path, map[string]net.Listener{"public": listen(t)})
	if _, err := socket.NewOffer(path, nil, patience); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("an offer beside another: %v", err)
	}
}

// What is at the path may be anything.
func TestANonsensicalPredecessorIsAnError(t *testing.T) {
	for name, says := range map[string]string{"nothing": "", "no sockets": `["public"]`, "garbage": "\x00{"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "takeover.sock")
			l, err := net.Listen("unix", path) //nolint:noctx // a test's own
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if conn, err := l.Accept(); err == nil {
					_, _ = io.WriteString(conn, says)
					_ = conn.Close()
				}
			}()
			if _, err := socket.Take(within(t), path); err == nil || errors.Is(err, socket.ErrNobody) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// activated has the test run itself as a process that systemd starts.
const activated = "TEGAMI_TEST_ACTIVATED"

func TestActivated(t *testing.T) {
	if os.Getenv(activated) != "" {
		serveActivated(t)
		return
	}
	l := listen(t)
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// As systemd does it: the process id is that of the program.
	command := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run='^TestActivated$'`, os.Args[0])
	command.Env = append(os.Environ(), activated+"=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=public")
	command.ExtraFiles = []*os.File{file}
	client, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if got, err := io.ReadAll(client); string(got) != "activated" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func serveActivated(t *testing.T) {
	listeners, err := socket.Activated()
	if err != nil || listeners["public"] == nil {
		t.Fatalf("got %v, %v", listeners, err)
	}
	conn, err := listeners["public"].Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "activated")
	_ = conn.Close()
	if again, err := socket.Activated(); again != nil || err != nil {
		t.Errorf("the second time: %v, %v", again, err)
	}
}

func TestNotActivated(t *testing.T) {
	for name, c := range map[string]struct {
		variables map[string]string
		fails     bool
	}{
		"no variables":      {map[string]string{"LISTEN_PID": ""}, false},
		"no sockets":        {map[string]string{"LISTEN_FDS": "0", "LISTEN_FDNAMES": ""}, false},
		"another process's": {map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "public"}, false},
		"no number":         {map[string]string{"LISTEN_FDS": "x"}, true},
		"too many":          {map[string]string{"LISTEN_FDS": "1000"}, true},
		"names are missing": {map[string]string{"LISTEN_FDS": "2", "LISTEN_FDNAMES": "public"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
			for name, value := range c.variables {
				t.Setenv(name, value)
			}
			if got, err := socket.Activated(); got != nil || (err != nil) != c.fails {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
