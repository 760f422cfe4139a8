package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is how long a changed certificate may go unnoticed.
const certificateCheck = 5 * time.Second

// certificate is a certificate that is read again when its files change. It is
// safe for concurrent use.
type certificate struct {
	files TLSFiles
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	version [2]fileVersion // of the files that current was read from
	checked time.Time
}

// fileVersion tells one content of a file from the next.
type fileVersion struct {
	modified time.Time
	size     int64
}

func loadCertificate(files TLSFiles, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log}
	if err := c.reload(); err != nil {
		return nil, fmt.Errorf("server: TLS certificate: %w", err)
	}
	return c, nil
}

// config returns the TLS configuration of a listener.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: c.get,
	}
}

// get returns the certificate for a handshake. Files that cannot be read leave
// the last good one in place.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) >= certificateCheck {
		if err := c.reload(); err != nil {
			c.log.Error("certificate not reloaded, the last one stays", "error", err)
		}
	}
	return c.current, nil
}

// reload reads the files if they have changed. The caller holds the lock, or
// has the certificate to itself.
func (c *certificate) reload() error {
	c.checked = time.Now()
	var version [2]fileVersion
	for i, path := range []string{c.files.Cert, c.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		version[i] = fileVersion{modified: info.ModTime(), size: info.Size()}
	}
	if version == c.version {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return err
	}
	c.current, c.version = &pair, version
	return nil
}
