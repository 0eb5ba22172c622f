package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryComponentHasACertificateThatItsAuthorityVouchesFor(t *testing.T) {
	dir := t.TempDir()
	leaves := Leaves("ers-node-1", "192.168.231.2", "10.96.0.1")
	if err := Ensure(dir, leaves); err != nil {
		t.Fatal(err)
	}
	for _, leaf := range leaves {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, leaf.Name+".crt"), filepath.Join(dir, leaf.Name+".key"))
		if err != nil {
			t.Fatalf("%s: %v", leaf.Name, err)
		}
		ca, err := os.ReadFile(filepath.Join(dir, leaf.Issuer+".crt"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if leaf.Client {
			usage[0] = x509.ExtKeyUsageClientAuth
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usage}); err != nil {
			t.Errorf("%s: %v", leaf.Name, err)
		}
		for _, host := range leaf.Hosts {
			if err := pair.Leaf.VerifyHostname(host); err != nil {
				t.Errorf("%s: %v", leaf.Name, err)
			}
		}
		if pair.Leaf.Subject.CommonName != leaf.CN {
			t.Errorf("%s: %s", leaf.Name, pair.Leaf.Subject)
		}
		info, err := os.Stat(filepath.Join(dir, leaf.Name+".key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s.key: %v %v", leaf.Name, info.Mode(), err)
		}
	}
}

func TestANodeIsWhatTheNodeAuthorizerExpectsAndNobodyElseIsAnAdministrator(t *testing.T) {
	for _, leaf := range Leaves("n1", "192.0.2.1", "10.96.0.1") {
		group := strings.Join(leaf.O, ",")
		switch {
		case leaf.CN == "system:node:n1" && group != "system:nodes":
			t.Errorf("%s: group %q", leaf.Name, group)
		case group == "system:masters" && leaf.Name != "admin":
			t.Errorf("%s is an administrator", leaf.Name)
		}
	}
}

func TestASecondRunChangesNothing(t *testing.T) {
	dir := t.TempDir()
	leaves := Leaves("n1", "192.0.2.1", "10.96.0.1")
	read := func() map[string][]byte {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		out := map[string][]byte{}
		for _, f := range files {
			out[f], _ = os.ReadFile(f)
		}
		return out
	}
	if err := Ensure(dir, leaves); err != nil {
		t.Fatal(err)
	}
	before := read()
	if err := Ensure(dir, leaves); err != nil {
		t.Fatal(err)
	}
	after := read()
	if len(before) != len(after) || len(before) != 2*(len(leaves)+len(Authorities())+1) {
		t.Fatalf("%d files, then %d", len(before), len(after))
	}
	for f := range before {
		if !bytes.Equal(before[f], after[f]) {
			t.Errorf("%s changed", f)
		}
	}
}

func TestACertificateThatCanDoNothingIsRefused(t *testing.T) {
	ca, err := NewAuthority("x")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Issue(ca, Leaf{Name: "x", CN: "x"}); err == nil {
		t.Fatal("issued")
	}
}

func TestAnEncryptionKeyHas32Bytes(t *testing.T) {
	key, err := EncryptionKey()
	raw, decode := base64.StdEncoding.DecodeString(key)
	if err != nil || decode != nil || len(raw) != 32 {
		t.Fatalf("%v %v %d", err, decode, len(raw))
	}
}
