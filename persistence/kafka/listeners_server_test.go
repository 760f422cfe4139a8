//go:build stores

package kafka_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/stack"
)

// The one Kafka of these tests has three listeners: a plain one, one that tells
// its clients the address of a relay, and one with TLS and SASL.
var (
	relayListener         net.Listener
	relayedPort, safePort int
	authority             = x509.NewCertPool()
)

func TestMain(m *testing.M) { stack.Main(m, prepare) }

func prepare(s *stack.Stack) (err error) {
	if relayListener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil { //nolint:noctx // it returns at once
		return err
	}
	if relayedPort, err = stack.FreePort(); err != nil {
		return err
	}
	if safePort, err = stack.FreePort(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Folder(stack.Kafka), 0o700); err != nil {
		return err
	}
	certificate := filepath.Join(s.Folder(stack.Kafka), "server.pem")
	if err := makeCertificate(certificate); err != nil {
		return err
	}
	port, controller := s.Port("KAFKA_PORT"), s.Port("KAFKA_CONTROLLER_PORT")
	s.Set("KAFKA_FORMAT", "--add-scram SCRAM-SHA-256=[name=alice,password=secret] --add-scram SCRAM-SHA-512=[name=alice,password=secret]")
	s.Set("KAFKA_PROPERTIES", strings.Join([]string{
		fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d,RELAYED://127.0.0.1:%d,SAFE://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", port, relayedPort, safePort, controller),
		fmt.Sprintf("advertised.listeners=PLAINTEXT://127.0.0.1:%d,RELAYED://%s,SAFE://127.0.0.1:%d", port, relayListener.Addr(), safePort),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,RELAYED:PLAINTEXT,SAFE:SASL_SSL,CONTROLLER:PLAINTEXT",
		"listener.name.safe.ssl.keystore.type=PEM",
		"listener.name.safe.ssl.keystore.location=" + certificate,
		"listener.name.safe.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.safe.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";",
		"listener.name.safe.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.safe.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
	}, "\n"))
	return nil
}

// makeCertificate writes a key and its own certificate, which the tests trust.
func makeCertificate(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kafka"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	authority.AddCert(parsed)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	content := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	return os.WriteFile(name, content, 0o600)
}
