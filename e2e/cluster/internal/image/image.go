// Package image writes container images as docker-archive tars, without Docker: a binary, the shared libraries that it names, and the
// handful of files that programs expect. The same content gives the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

// Nobody is the user that images run as.
const Nobody = "65534:65534"

// Spec is what goes into an image.
type Spec struct {
	Repository string   // e.g. localhost/ers-agent
	Tag        string   // empty: from the content
	Binary     string   // the program, placed at /bin/NAME
	Name       string   // empty: the file name of Binary
	Entrypoint []string // empty: the program
	Args       []string
	Env        []string
	User       string            // empty: Nobody
	Add        map[string]string // further files: path in the image -> path here
	Labels     map[string]string
	Bare       bool // nothing but the program
}

// Built is a finished image.
type Built struct {
	Reference string
	Path      string
	Config    string // sha256:...
	Bytes     int64
	Parts     map[string]int64 // bytes of the program, the libraries, everything else
}

type file struct {
	mode int64
	data []byte
	link string
}

// Build writes the archive to out.
func Build(spec Spec, out string) (Built, error) {
	if spec.Name == "" {
		spec.Name = filepath.Base(spec.Binary)
	}
	if spec.Repository == "" {
		spec.Repository = "localhost/" + spec.Name
	}
	if err := CheckRepository(spec.Repository); err != nil {
		return Built{}, err
	}
	if spec.User == "" {
		spec.User = Nobody
	}
	program, err := os.ReadFile(spec.Binary)
	if err != nil {
		return Built{}, err
	}
	target := "bin/" + spec.Name
	if len(spec.Entrypoint) == 0 {
		spec.Entrypoint = []string{"/" + target}
	}
	libraries, err := Closure(spec.Binary)
	if err != nil {
		return Built{}, err
	}
	base := map[string]file{}
	if !spec.Bare {
		if base, err = baseFiles(); err != nil {
			return Built{}, err
		}
	}
	built := Built{Path: out, Parts: map[string]int64{"program": int64(len(program))}}
	for _, f := range base {
		built.Parts["files"] += int64(len(f.data))
	}
	for _, source := range libraries {
		data, err := os.ReadFile(source)
		if err != nil {
			return Built{}, err
		}
		base[strings.TrimPrefix(source, "/")] = file{mode: 0o755, data: data}
		built.Parts["libraries"] += int64(len(data))
	}
	own := map[string]file{target: {mode: 0o755, data: program}}
	for destination, source := range spec.Add {
		if err := addTree(own, destination, source, built.Parts); err != nil {
			return Built{}, err
		}
	}
	// Two layers, so that images of one release share the libraries in a registry and on a node.
	lower, err := layer(base)
	if err != nil {
		return Built{}, err
	}
	upper, err := layer(own)
	if err != nil {
		return Built{}, err
	}
	config, err := json.Marshal(configOf(spec, lower, upper))
	if err != nil {
		return Built{}, err
	}
	digest := sum(config)
	if spec.Tag == "" {
		spec.Tag = digest[:12]
	}
	built.Reference, built.Config = spec.Repository+":"+spec.Tag, "sha256:"+digest
	built.Bytes, err = writeArchive(out, built.Reference, config, lower, upper)
	return built, err
}

type imageConfig struct {
	Architecture string        `json:"architecture"`
	Config       runtimeConfig `json:"config"`
	Created      string        `json:"created"`
	OS           string        `json:"os"`
	RootFS       rootFS        `json:"rootfs"`
}

type runtimeConfig struct {
	Cmd        []string          `json:"Cmd,omitempty"`
	Entrypoint []string          `json:"Entrypoint"`
	Env        []string          `json:"Env"`
	Labels     map[string]string `json:"Labels,omitempty"`
	User       string            `json:"User"`
	WorkingDir string            `json:"WorkingDir"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

func configOf(spec Spec, layers ...[]byte) imageConfig {
	config := imageConfig{
		Architecture: runtime.GOARCH, OS: "linux", Created: "1970-01-01T00:00:00Z",
		Config: runtimeConfig{Cmd: spec.Args, Entrypoint: spec.Entrypoint, User: spec.User, WorkingDir: "/", Labels: spec.Labels,
			Env: append([]string{"PATH=/bin"}, spec.Env...)},
		RootFS: rootFS{Type: "layers"},
	}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, "sha256:"+sum(l))
	}
	return config
}

func baseFiles() (map[string]file, error) {
	files := map[string]file{
		"etc/passwd":        {mode: 0o644, data: []byte("root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")},
		"etc/group":         {mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		"etc/nsswitch.conf": {mode: 0o644, data: []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
	}
	for _, source := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"} {
		if data, err := os.ReadFile(source); err == nil {
			files["etc/ssl/certs/ca-certificates.crt"] = file{mode: 0o644, data: data}
			return files, nil
		}
	}
	return nil, fmt.Errorf("no CA certificates on this machine: apt-get install ca-certificates")
}

func addTree(files map[string]file, destination, source string, parts map[string]int64) error {
	return filepath.WalkDir(source, func(p string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+path.Join(destination, relative)), "/")
		if entry.Type()&os.ModeSymlink != 0 {
			link, err := os.Readlink(p)
			files[name] = file{mode: 0o777, link: link}
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s: only files, folders and links go into an image", p)
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		files[name] = file{mode: mode, data: data}
		parts["files"] += int64(len(data))
		return nil
	})
}

// layer is a tar with every parent folder, in the order of names, at the beginning of time, owned by root.
func layer(files map[string]file) ([]byte, error) {
	folders := map[string]int64{"tmp": 0o1777}
	var names []string
	for name := range files {
		names = append(names, name)
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if _, ok := folders[parent]; !ok {
				folders[parent] = 0o755
			}
		}
	}
	for folder := range folders {
		if _, ok := files[folder]; ok {
			return nil, fmt.Errorf("%s is a file and a folder", folder)
		}
		names = append(names, folder)
	}
	sort.Strings(names)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range names {
		f := files[name]
		header := &tar.Header{Format: tar.FormatUSTAR, Name: name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if mode, ok := folders[name]; ok {
			header.Name, header.Mode, header.Size, header.Typeflag = name+"/", mode, 0, tar.TypeDir
		} else if f.link != "" {
			header.Linkname, header.Typeflag = f.link, tar.TypeSymlink
		}
		if len(header.Name) > 100 {
			header.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Manifest is an entry of a docker-archive's manifest.json.
type Manifest struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

func writeArchive(out, reference string, config []byte, layers ...[]byte) (int64, error) {
	entry := Manifest{Config: sum(config) + ".json", RepoTags: []string{reference}}
	for _, l := range layers {
		entry.Layers = append(entry.Layers, sum(l)+".tar")
	}
	manifest, err := json.Marshal([]Manifest{entry})
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return 0, err
	}
	f, err := os.Create(out + ".new")
	if err != nil {
		return 0, err
	}
	defer os.Remove(out + ".new")
	defer f.Close()
	w := tar.NewWriter(f)
	put := func(name string, data []byte) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Format: tar.FormatUSTAR, Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg})
		}
		if err == nil {
			_, err = w.Write(data)
		}
	}
	put("manifest.json", manifest)
	put(entry.Config, config)
	for i, l := range layers {
		put(entry.Layers[i], l)
	}
	if err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	return size, os.Rename(out+".new", out)
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}
