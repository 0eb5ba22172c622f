package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"ers.local/cluster/internal/build"
	"ers.local/cluster/internal/kube"
	"ers.local/cluster/internal/proc"
)

// settings are kept between two runs of up.
type settings struct {
	Simulated int  `json:"simulatedNodes"`
	Registry  bool `json:"registry"`
}

// remembered fills what the command line did not say from the last up.
func (c *Cluster) remembered() {
	var s settings
	if data, err := os.ReadFile(c.File("settings.json")); err == nil {
		_ = json.Unmarshal(data, &s)
	}
	if c.Simulated < 0 {
		c.Simulated = s.Simulated
	}
	c.WithRegistry = c.WithRegistry || s.Registry
}

func (c *Cluster) saveSettings() error {
	data, err := json.Marshal(settings{Simulated: c.Simulated, Registry: c.WithRegistry})
	if err != nil {
		return err
	}
	return writeIfChanged(c.File("settings.json"), append(data, '\n'))
}

// Up brings the cluster to where it should be from wherever it is: nothing, half a start, a dead component, or all well.
func (c *Cluster) Up(ctx context.Context) error {
	if missing := build.Missing(); len(missing) > 0 {
		return fmt.Errorf("%w: run `ers-cluster prepare` as root (it installs %s)", build.ErrMissing, strings.Join(missing, " "))
	}
	before := c.Simulated
	c.remembered()
	if before < 0 || c.sameSimulated() {
		if _, healthy := c.Status(ctx); healthy && c.current() {
			c.Say("cluster %q is up and healthy", c.Name)
			return nil
		}
	}
	programs, err := c.programs()
	if err != nil {
		return err
	}
	start := time.Now()
	err = c.start(ctx, programs)
	var half *halfStart
	if errors.As(err, &half) && !half.hadNode {
		c.Say("the start was not finished: %v", err)
		c.Say("cleaning up and trying once more")
		simulated, registry := c.Simulated, c.WithRegistry
		if err := c.Down(false); err != nil {
			return err
		}
		c.Simulated, c.WithRegistry = simulated, registry
		if programs, err = c.programs(); err != nil {
			return err
		}
		start = time.Now()
		err = c.start(ctx, programs)
	}
	if err != nil {
		return err
	}
	c.Say("cluster %q is up; started in %.1f s", c.Name, time.Since(start).Seconds())
	return nil
}

// halfStart is a start that stopped in the middle; hadNode says that the cluster has been whole before and holds somebody's work.
type halfStart struct {
	err     error
	hadNode bool
}

func (h *halfStart) Error() string { return h.err.Error() }
func (h *halfStart) Unwrap() error { return h.err }

func (c *Cluster) start(ctx context.Context, programs Programs) error {
	hadNode := exists(c.File("complete"))
	wrap := func(err error) error {
		if err == nil || errors.Is(err, context.Canceled) {
			return err
		}
		return &halfStart{err, hadNode}
	}
	if err := os.MkdirAll(c.State, 0o755); err != nil {
		return err
	}
	if err := c.chooseSlot(); err != nil {
		return err // a clash does not go away by trying again
	}
	if err := c.prepareFiles(programs); err != nil {
		return wrap(err)
	}
	// After a restart of the machine, or when the namespace was taken away, what runs is in the wrong place.
	if c.namespaces(ctx) != nil {
		if err := c.endAll(); err != nil {
			return wrap(err)
		}
	}
	for _, step := range []func() error{c.cgroups, c.mountNamespace, c.network} {
		if err := step(); err != nil {
			return wrap(err)
		}
	}
	if err := c.saveSettings(); err != nil {
		return wrap(err)
	}
	c.endStrays(programs)
	c.Say("network %s: node %s, services %s, pods %s", c.Netns(), c.NodeIP(), c.Services(), c.Pods())
	return wrap(c.startComponents(ctx, programs, hadNode))
}

func (c *Cluster) startComponents(ctx context.Context, programs Programs, hadNode bool) error {
	components := map[string]Component{}
	for _, component := range Components() {
		components[component.Name] = component
	}
	begin := func(names ...string) error {
		for _, name := range names {
			if component := components[name]; component.Wanted == nil || component.Wanted(c) {
				if err := c.ensure(component, programs); err != nil {
					return err
				}
			}
		}
		return nil
	}
	ready := func(patience time.Duration, names ...string) error {
		for _, name := range names {
			if component := components[name]; component.Wanted == nil || component.Wanted(c) {
				if err := c.await(ctx, component, patience); err != nil {
					return err
				}
				c.Say("%s is healthy", name)
			}
		}
		return nil
	}
	// containerd unpacks the images while etcd and the API server start.
	if err := begin("etcd", "containerd", "registry"); err != nil {
		return err
	}
	images := make(chan error, 1)
	go func() {
		if err := ready(30*time.Second, "containerd", "registry"); err != nil {
			images <- err
			return
		}
		images <- c.ensureImages(programs)
	}()
	if err := ready(30*time.Second, "etcd"); err != nil {
		return err
	}
	if err := begin("kube-apiserver"); err != nil {
		return err
	}
	if err := ready(90*time.Second, "kube-apiserver"); err != nil {
		return err
	}
	if err := <-images; err != nil {
		return err
	}
	if err := begin("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"); err != nil {
		return err
	}
	client, err := c.Admin()
	if err != nil {
		return err
	}
	if err := poll(ctx, 60*time.Second, func(ctx context.Context) error { return c.addons(ctx, client, programs) }); err != nil {
		return fmt.Errorf("apply the cluster's own objects: %w", err)
	}
	if err := begin("provisioner", "policies", "simulator"); err != nil {
		return err
	}
	if err := ready(60*time.Second, "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "provisioner", "policies", "simulator"); err != nil {
		return err
	}
	if err := poll(ctx, 60*time.Second, c.nodeReady); err != nil {
		return fmt.Errorf("node %s: %w; see ers-cluster logs kubelet", c.Node(), err)
	}
	c.Say("node %s is Ready", c.Node())
	if err := poll(ctx, 90*time.Second, c.dnsReady); err != nil {
		return fmt.Errorf("CoreDNS: %w; see kubectl -n kube-system describe pods", err)
	}
	c.Say("CoreDNS answers at %s", c.DNSIP())
	if err := c.simulate(ctx, client); err != nil {
		return fmt.Errorf("simulated nodes: %w", err)
	}
	return os.WriteFile(c.File("complete"), nil, 0o644)
}

// ensure starts the component unless its recorded process runs with the same command.
func (c *Cluster) ensure(component Component, programs Programs) error {
	spec := c.spec(component, programs)
	if record, ok := proc.Read(c.runDir(), component.Name); ok && record.Alive() {
		if record.Same(spec) {
			return nil
		}
		c.Say("%s runs with other settings: restarting it", component.Name)
		if err := record.End(20 * time.Second); err != nil {
			return err
		}
	}
	_, err := proc.Launch(c.runDir(), spec)
	return err
}

// endStrays ends processes of the cluster that nobody remembers, because their record was lost: they hold the ports that their
// successors need. Shims are not among them; containerd finds those again.
func (c *Cluster) endStrays(p Programs) {
	remembered := map[int]bool{}
	for _, component := range Components() {
		if record, ok := proc.Read(c.runDir(), component.Name); ok && record.Alive() {
			remembered[record.PID] = true
		}
	}
	for _, pid := range proc.CgroupPIDs(c.systemCgroup()) {
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || remembered[pid] {
			continue
		}
		switch strings.TrimSuffix(filepath.Base(program), " (deleted)") {
		case filepath.Base(p.Kubernetes), "containerd", filepath.Base(p.Kwok), "ers-cluster":
			c.Say("ending process %d (%s), of which there is no record", pid, filepath.Base(program))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// current says whether the processes that run were started from today's programs.
func (c *Cluster) current() bool {
	programs, err := c.programs()
	if err != nil {
		return false
	}
	for _, component := range Components() {
		if component.Wanted != nil && !component.Wanted(c) {
			continue
		}
		record, ok := proc.Read(c.runDir(), component.Name)
		if !ok || !record.Same(c.spec(component, programs)) {
			return false
		}
	}
	return true
}

func (c *Cluster) ensureImages(p Programs) error {
	have, err := exec.Command("ctr", "--address", c.Containerd(), "--namespace", "k8s.io", "images", "list", "--quiet").Output()
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	present := map[string]bool{}
	for _, name := range strings.Fields(string(have)) {
		present[name] = true
	}
	for name, archive := range map[string]string{p.PauseImage: p.PauseArchive, p.CoreDNSImage: p.CoreDNSArchive} {
		if !present[name] {
			if err := c.LoadImage(archive); err != nil {
				return err
			}
		}
	}
	return nil
}

// LoadImage unpacks an image archive on the node.
func (c *Cluster) LoadImage(archive string) error {
	if !exists(archive) {
		return fmt.Errorf("%s is not there: ers-cluster image makes it", archive)
	}
	if !exists(c.Containerd()) {
		return fmt.Errorf("the cluster %q is not there: run ers-cluster up", c.Name)
	}
	output, err := exec.Command("ctr", "--address", c.Containerd(), "--namespace", "k8s.io", "images", "import", archive).CombinedOutput()
	if err != nil {
		return fmt.Errorf("load %s: %w: %s", archive, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// simulate makes the simulated nodes as many as was asked for.
func (c *Cluster) simulate(ctx context.Context, client *kube.Client) error {
	names, err := c.simulatedNodes(ctx, client)
	if err != nil || len(names) == c.Simulated {
		return err
	}
	began := time.Now()
	have := map[string]bool{}
	for _, name := range names {
		have[name] = true
	}
	missing := make(chan string)
	problems := make([]error, 8)
	var workers sync.WaitGroup
	for w := range problems {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for name := range missing {
				if problems[w] == nil {
					if err := client.Create(ctx, "/api/v1/nodes", simulatedNode(name), nil); !kube.IsCode(err, 409) {
						problems[w] = err
					}
				}
			}
		}()
	}
	for i := range c.Simulated {
		name := fmt.Sprintf("%s-simulated-%04d", c.Name, i+1)
		if have[name] {
			delete(have, name)
		} else {
			missing <- name
		}
	}
	close(missing)
	workers.Wait()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	for name := range have {
		if err := client.Delete(ctx, "/api/v1/nodes/"+name); err != nil {
			return err
		}
	}
	c.Say("%d simulated nodes in %.1f s", c.Simulated, time.Since(began).Seconds())
	return nil
}

const simulatedLabel = "cluster.ers.local/simulated"

func (c *Cluster) simulatedNodes(ctx context.Context, client *kube.Client) ([]string, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
		}
	}
	err := client.Get(ctx, "/api/v1/nodes?labelSelector="+simulatedLabel+"%3Dtrue", &list)
	var names []string
	for _, item := range list.Items {
		names = append(names, item.Metadata.Name)
	}
	return names, err
}

func (c *Cluster) sameSimulated() bool {
	var s settings
	data, err := os.ReadFile(c.File("settings.json"))
	return err == nil && json.Unmarshal(data, &s) == nil && s.Simulated == c.Simulated && s.Registry == c.WithRegistry
}

func simulatedNode(name string) map[string]any {
	resources := map[string]string{"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
	return map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{
			"name":        name,
			"annotations": map[string]string{"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
			"labels": map[string]string{simulatedLabel: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
				"kubernetes.io/arch": "amd64", "kubernetes.io/role": "agent", "type": "kwok"},
		},
		// Ordinary pods stay on the real node, which alone runs them.
		"spec":   map[string]any{"taints": []any{map[string]string{"key": simulatedLabel, "value": "true", "effect": "NoSchedule"}}},
		"status": map[string]any{"allocatable": resources, "capacity": resources},
	}
}
