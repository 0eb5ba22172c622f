package cluster

import (
	"os"
	"strings"
	"testing"

	"ers.local/cluster/internal/layout"
)

func testCluster(t *testing.T) *Cluster {
	t.Helper()
	l, err := layout.New("unit", "/var/lib/ers-test/unit")
	if err != nil {
		t.Fatal(err)
	}
	return &Cluster{Layout: l}
}

func TestEveryFileRendersWithTheClustersOwnAddresses(t *testing.T) {
	c := testCluster(t)
	v := values{Cluster: c, Programs: Programs{PauseImage: "localhost/pause:1", CoreDNSImage: "localhost/coredns:1"}, EncryptionKey: "key", Snapshotter: "overlayfs"}
	entries, err := files.ReadDir("files")
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := v.render(entry.Name())
		if err != nil {
			t.Errorf("%s: %v", entry.Name(), err)
		}
		if strings.Contains(string(text), "<no value>") || strings.Contains(string(text), "{{") {
			t.Errorf("%s: something is not filled in", entry.Name())
		}
	}
	for file, want := range map[string]string{"kubelet.yaml": "cgroupRoot: /ers-cluster-unit", "cni.conflist": c.Pods().String(), "addons.yaml": "clusterIP: " + c.DNSIP()} {
		if text, _ := v.render(file); !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %q", file, want)
		}
	}
}

func TestEveryOwnObjectSaysWhereItBelongs(t *testing.T) {
	text, err := values{Cluster: testCluster(t)}.render("addons.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range strings.Split(string(text), "\n---\n") {
		path := documentPath(document)
		name := path[strings.LastIndex(path, "/")+1:]
		if path == "" || !strings.Contains(document, "name: "+name) && !strings.Contains(document, `name: "`+name+`"`) {
			t.Errorf("path %q does not fit:\n%s", path, document)
		}
	}
}

func TestEveryComponentCanBeStartedAndAsked(t *testing.T) {
	c := testCluster(t)
	seen := map[string]bool{}
	for _, component := range Components() {
		command := component.Command(c, Programs{Kubernetes: "/k", Kwok: "/w", Self: "/s"})
		if len(command) < 2 || component.Probe == "" || seen[component.Name] {
			t.Errorf("%+v", component)
		}
		seen[component.Name] = true
		found, err := c.Component(strings.TrimPrefix(component.Name, "kube-"))
		if err != nil || found.Name != component.Name {
			t.Errorf("%s is not found by its short name: %v", component.Name, err)
		}
	}
	if _, err := c.Component("nope"); err == nil || !strings.Contains(err.Error(), "kube-apiserver") {
		t.Errorf("the answer must name the components: %v", err)
	}
}

func TestAFolderWithSomebodysFilesIsNotDeleted(t *testing.T) {
	c := testCluster(t)
	c.State = t.TempDir()
	for _, dir := range []string{"pki", "conf", "home"} {
		if err := os.Mkdir(c.File(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.removeState(false); err == nil || !strings.Contains(err.Error(), "home") {
		t.Fatalf("%v", err)
	}
	if err := os.Remove(c.File("home")); err != nil {
		t.Fatal(err)
	}
	if err := c.removeState(false); err != nil || exists(c.State) {
		t.Fatalf("%v", err)
	}
}
