package cluster

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"ers.local/cluster/internal/kube"
	"ers.local/cluster/internal/pki"
	"golang.org/x/sys/unix"
)

//go:embed files
var files embed.FS

type values struct {
	*Cluster
	Programs
	EncryptionKey, Snapshotter string
}

func (v values) render(name string) ([]byte, error) {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, v)
	return out.Bytes(), err
}

// prepareFiles writes certificates and configuration. Keys that are there are kept.
func (c *Cluster) prepareFiles(p Programs) error {
	for _, dir := range []string{"", "run", "log", "log/pods", "conf", "cni", "kubelet", "kubelet/volumeplugins", "volumes", "registry", "registries/" + c.Registry()} {
		if err := os.MkdirAll(c.File(dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"etcd", "pki", "conf", "registry"} {
		if err := os.MkdirAll(c.File(dir), 0o700); err != nil {
			return err
		}
		if err := os.Chmod(c.File(dir), 0o700); err != nil {
			return err
		}
	}
	if err := pki.Ensure(c.File("pki"), pki.Leaves(c.Node(), c.NodeIP(), c.KubernetesIP())); err != nil {
		return err
	}
	for _, name := range []string{"controller-manager", "scheduler", "kubelet", "proxy", "simulator"} {
		if err := c.kubeconfig(name, c.File("conf", name+".kubeconfig")); err != nil {
			return err
		}
	}
	if err := c.kubeconfig("admin", c.Kubeconfig()); err != nil {
		return err
	}
	key, err := c.encryptionKey()
	if err != nil {
		return err
	}
	v := values{Cluster: c, Programs: p, EncryptionKey: key, Snapshotter: snapshotter(c.State)}
	for name, target := range map[string]string{
		"audit-policy.yaml": "conf/audit-policy.yaml", "encryption.yaml": "conf/encryption.yaml", "containerd.toml": "conf/containerd.toml",
		"kubelet.yaml": "conf/kubelet.yaml", "proxy.yaml": "conf/proxy.yaml", "cni.conflist": "cni/10-bridge.conflist",
		"registry.toml": "registries/" + c.Registry() + "/hosts.toml",
	} {
		data, err := v.render(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := writeIfChanged(c.File(target), data); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) kubeconfig(name, path string) error {
	data, err := pki.Kubeconfig(c.File("pki"), name, c.contextName(), c.Server())
	if err != nil {
		return err
	}
	return writeIfChanged(path, data)
}

func (c *Cluster) contextName() string { return c.Netns() }

func (c *Cluster) encryptionKey() (string, error) {
	path := c.File("pki", "encryption.key")
	data, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(data)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	key, err := pki.EncryptionKey()
	if err != nil {
		return "", err
	}
	return key, os.WriteFile(path, []byte(key+"\n"), 0o600)
}

// overlayMagic is the type of a file system that overlayfs cannot be stacked on again.
const overlayMagic = 0x794c7630

func snapshotter(state string) string {
	var info unix.Statfs_t
	if unix.Statfs(state, &info) == nil && info.Type == overlayMagic {
		return "native"
	}
	return "overlayfs"
}

func writeIfChanged(path string, data []byte) error {
	if current, err := os.ReadFile(path); err == nil && bytes.Equal(current, data) {
		return nil
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// addons applies what every cluster has: roles of the tool's own components, storage classes, CoreDNS.
func (c *Cluster) addons(ctx context.Context, client *kube.Client, p Programs) error {
	text, err := values{Cluster: c, Programs: p}.render("addons.yaml")
	if err != nil {
		return err
	}
	for _, document := range strings.Split(string(text), "\n---\n") {
		path := documentPath(document)
		if path == "" {
			return fmt.Errorf("addons.yaml: a document without its path")
		}
		if err := client.Apply(ctx, path, []byte(document)); err != nil {
			return err
		}
	}
	return nil
}

// documentPath is the comment line that starts with a slash: where the document belongs.
func documentPath(document string) string {
	for _, line := range strings.Split(document, "\n") {
		if path, ok := strings.CutPrefix(line, "# /"); ok {
			return "/" + path
		}
	}
	return ""
}

// copySelf keeps this program, by content, in dir.
func copySelf(dir string) (string, error) {
	source, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer source.Close()
	target := filepath.Join(dir, "ers-cluster")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	out, err := os.OpenFile(target+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(out, source); err != nil {
		out.Close()
		return "", err
	}
	if err := out.Close(); err != nil {
		return "", err
	}
	return target, os.Rename(target+".new", target)
}
