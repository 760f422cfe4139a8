//go:build !race

// The library replaces gRPC's global logger whenever a node listens, while the
// connections of another use it: the race detector sees that in every test.

package remote_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/remote"
)

// authority signs the certificates of nodes.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.certificate, a.key = a.issue(&x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	})
	return a
}

// issue signs a certificate, its own if there is none yet.
func (a *authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	parent, signer := template, key
	if a.certificate != nil {
		parent, signer = a.certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate, key
}

// node returns what a node with a certificate until a moment has, which trusts
// this authority. The test's frames are from node "a".
func (a *authority) node(until time.Time, names ...string) *tls.Config {
	if names == nil {
		names = []string{remote.Identity{Role: cluster.RoleTalk, Name: "a"}.URI().String()}
	}
	var uris []*url.URL
	for _, name := range names {
		uri, err := url.Parse(name)
		if err != nil {
			a.t.Fatal(err)
		}
		uris = append(uris, uri)
	}
	certificate, key := a.issue(&x509.Certificate{
		NotAfter: until, URIs: uris, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}},
	}
}

func secure(t *testing.T, settings *tls.Config) end {
	t.Helper()
	return listenWith(t, remote.Options{Listen: "127.0.0.1:0", TLS: settings})
}

func TestNodesOfOneAuthorityTalk(t *testing.T) {
	a := newAuthority(t)
	later := time.Now().Add(time.Hour)
	one, two := secure(t, a.node(later)), secure(t, a.node(later))
	one.Send(two.Address(), page(1, 10))
	two.next(t)
	two.Send(one.Address(), page(2, 10))
	one.next(t)
}

func TestWhoHasNoCertificateOfTheAuthorityIsRefused(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	node := secure(t, a.node(later))
	trusting := a.node(later).RootCAs
	for name, client := range map[string]*tls.Config{
		"no certificate":             {},
		"a certificate of another":   other.node(later),
		"a certificate that expired": a.node(time.Now().Add(-time.Hour)),
		"a certificate of no node":   a.node(later, []string{}...),
		"a certificate of a client":  a.node(later, "https://example.com/alice"),
		"another role":               a.node(later, "tegami://king/a"),
		"a role without a name":      a.node(later, "tegami://talk/"),
	} {
		t.Run(name, func(t *testing.T) {
			settings := client.Clone()
			settings.RootCAs, settings.NextProtos, settings.MinVersion = trusting, []string{"h2"}, tls.VersionTLS13
			dialer := &tls.Dialer{Config: settings}
			connection, err := dialer.DialContext(t.Context(), "tcp", node.Address())
			if err == nil { // the refusal comes after the client's part
				defer connection.Close()
				_ = connection.SetReadDeadline(time.Now().Add(patience))
				_, err = connection.Read(make([]byte, 1))
			}
			if alert := tls.AlertError(0); !errors.As(err, &alert) && !errors.As(err, new(*net.OpError)) {
				t.Errorf("got %v", err)
			}
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				t.Error("it was not refused")
			}
		})
	}
	one := secure(t, a.node(later))
	one.Send(node.Address(), page(1, 10))
	node.next(t)
}

func TestANodeSpeaksInItsOwnNameAlone(t *testing.T) {
	a := newAuthority(t)
	later := time.Now().Add(time.Hour)
	node, impostor := secure(t, a.node(later)), secure(t, a.node(later, "tegami://talk/b"))
	impostor.Send(node.Address(), &wire.Frame{From: "a.1", Number: 1})
	for n := uint64(2); ; n++ { // until there is a connection again
		impostor.Send(node.Address(), &wire.Frame{From: "b.1", Number: n})
		select {
		case got := <-node.frames:
			if got.GetFrom() != "b.1" {
				t.Errorf("a frame of %q was heard of b", got.GetFrom())
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
		if n > 200 {
			t.Fatal("its own name was not heard either")
		}
	}
}

func TestListenRefusesTLSThatVerifiesNobody(t *testing.T) {
	settings := newAuthority(t).node(time.Now().Add(time.Hour))
	settings.ClientAuth = tls.NoClientCert
	if _, err := remote.Listen(remote.Options{Listen: "127.0.0.1:0", TLS: settings}); !errors.Is(err, remote.ErrUnverified) {
		t.Errorf("got %v", err)
	}
}

// A node's certificate has expired, and then it has another: for the next
// connection, without a restart.
func TestCertificatesAreRenewedWhileANodeRuns(t *testing.T) {
	a := newAuthority(t)
	var settings atomic.Pointer[tls.Config]
	settings.Store(a.node(time.Now().Add(-time.Hour)))
	log := new(lockedBuffer)
	node := listenWith(t, remote.Options{
		Listen: "127.0.0.1:0", TLS: settings.Load(), Renewed: settings.Load, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	other := secure(t, a.node(time.Now().Add(time.Hour)))
	sendUntil := func(from, to end, done func() bool) {
		t.Helper()
		for n := uint64(1); !done(); n++ {
			from.Send(to.Address(), page(n, 10))
			<-time.After(50 * time.Millisecond)
			if n > 400 {
				t.Fatal("it does not come to that")
			}
		}
	}
	sendUntil(other, node, func() bool { return strings.Contains(log.String(), "is refused") })
	if len(node.frames) > 0 {
		t.Error("a frame came over a connection to a node whose certificate has expired")
	}
	settings.Store(a.node(time.Now().Add(time.Hour)))
	sendUntil(other, node, func() bool { return len(node.frames) > 0 })
	sendUntil(node, other, func() bool { return len(other.frames) > 0 })
}

// A gateway that is not what it was, with a certificate that is good, can ask as
// gateways do, and not speak as the owner of a shard.
func TestAGatewayCannotSpeakAsAnOwner(t *testing.T) {
	a := newAuthority(t)
	later := time.Now().Add(time.Hour)
	log := new(lockedBuffer)
	node := listenWith(t, remote.Options{Listen: "127.0.0.1:0", TLS: a.node(later), Logger: slog.New(slog.NewTextHandler(log, nil))})
	gateway := secure(t, a.node(later, "tegami://gateway/a"))
	followUps := &wire.Frame{From: "a", Number: 1, Messages: []*wire.Message{{Kind: &wire.Message_FollowUps{FollowUps: &wire.FollowUps{}}}}}
	fetch := func(n uint64) *wire.Frame {
		return &wire.Frame{From: "a", Number: n, Messages: []*wire.Message{{Kind: &wire.Message_Fetch{Fetch: &wire.Fetch{}}}}}
	}
	gateway.Send(node.Address(), fetch(1))
	node.next(t)
	gateway.Send(node.Address(), followUps)
	for n := uint64(2); ; n++ { // until there is a connection again
		gateway.Send(node.Address(), fetch(n))
		select {
		case got := <-node.frames:
			if got.GetMessages()[0].GetFetch() == nil {
				t.Errorf("came through: %v", got)
			}
			if !strings.Contains(log.String(), "follow_ups") {
				t.Error("nothing is said of it")
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
		if n > 200 {
			t.Fatal("the gateway is not heard any more")
		}
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
