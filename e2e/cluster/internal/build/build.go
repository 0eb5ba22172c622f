// Package build makes the programs that a cluster consists of, once, and keeps them outside the clone.
package build

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"ers.local/cluster/internal/image"
)

// Version of Kubernetes; it must be the one in kubernetes/go.mod.
const Version = "v1.34.4"

const (
	helm = "helm.sh/helm/v3/cmd/helm@v3.19.5"
	kwok = "sigs.k8s.io/kwok/cmd/kwok@v0.7.0"
)

//go:embed pause/pause.c
var pauseSource []byte

// Cache is where programs are kept.
func Cache() (string, error) {
	base, err := os.UserCacheDir() // $XDG_CACHE_HOME or ~/.cache
	if err != nil {
		return "", fmt.Errorf("no cache folder: set XDG_CACHE_HOME: %w", err)
	}
	return filepath.Join(base, "ers", "bin"), nil
}

// Source finds this folder in the clone, which holds the modules to build.
func Source() (string, error) {
	var tried []string
	candidates := []string{os.Getenv("ERS_CLUSTER_SOURCE")}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		candidates = append(candidates, filepath.Join(filepath.Dir(file), "..", ".."))
	}
	if cwd, err := os.Getwd(); err == nil {
		for dir := cwd; ; dir = filepath.Dir(dir) {
			candidates = append(candidates, dir, filepath.Join(dir, "e2e", "cluster"))
			if dir == "/" {
				break
			}
		}
	}
	for _, dir := range candidates {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "kubernetes", "go.sum")); err == nil {
			return filepath.Clean(dir), nil
		}
		tried = append(tried, dir)
	}
	return "", fmt.Errorf("the sources of the cluster's programs were not found (looked in %s): run this inside the clone, or set ERS_CLUSTER_SOURCE to its folder e2e/cluster", strings.Join(tried, ", "))
}

// Progress is told what takes long.
type Progress func(format string, args ...any)

// Kubernetes builds the all-in-one Kubernetes program and puts a kubectl beside it.
func Kubernetes(say Progress) (string, error) {
	flags := "-s -w -X k8s.io/component-base/version.gitVersion=" + Version +
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34 -X k8s.io/component-base/version.gitTreeState=clean"
	path, err := module("kubernetes", flags, "about 6 minutes on two cores the first time", say)
	if err != nil {
		return "", err
	}
	return path, symlink(path, "kubectl")
}

// CoreDNS builds CoreDNS.
func CoreDNS(say Progress) (string, error) {
	return module("coredns", "-s -w", "about a minute the first time", say)
}

// Helm builds Helm.
func Helm(say Progress) (string, error) { return install(helm, say) }

// Kwok builds the simulator of nodes.
func Kwok(say Progress) (string, error) { return install(kwok, say) }

// Pause builds the program that holds a pod's namespaces.
func Pause(say Progress) (string, error) {
	return cached("pause-"+hash(pauseSource), "a second", say, func(out string) error {
		dir, err := os.MkdirTemp("", "ers-pause-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		source := filepath.Join(dir, "pause.c")
		if err := os.WriteFile(source, pauseSource, 0o644); err != nil {
			return err
		}
		return run(dir, nil, "gcc", "-O2", "-static", "-s", "-Wl,--build-id=none", "-o", out, source)
	})
}

// Image keeps the image of a built program in the cache.
func Image(binary, name string, spec image.Spec) (reference, archive string, err error) {
	cache, err := Cache()
	if err != nil {
		return "", "", err
	}
	tag := strings.TrimPrefix(filepath.Base(binary), name+"-")
	spec.Binary, spec.Name, spec.Repository, spec.Tag = binary, name, "localhost/"+name, tag
	archive = filepath.Join(cache, "images", name+"-"+tag+".tar")
	if _, err := os.Stat(archive); err == nil {
		return spec.Repository + ":" + tag, archive, nil
	}
	built, err := image.Build(spec, archive)
	return built.Reference, archive, err
}

func module(name, ldflags, duration string, say Progress) (string, error) {
	source, err := Source()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(source, name)
	var content [][]byte
	for _, file := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		content = append(content, data)
	}
	key := hash(append(content, []byte(ldflags))...)
	return cached(name+"-"+key, duration, say, func(out string) error {
		return run(dir, []string{"CGO_ENABLED=0", "GOWORK=off"}, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out, ".")
	})
}

func install(target string, say Progress) (string, error) {
	name, version, _ := strings.Cut(filepath.Base(target), "@")
	path, err := cached(name+"-"+version, "a minute or two the first time", say, func(out string) error {
		dir, err := os.MkdirTemp(filepath.Dir(out), name)
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := run(dir, []string{"CGO_ENABLED=0", "GOWORK=off", "GOBIN=" + dir}, "go", "install", "-trimpath", "-ldflags=-s -w", target); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, name), out)
	})
	if err != nil {
		return "", err
	}
	return path, symlink(path, name)
}

// cached runs make unless its result is there. A lock keeps two commands from building the same thing at the same time.
func cached(name, duration string, say Progress, make func(out string) error) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, "."+name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	say("building %s (%s)", name, duration)
	start := time.Now()
	temporary := path + ".new"
	defer os.Remove(temporary)
	if err := make(temporary); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	say("built %s: %.1f MB in %.1f s", name, float64(info.Size())/1e6, time.Since(start).Seconds())
	return path, nil
}

func symlink(path, name string) error {
	link := filepath.Join(filepath.Dir(path), name)
	if current, err := os.Readlink(link); err == nil && current == filepath.Base(path) {
		return nil
	}
	temporary := fmt.Sprintf("%s.%d.new", link, os.Getpid())
	if err := os.Symlink(filepath.Base(path), temporary); err != nil {
		return err
	}
	return os.Rename(temporary, link)
}

func run(dir string, env []string, command ...string) error {
	if _, err := exec.LookPath(command[0]); err != nil {
		way := "run `ers-cluster prepare` as root"
		if command[0] == "go" {
			way = "install Go 1.24 or newer (https://go.dev/dl) and put it into PATH"
		}
		return fmt.Errorf("%s is not installed: %s", command[0], way)
	}
	var output bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		text := output.String()
		if len(text) > 4000 {
			text = "..." + text[len(text)-4000:]
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, text)
	}
	return nil
}

func hash(parts ...[]byte) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d\n", len(part))
		_, _ = io.Copy(h, bytes.NewReader(part))
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// ErrMissing lists what Debian has to provide.
var ErrMissing = errors.New("programs are missing")

// Packages maps the programs that have to be there to the Debian package that carries each.
var Packages = []struct{ Program, Package string }{
	{"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"}, {"/usr/lib/cni/bridge", "containernetworking-plugins"},
	{"iptables", "iptables"}, {"ip", "iproute2"}, {"conntrack", "conntrack"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"},
	{"gcc", "gcc"}, {"/usr/lib/*/libc.a", "libc6-dev"}, {"mount", "mount"}, {"/etc/ssl/certs/ca-certificates.crt", "ca-certificates"}, {"ldd", "libc-bin"},
}

// Missing is the Debian packages that are not there.
func Missing() []string {
	var out []string
	seen := map[string]bool{}
	for _, p := range Packages {
		if seen[p.Package] || present(p.Program) {
			continue
		}
		seen[p.Package] = true
		out = append(out, p.Package)
	}
	return out
}

func present(program string) bool {
	if strings.HasPrefix(program, "/") {
		found, err := filepath.Glob(program)
		return err == nil && len(found) > 0
	}
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	// A user's PATH often lacks the folders of root's programs.
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}

// Prepare installs what is missing.
func Prepare(say Progress) error {
	missing := Missing()
	if len(missing) == 0 {
		say("every package is there")
		return nil
	}
	command := "apt-get install -y --no-install-recommends " + strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w; run: sudo %s", ErrMissing, command)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w, and there is no apt-get here; install with this system's own packages what Debian calls: %s", ErrMissing, strings.Join(missing, " "))
	}
	say("installing %s", strings.Join(missing, " "))
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := run("/", env, "sh", "-c", command); err != nil {
		say("the package lists may be old: apt-get update")
		if err := run("/", env, "apt-get", "update"); err != nil {
			return err
		}
		return run("/", env, "sh", "-c", command)
	}
	return nil
}
