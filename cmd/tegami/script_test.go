package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tegami-im/tegami/test/process"
)

// awaitLimit is how long a script waits for something before it fails.
const awaitLimit = 60 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tegami": main})
}

// The scripts in testdata use the program as people do. Each has addresses of
// its own in ADDR and ADMIN, the server's URL in TEGAMI_URL, and these commands
// beside testscript's:
//
//	exits CODE PROGRAM ARGS…   runs a program that must exit with the code
//	ready                      waits until the server is ready
//	await FILE REGEXP          waits until a file has matching text
//	certificate CERT KEY       makes a certificate for 127.0.0.1, good for an hour
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"ready": ready,
			"await": await,

			"certificate": certificate,
		},
	})
}

func setUp(env *testscript.Env) error {
	for _, name := range []string{"ADDR", "ADMIN"} {
		address, err := process.FreeAddress(context.Background())
		if err != nil {
			return err
		}
		env.Setenv(name, address)
	}
	env.Setenv("TEGAMI_URL", "http://"+env.Getenv("ADDR"))
	env.Setenv("TEGAMI_CREDENTIALS", env.WorkDir+"/credentials.json")
	return nil
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	probe := func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ts.Getenv("ADMIN")+"/readyz", http.NoBody)
		ts.Check(err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	}
	if !eventually(probe) {
		ts.Fatalf("not ready after %v", awaitLimit)
	}
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	var content []byte
	matches := func() bool {
		content, err = os.ReadFile(ts.MkAbs(args[0])) // what makes it may not run yet
		return err == nil && pattern.Match(content)
	}
	if !eventually(matches) {
		ts.Fatalf("%s has no %q after %v: %v\n%s", args[0], args[1], awaitLimit, err, content)
	}
}

func certificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: certificate CERT KEY")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	ts.Check(err)
	key, err := x509.MarshalPKCS8PrivateKey(private)
	ts.Check(err)
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: cert}, {Type: "PRIVATE KEY", Bytes: key}} {
		ts.Check(os.WriteFile(ts.MkAbs(args[i]), pem.EncodeToMemory(block), 0o600))
	}
}

func eventually(holds func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(awaitLimit); time.Now().Before(deadline); <-tick.C {
		if holds() {
			return true
		}
	}
	return false
}
