// Package authority is a small certificate authority for the nodes of a
// cluster, for those who have none: a key and a certificate in a folder, which
// sign the certificates of nodes and nothing else.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tegami-im/tegami/cluster/remote"
)

// The files of an authority; those of a node are called after it.
const (
	certificateFile = "ca.pem"
	keyFile         = "ca.key"
)

// authorityLife is how long the certificate of an authority is good for.
const authorityLife = 10 * 365 * 24 * time.Hour

// clockSkew is by how much the clock of a node may be behind.
const clockSkew = 5 * time.Minute

// Create makes an authority in a folder, which is made when missing. It leaves
// one that is there alone. Error: fs.ErrExist.
func Create(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Tegami cluster authority"}, NotAfter: time.Now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return issue(dir, certificateFile, keyFile, template, nil)
}

// Issue makes the certificate of a node, valid for a while, and its key: the
// files NAME.pem and NAME.key in the folder of the authority. addresses are
// those where others reach the node, without ports. What the node had is
// replaced, and stays after an error.
func Issue(dir string, node remote.Identity, addresses []string, valid time.Duration) error {
	if strings.ContainsAny(node.Name, "/\\") || node.Name == "" || strings.HasPrefix(node.Name, ".") || strings.EqualFold(node.Name, "ca") {
		return fmt.Errorf("%q is no name of a node", node.Name)
	}
	if len(addresses) == 0 {
		return errors.New("a node needs an address")
	}
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, certificateFile), filepath.Join(dir, keyFile))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: node.Name}, NotAfter: time.Now().Add(valid),
		URIs: []*url.URL{node.URI()}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, address := range addresses {
		if ip := net.ParseIP(address); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, address)
		}
	}
	beside, err := os.MkdirTemp(dir, ".issue-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(beside) //nolint:errcheck // it is empty by then, or what is wrong is told
	certificate, key := node.Name+".pem", node.Name+".key"
	if err := issue(beside, certificate, key, template, &ca); err != nil {
		return err
	}
	for _, file := range []string{key, certificate} {
		if err := os.Rename(filepath.Join(beside, file), filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return nil
}

// issue signs a certificate for a new key, by itself when there is no
// authority, and writes both to files that must not be there.
func issue(dir, certificateFile, keyFile string, template *x509.Certificate, ca *tls.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return err
	}
	template.NotBefore = time.Now().Add(-clockSkew)
	parent, signer := template, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, keyFile), "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}
	return write(filepath.Join(dir, certificateFile), "CERTIFICATE", der, 0o644)
}

func write(path, kind string, content []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // the operator's own folder
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(file, &pem.Block{Type: kind, Bytes: content}), file.Sync(), file.Close())
}
