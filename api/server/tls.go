package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/tegami-im/tegami/config/reload"
)

// certificate is a certificate that is read again when its files change. It is
// safe for concurrent use.
type certificate struct {
	*reload.Value[*tls.Certificate]
}

func loadCertificate(files TLSFiles, log *slog.Logger) (*certificate, error) {
	value, err := reload.New([]string{files.Cert, files.Key}, log, func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		return &pair, err
	})
	if err != nil {
		return nil, fmt.Errorf("server: TLS certificate: %w", err)
	}
	return &certificate{value}, nil
}

// config returns the TLS configuration of a listener.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: c.get,
	}
}

// get returns the certificate for a handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Get(), nil }
