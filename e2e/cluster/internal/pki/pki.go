// Package pki makes the cluster's certificates: a CA for Kubernetes, one for etcd, one for the aggregation layer, and one certificate for
// every component.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Lifetime of every certificate: a test cluster is made anew long before.
const Lifetime = 365 * 24 * time.Hour

// Leaf describes one certificate.
type Leaf struct {
	Name   string // file name without extension
	Issuer string // which CA
	CN     string
	O      []string
	Hosts  []string // IP addresses and DNS names; a serving certificate has some
	Client bool
}

// Authority is a CA with its key.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Leaves is every certificate of a cluster.
func Leaves(node, nodeIP, kubernetesIP string) []Leaf {
	loopback := []string{"127.0.0.1", "localhost"}
	return []Leaf{
		{Name: "etcd", Issuer: "etcd-ca", CN: "etcd", Hosts: loopback, Client: true},
		{Name: "apiserver-etcd-client", Issuer: "etcd-ca", CN: "kube-apiserver-etcd-client", Client: true},
		{Name: "apiserver", Issuer: "ca", CN: "kube-apiserver", Hosts: append([]string{nodeIP, kubernetesIP, node,
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, loopback...)},
		{Name: "apiserver-kubelet-client", Issuer: "ca", CN: "kube-apiserver-kubelet-client", Client: true},
		{Name: "front-proxy-client", Issuer: "front-proxy-ca", CN: "front-proxy-client", Client: true},
		{Name: "kubelet-serving", Issuer: "ca", CN: "system:node:" + node, O: []string{"system:nodes"}, Hosts: append([]string{nodeIP, node}, loopback...)},
		{Name: "controller-manager-serving", Issuer: "ca", CN: "kube-controller-manager", Hosts: loopback},
		{Name: "scheduler-serving", Issuer: "ca", CN: "kube-scheduler", Hosts: loopback},
		{Name: "kubelet", Issuer: "ca", CN: "system:node:" + node, O: []string{"system:nodes"}, Client: true},
		{Name: "controller-manager", Issuer: "ca", CN: "system:kube-controller-manager", Client: true},
		{Name: "scheduler", Issuer: "ca", CN: "system:kube-scheduler", Client: true},
		{Name: "proxy", Issuer: "ca", CN: "system:kube-proxy", Client: true},
		{Name: "provisioner", Issuer: "ca", CN: "ers-cluster:provisioner", Client: true},
		{Name: "policies", Issuer: "ca", CN: "ers-cluster:policies", Client: true},
		{Name: "simulator", Issuer: "ca", CN: "ers-cluster:simulator", Client: true},
		{Name: "admin", Issuer: "ca", CN: "admin", O: []string{"system:masters"}, Client: true},
	}
}

// Authorities is every CA of a cluster.
func Authorities() []string { return []string{"ca", "etcd-ca", "front-proxy-ca"} }

// Ensure makes what is missing in dir. A CA that is there is kept, so a second run changes nothing.
func Ensure(dir string, leaves []Leaf) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	cas := map[string]Authority{}
	for _, name := range Authorities() {
		ca, err := ensureAuthority(dir, name)
		if err != nil {
			return fmt.Errorf("certificate authority %s: %w", name, err)
		}
		cas[name] = ca
	}
	for _, leaf := range leaves {
		if exists(filepath.Join(dir, leaf.Name+".crt")) && exists(filepath.Join(dir, leaf.Name+".key")) {
			continue
		}
		cert, key, err := Issue(cas[leaf.Issuer], leaf)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", leaf.Name, err)
		}
		if err := writePair(dir, leaf.Name, cert, key); err != nil {
			return err
		}
	}
	return ensureServiceAccountKey(dir)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func ensureAuthority(dir, name string) (Authority, error) {
	if exists(filepath.Join(dir, name+".crt")) && exists(filepath.Join(dir, name+".key")) {
		return load(dir, name)
	}
	ca, err := NewAuthority("ers-cluster-" + name)
	if err != nil {
		return ca, err
	}
	return ca, writePair(dir, name, ca.Cert.Raw, ca.Key)
}

// NewAuthority makes a self-signed CA.
func NewAuthority(cn string) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return Authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(Lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Authority{}, err
	}
	cert, err := x509.ParseCertificate(raw)
	return Authority{Cert: cert, Key: key}, err
}

// Issue signs a certificate; a leaf with Hosts may serve, one with Client may be a client.
func Issue(ca Authority, leaf Leaf) (cert []byte, key crypto.Signer, err error) {
	if ca.Cert == nil {
		return nil, nil, fmt.Errorf("no authority called %q", leaf.Issuer)
	}
	if len(leaf.Hosts) == 0 && !leaf.Client {
		return nil, nil, errors.New("neither a serving nor a client certificate")
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: leaf.CN, Organization: leaf.O},
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: ca.Cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	for _, host := range leaf.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(leaf.Hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if leaf.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, private.Public(), ca.Key)
	return raw, private, err
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// The service account key is RSA: the other side of these tokens may be anything, and RS256 is what everything reads.
func ensureServiceAccountKey(dir string) error {
	path := filepath.Join(dir, "sa.key")
	if exists(path) && exists(filepath.Join(dir, "sa.pub")) {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(path, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), 0o600); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", public, 0o644)
}

// EncryptionKey is 32 random bytes for secretbox, as base64.
func EncryptionKey() (string, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(key), nil
}

func writePair(dir, name string, cert []byte, key crypto.Signer) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".key"), "PRIVATE KEY", raw, 0o600); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", cert, 0o644)
}

func writePEM(path, kind string, raw []byte, mode os.FileMode) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func load(dir, name string) (Authority, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		return Authority{}, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, name+".key"))
	if err != nil {
		return Authority{}, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return Authority{}, fmt.Errorf("%s.crt or %s.key in %s is not PEM: run ers-cluster down, then up", name, name, dir)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return Authority{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return Authority{}, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return Authority{}, fmt.Errorf("%s.key cannot sign", name)
	}
	if time.Now().After(cert.NotAfter) {
		return Authority{}, fmt.Errorf("%s.crt ended on %s: run ers-cluster down, then up", name, cert.NotAfter.Format(time.DateOnly))
	}
	return Authority{Cert: cert, Key: signer}, nil
}

// Kubeconfig is a self-contained kubeconfig for the client certificate called name.
func Kubeconfig(dir, name, context, server string) ([]byte, error) {
	var parts [3]string
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		parts[i] = base64.StdEncoding.EncodeToString(data)
	}
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[4]s
users:
- name: %[3]s
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
contexts:
- name: %[1]s
  context: {cluster: %[1]s, user: %[3]s}
current-context: %[1]s
`, context, server, name, parts[0], parts[1], parts[2]), nil
}
