package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/tegami-im/tegami/internal/fleet"
	"github.com/tegami-im/tegami/telemetry"
)

// adminHandlers are served on the admin listener beside AdminService. Those
// that only read need no token, so that probes and scrapers work; the listener
// is on loopback or in a private network.
func (s *service) adminHandlers(metrics *telemetry.Metrics, token string) map[string]http.Handler {
	handlers := probes(metrics.Handler(), s.readiness)
	handlers["GET "+fleet.InfoPath] = http.HandlerFunc(s.nodeInfo)
	handlers["POST /debug/free-memory"] = bearer(token, http.HandlerFunc(freeMemory))
	if s.storage != nil {
		handlers["GET "+fleet.BusyPath] = bearer(token, http.HandlerFunc(s.busy))
		handlers["POST /admin/backup"] = bearer(token, http.HandlerFunc(s.backup))
		handlers["POST /admin/correct"] = bearer(token, http.HandlerFunc(s.correct))
	}
	if s.membership != nil {
		handlers["POST /admin/drain"] = bearer(token, s.drainSelf(drainer.Drain))
		handlers["POST /admin/undrain"] = bearer(token, s.drainSelf(drainer.Undrain))
	}
	return handlers
}

// probes are what every process answers to probes, scrapers and profilers.
func probes(metrics http.Handler, readiness http.HandlerFunc) map[string]http.Handler {
	return map[string]http.Handler{
		"/metrics":             metrics,
		"/healthz":             http.HandlerFunc(health),
		"/readyz":              readiness,
		"/debug/pprof/":        http.HandlerFunc(pprof.Index),
		"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
	}
}

// health answers that the process serves.
func health(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }

// readiness answers whether requests of clients would be served.
func (s *service) readiness(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.api.Ready():
		_, _ = io.WriteString(w, "ready\n")
	case len(s.node.Halted()) > 0:
		http.Error(w, "shards wait for an operator: see the log", http.StatusServiceUnavailable)
	default:
		http.Error(w, "not ready", http.StatusServiceUnavailable)
	}
}

// freeMemory collects three times: a collection halves a stack that is mostly
// unused, and pools let go of what they hold with the second.
func freeMemory(http.ResponseWriter, *http.Request) {
	for range 3 {
		debug.FreeOSMemory()
	}
}

// backup copies the data folder to a folder of this machine.
func (s *service) backup(w http.ResponseWriter, r *http.Request) {
	to := r.URL.Query().Get("dir")
	if !filepath.IsAbs(to) {
		http.Error(w, "dir must be an absolute path", http.StatusBadRequest)
		return
	}
	if s.storage.embedded == nil {
		http.Error(w, "only a data folder is backed up here: use what Kafka and HBase offer", http.StatusNotImplemented)
		return
	}
	err := s.storage.embedded.Backup(r.Context(), to)
	if err == nil {
		err = copySecrets(s.config.Data.Dir, to)
	}
	if err != nil {
		s.log.Error("backup failed", "dir", to, "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.log.Info("backed up", "dir", to)
	_, _ = io.WriteString(w, "ok\n")
}

// copySecrets copies the signing key and the admin token, so that devices stay
// signed in after a restore.
func copySecrets(from, to string) error {
	for _, name := range []string{signingKeyFile, adminTokenFile} {
		secret, err := os.ReadFile(filepath.Join(from, name)) //nolint:gosec // the operator's own folder
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = os.WriteFile(filepath.Join(to, name), secret, 0o600) //nolint:gosec // whoever names it has the admin token
		if err != nil {
			return err
		}
	}
	return nil
}

// bearer lets those in who have the token.
func bearer(token string, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		presented, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(presented))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			http.Error(w, "the admin token is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
