package correct

import (
	"bufio"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
)

// audit is a worker that audits what is stored.
type audit struct {
	t     *testing.T
	admin string
}

// audited has a worker audit all that is stored, once, and returns how much it
// found wrong.
func audited(t *testing.T, tl tool) int {
	t.Helper()
	command := process.Command(t, tl.binary, "worker", "--config", tl.file, "--set", "data.dir="+t.TempDir(),
		"--set", "worker.listen=127.0.0.1:0", "--set", "audit.rate=50000")
	printed, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	line, err := bufio.NewReader(printed).ReadString('\n')
	if err != nil {
		t.Fatalf("the worker says nothing: %v", err)
	}
	address := regexp.MustCompile(`the audit, for operators on http://(\S+)\.\n`).FindStringSubmatch(line)
	if address == nil {
		t.Fatalf("the worker says %q", line)
	}
	a := &audit{t, address[1]}
	for deadline := time.Now().Add(hangLimit); a.count("rounds") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the audit does not come round")
		}
		<-time.After(100 * time.Millisecond)
	}
	return a.count("findings")
}

// count returns a counter of the audit: 0 before it has begun, which it does when
// it has reached the stores.
func (a *audit) count(name string) int {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, "http://"+a.admin+"/metrics", http.NoBody)
	if err != nil {
		a.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	value := regexp.MustCompile(`(?m)^tegami_audit_` + name + `_total (\S+)$`).FindSubmatch(page)
	if value == nil {
		return 0
	}
	count, err := strconv.ParseFloat(string(value[1]), 64)
	if err != nil {
		a.t.Fatal(err)
	}
	return int(count)
}
