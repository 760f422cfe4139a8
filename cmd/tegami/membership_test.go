package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tegami-im/tegami/cluster"
)

// The members are those of the namespace's Leases, read as a service account.
func TestClusterStatusFromKubernetes(t *testing.T) {
	member, err := cluster.EncodeMember(cluster.Member{
		Name: "talk-0", Address: "10.1.2.3:7500", Role: cluster.RoleTalk, State: cluster.StateActive, Weight: 100, Version: "v1",
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis/coordination.k8s.io/v1/namespaces/chat/leases", func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization") + r.FormValue("labelSelector"); got != "Bearer secrettegami.im/cluster=night" {
			t.Errorf("asked with %q", got)
		}
		if r.FormValue("watch") == "true" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"metadata": map[string]string{"resourceVersion": "77"},
			"items": []any{map[string]any{
				"metadata": map[string]any{"name": "talk-0.1", "annotations": map[string]string{"tegami.im/member": string(member)}},
				"spec":     map[string]string{"holderIdentity": "talk-0.1"},
			}},
		})
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	for file, content := range map[string][]byte{
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), token: []byte("secret\n"),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := []string{
		"--set", "cluster.membership=kubernetes", "--set", "cluster.kubernetes_server=" + server.URL,
		"--set", "cluster.kubernetes_namespace=chat", "--set", "cluster.kubernetes_cluster=night",
		"--set", "cluster.kubernetes_token_file=" + token, "--set", "cluster.kubernetes_ca=" + ca,
	}
	var out, problems bytes.Buffer
	code := run(t.Context(), append([]string{"cluster", "status"}, settings...), streams{strings.NewReader(""), &out, &problems})
	if code != 0 || !strings.Contains(out.String(), "talk-0  talk  active  256") || !strings.Contains(out.String(), "at revision 77") {
		t.Errorf("exit code %d\n%s%s", code, out.String(), problems.String())
	}
	// What operators want is kept in etcd alone.
	problems.Reset()
	code = run(t.Context(), append([]string{"cluster", "drain", "talk-0"}, settings...), streams{strings.NewReader(""), &out, &problems})
	if code != codeUsage || !strings.Contains(problems.String(), "scale the StatefulSet") {
		t.Errorf("exit code %d: %s", code, problems.String())
	}
}
