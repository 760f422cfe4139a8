package authority_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/authority"
	"github.com/tegami-im/tegami/cluster/remote"
)

var node = remote.Identity{Role: cluster.RoleTalk, Name: "talk-1"}

func TestTheAuthoritySignsForNodes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	if err := authority.Create(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again before it expires
		if err := authority.Issue(dir, node, []string{"10.0.0.1", "talk-1.internal"}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "talk-1.pem"), filepath.Join(dir, "talk-1.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		for _, name := range []string{"10.0.0.1", "talk-1.internal"} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Error(err)
			}
		}
	}
	if got, err := remote.IdentityOf(pair.Leaf); err != nil || got != node {
		t.Errorf("the certificate is that of %v, %v", got, err)
	}
	for _, secret := range []string{"ca.key", "talk-1.key"} {
		info, err := os.Stat(filepath.Join(dir, secret))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", secret, info.Mode(), err)
		}
	}
}

// A node keeps the certificate that it has when there is to be none in its place.
func TestACertificateOutlivesAFailedOne(t *testing.T) {
	dir := t.TempDir()
	if err := authority.Create(dir); err != nil {
		t.Fatal(err)
	}
	if err := authority.Issue(dir, node, []string{"10.0.0.1"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := authority.Issue(dir, node, []string{"tälk-1"}, time.Hour); err == nil {
		t.Error("a name that no certificate can have")
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "talk-1.pem"), filepath.Join(dir, "talk-1.key")); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 4 {
		t.Errorf("in the folder are %v, %v", left, err)
	}
}

func TestAnAuthorityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	if err := authority.Create(dir); err != nil {
		t.Fatal(err)
	}
	if err := authority.Create(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func TestIssueRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := authority.Create(dir); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		dir, name string
		addresses []string
	}{
		"no authority":          {t.TempDir(), "talk-1", []string{"10.0.0.1"}},
		"no name":               {dir, "", []string{"10.0.0.1"}},
		"the authority's name":  {dir, "ca", []string{"10.0.0.1"}},
		"the same in capitals":  {dir, "CA", []string{"10.0.0.1"}},
		"a name of a folder":    {dir, "../talk-1", []string{"10.0.0.1"}},
		"a name that is hidden": {dir, ".talk-1", []string{"10.0.0.1"}},
		"no address":            {dir, "talk-1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := authority.Issue(test.dir, remote.Identity{Role: cluster.RoleTalk, Name: test.name}, test.addresses, time.Hour); err == nil {
				t.Error("no error")
			}
		})
	}
}
