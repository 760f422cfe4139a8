package bench

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/bench/target"
)

// fakeVariable has the test binary be a server: "good", or one that "forgets"
// what it acknowledged when it is killed.
const fakeVariable = "TEGAMI_BENCH_FAKE"

func TestMain(m *testing.M) {
	if kind := os.Getenv(fakeVariable); kind != "" {
		if err := serveFake(kind); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// serveFake is `serve` of the fake server: its messages are lines of a file.
func serveFake(kind string) error {
	var line struct {
		Serve struct {
			Data, Listen, Admin string
		} `cmd:""`
	}
	kong.Parse(&line)
	if err := os.MkdirAll(line.Serve.Data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(line.Serve.Data, "admin.token"), []byte("admin\n"), 0o600); err != nil {
		return err
	}
	f := newFake()
	journal := filepath.Join(line.Serve.Data, "journal")
	if err := f.replay(journal); err != nil {
		return err
	}
	file, err := os.OpenFile(journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.keep = func(message *tegamiv1.Message) {
		data, _ := proto.Marshal(message)
		if kind == "good" || len(data)%10 != 0 {
			_, _ = file.WriteString(base64.StdEncoding.EncodeToString(data) + "\n")
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 2)
	for _, address := range []string{line.Serve.Listen, line.Serve.Admin} {
		server := &http.Server{Addr: address, Handler: f.handler(), Protocols: fakeProtocols(), ReadHeaderTimeout: time.Minute}
		go func() { ended <- server.ListenAndServe() }()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (f *fakeServer) replay(journal string) error {
	file, err := os.Open(journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		message := &tegamiv1.Message{}
		data, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil || proto.Unmarshal(data, message) != nil {
			continue // cut off by the kill
		}
		for user, op := range map[string]*tegamiv1.Operation{message.To: receive(message), message.From: sent(message)} {
			if f.mailboxes[user] == nil {
				f.mailboxes[user] = newFakeMailbox()
			}
			f.mailboxes[user].add(op)
		}
	}
	return nil
}

// own is a configuration with a server of our own: this binary.
func own(t *testing.T, kind string, scenario Scenario) Config {
	t.Helper()
	return Config{
		Server: Server{Options: target.Options{
			Parent: t.TempDir(), Env: []string{fakeVariable + "=" + kind},
		}},
		Scenario: scenario,
	}
}

func TestRestartOfAGoodServer(t *testing.T) {
	config := own(t, "good", &Restart{Records: 400, Users: 20, Window: 4})
	result, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	r := result.Restart
	if result.Faults.Any() || r.Messages < 200 || r.Records != 2*r.Messages || r.KilledStart <= 0 || r.CleanStart <= 0 {
		t.Errorf("%+v, faults %v", r, result.Faults)
	}
	if left, err := os.ReadDir(config.Server.Options.Parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRestartOfAServerThatForgets(t *testing.T) {
	result, err := Run(t.Context(), own(t, "forgets", &Restart{Records: 400, Users: 20, Window: 4}))
	if err != nil {
		t.Fatal(err)
	}
	if result.Faults.Lost == 0 && result.Faults.Gaps == 0 {
		t.Errorf("found %v", result.Faults)
	}
}

func TestPlanMeasuresHalfOfWhatSaturationReached(t *testing.T) {
	load := short()
	plan := Plan{
		Saturation: &Saturation{Load: load, Window: 1},
		Half:       &Rate{Load: load},
		Alone:      &Held{Connections: 3, Streams: 1},
		Accounts:   &Accounts{Accounts: 20, Active: 4},
	}
	r, err := plan.run(t.Context(), own(t, "good", nil).Server, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.half.Messages.Rate, r.saturation.Messages.AckedPerSecond/2; got != want {
		t.Errorf("half is %v, want %v", got, want)
	}
	if r.low != nil || r.shared != nil || r.restart != nil {
		t.Error("what was left out was run")
	}
	if r.accounts.Accounts.CleanStart <= 0 || r.accounts.Accounts.StartMemory <= 0 || r.alone.Held.Before <= 0 {
		t.Errorf("accounts %+v, held %+v", r.accounts.Accounts, r.alone.Held)
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	config := own(t, "good", low())
	config.Server.Options.Flags = []string{"--no-such-flag"}
	if _, err := Run(t.Context(), config); err == nil {
		t.Error("a server that did not start was measured")
	}
}
