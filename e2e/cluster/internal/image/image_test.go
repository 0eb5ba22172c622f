package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

func entries(t *testing.T, data []byte) map[string]*tar.Header {
	t.Helper()
	out := map[string]*tar.Header{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = h
	}
}

func TestTheSameContentGivesTheSameBytesAndAnotherContentAnotherTag(t *testing.T) {
	dir := t.TempDir()
	extra := filepath.Join(dir, "page")
	if err := os.MkdirAll(filepath.Join(extra, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string, at time.Time) {
		p := filepath.Join(extra, "a", "index.html")
		if err := os.WriteFile(p, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
	}
	spec := Spec{Binary: program(t), Name: "probe", Add: map[string]string{"/usr/share/probe": extra}, Env: []string{"A=b"}}
	build := func(out string) (Built, []byte) {
		b, err := Build(spec, filepath.Join(dir, out))
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(b.Path)
		if err != nil {
			t.Fatal(err)
		}
		return b, data
	}
	write("one", time.Unix(1, 0))
	first, firstBytes := build("1.tar")
	write("one", time.Unix(2_000_000, 0))
	second, secondBytes := build("2.tar")
	if !bytes.Equal(firstBytes, secondBytes) || first.Reference != second.Reference {
		t.Fatal("the time of a file changed the image")
	}
	write("two", time.Unix(1, 0))
	if third, _ := build("3.tar"); third.Reference == first.Reference {
		t.Fatal("another content kept the tag")
	}
	if first.Bytes != int64(len(firstBytes)) || !strings.HasPrefix(first.Reference, "localhost/probe:") {
		t.Fatalf("%+v", first)
	}
}

func TestAnImageRunsAsNobodyAndHoldsWhatProgramsExpect(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.tar")
	if _, err := Build(Spec{Binary: program(t), Name: "probe", Tag: "v1", Args: []string{"serve"}}, out); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(out)
	files := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(data))
	for h, err := r.Next(); err == nil; h, err = r.Next() {
		files[h.Name], _ = io.ReadAll(r)
	}
	var manifests []Manifest
	if err := json.Unmarshal(files["manifest.json"], &manifests); err != nil || len(manifests) != 1 {
		t.Fatal(err)
	}
	var config imageConfig
	if err := json.Unmarshal(files[manifests[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	if config.Config.User != Nobody || !reflect.DeepEqual(config.Config.Entrypoint, []string{"/bin/probe"}) || config.Config.Cmd[0] != "serve" {
		t.Errorf("%+v", config.Config)
	}
	if len(config.RootFS.DiffIDs) != len(manifests[0].Layers) {
		t.Error("layers and their digests differ in number")
	}
	all := map[string]*tar.Header{}
	for i, name := range manifests[0].Layers {
		if "sha256:"+sum(files[name]) != config.RootFS.DiffIDs[i] {
			t.Errorf("layer %d is not what the configuration says", i)
		}
		for k, v := range entries(t, files[name]) {
			all[k] = v
		}
	}
	for _, want := range []string{"etc/passwd", "etc/nsswitch.conf", "etc/ssl/certs/ca-certificates.crt", "bin/probe", "tmp/"} {
		if all[want] == nil {
			t.Errorf("%s is missing", want)
		}
	}
	for name, h := range all {
		if h.Uid != 0 || h.Mode&0o022 != 0 && name != "tmp/" {
			t.Errorf("%s: owner %d mode %o", name, h.Uid, h.Mode)
		}
	}
}

func TestLddOutputIsReadAsTheLoaderReadsIt(t *testing.T) {
	got, err := parseLdd("\tlinux-vdso.so.1 (0x00007ffc)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f1)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f3)\n")
	want := []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib64/ld-linux-x86-64.so.2"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v %v", got, err)
	}
	if _, err := parseLdd("\tlibnope.so.1 => not found\n"); err == nil || !strings.Contains(err.Error(), "libnope.so.1") {
		t.Fatalf("%v", err)
	}
}

func TestWhatIsNoProgramAndNoRepositoryIsRefused(t *testing.T) {
	text := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(Spec{Binary: text}, text+".tar"); err == nil || !strings.Contains(err.Error(), "no ELF program") {
		t.Errorf("%v", err)
	}
	for _, repository := range []string{"x", "Localhost/X", "localhost/", "localhost/a:b", "localhost/a b"} {
		if err := CheckRepository(repository); err == nil {
			t.Errorf("%s was accepted", repository)
		}
	}
}
