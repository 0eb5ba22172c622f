package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"ers.local/cluster/internal/build"
	"ers.local/cluster/internal/image"
	"ers.local/cluster/internal/proc"
)

// Programs is where the built programs and images are.
type Programs struct {
	Kubernetes, CoreDNS, Kwok, Self string
	PauseImage, PauseArchive        string
	CoreDNSImage, CoreDNSArchive    string
}

// Component is one process of the cluster.
type Component struct {
	Name    string
	Command func(c *Cluster, p Programs) []string
	Host    bool     // in the host's namespaces
	Mounts  bool     // in the cluster's mount namespace
	Probe   string   // what answers 200 when it is healthy; see health.go
	Files   []string // what it reads at its start, below the state folder
	Wanted  func(c *Cluster) bool
}

// Components in the order of their start.
func Components() []Component {
	return []Component{
		{Name: "etcd", Command: etcd, Probe: "http://127.0.0.1:2381/health"},
		{Name: "containerd", Command: containerd, Mounts: true, Probe: "containerd", Files: []string{"conf/containerd.toml", "cni/10-bridge.conflist"}},
		{Name: "kube-apiserver", Command: apiserver, Probe: "/readyz", Files: []string{"conf/audit-policy.yaml", "conf/encryption.yaml"}},
		{Name: "kube-controller-manager", Command: controllerManager, Probe: "https://127.0.0.1:10257/healthz"},
		{Name: "kube-scheduler", Command: scheduler, Probe: "https://127.0.0.1:10259/healthz"},
		{Name: "kubelet", Command: kubelet, Mounts: true, Probe: "http://127.0.0.1:10248/healthz", Files: []string{"conf/kubelet.yaml"}},
		{Name: "kube-proxy", Command: proxy, Probe: "http://127.0.0.1:10256/livez", Files: []string{"conf/proxy.yaml"}},
		{Name: "provisioner", Command: provisioner, Mounts: true, Probe: "http://127.0.0.1:10290/healthz"},
		{Name: "policies", Command: policies, Probe: "http://127.0.0.1:10291/healthz"},
		{Name: "simulator", Command: simulator, Probe: "http://127.0.0.1:10247/healthz", Wanted: func(c *Cluster) bool { return c.Simulated > 0 }},
		{Name: "registry", Command: registry, Host: true, Probe: "registry", Wanted: func(c *Cluster) bool { return c.WithRegistry }},
	}
}

func (c *Cluster) pki(name string) string { return c.File("pki", name) }

func (c *Cluster) spec(component Component, p Programs) proc.Spec {
	spec := proc.Spec{
		Component: component.Name, Command: component.Command(c, p),
		Log: c.File("log", component.Name+".log"), Cgroup: c.systemCgroup(),
	}
	if len(component.Files) > 0 {
		digest := sha256.New()
		for _, file := range component.Files {
			data, err := os.ReadFile(c.File(file))
			if err != nil {
				data = []byte(err.Error())
			}
			fmt.Fprintf(digest, "%s %d\n%s", file, len(data), data)
		}
		spec.Config = hex.EncodeToString(digest.Sum(nil))
	}
	if !component.Host {
		spec.Netns = c.NetnsPath()
	}
	if component.Mounts {
		spec.MountNs = c.MountNs()
	}
	return spec
}

func etcd(c *Cluster, p Programs) []string {
	return []string{p.Kubernetes, "etcd", "--name", c.Node(), "--data-dir", c.File("etcd"),
		"--listen-client-urls", "https://127.0.0.1:2379", "--advertise-client-urls", "https://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380",
		"--initial-cluster", c.Node() + "=http://127.0.0.1:2380",
		"--listen-metrics-urls", "http://127.0.0.1:2381",
		"--cert-file", c.pki("etcd.crt"), "--key-file", c.pki("etcd.key"), "--trusted-ca-file", c.pki("etcd-ca.crt"), "--client-cert-auth",
		// Nothing here has to outlive a power cut.
		"--unsafe-no-fsync", "--auto-compaction-retention", "1h", "--quota-backend-bytes", "4294967296", "--log-level", "warn"}
}

func apiserver(c *Cluster, p Programs) []string {
	return []string{p.Kubernetes, "kube-apiserver",
		"--advertise-address", c.NodeIP(), "--secure-port", "6443", "--service-cluster-ip-range", c.Services().String(),
		"--etcd-servers", "https://127.0.0.1:2379", "--etcd-cafile", c.pki("etcd-ca.crt"),
		"--etcd-certfile", c.pki("apiserver-etcd-client.crt"), "--etcd-keyfile", c.pki("apiserver-etcd-client.key"),
		"--tls-cert-file", c.pki("apiserver.crt"), "--tls-private-key-file", c.pki("apiserver.key"), "--client-ca-file", c.pki("ca.crt"),
		"--kubelet-certificate-authority", c.pki("ca.crt"), "--kubelet-preferred-address-types", "InternalIP",
		"--kubelet-client-certificate", c.pki("apiserver-kubelet-client.crt"), "--kubelet-client-key", c.pki("apiserver-kubelet-client.key"),
		"--requestheader-client-ca-file", c.pki("front-proxy-ca.crt"), "--requestheader-allowed-names", "front-proxy-client",
		"--requestheader-username-headers", "X-Remote-User", "--requestheader-group-headers", "X-Remote-Group",
		"--requestheader-extra-headers-prefix", "X-Remote-Extra-",
		"--proxy-client-cert-file", c.pki("front-proxy-client.crt"), "--proxy-client-key-file", c.pki("front-proxy-client.key"),
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file", c.pki("sa.pub"), "--service-account-signing-key-file", c.pki("sa.key"),
		"--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction", "--allow-privileged",
		"--encryption-provider-config", c.File("conf", "encryption.yaml"),
		"--audit-policy-file", c.File("conf", "audit-policy.yaml"), "--audit-log-path", c.File("log", "audit.log"), "--audit-log-format", "json",
		"--audit-log-maxsize", "100", "--audit-log-maxbackup", "2", "--profiling=false", "--endpoint-reconciler-type", "lease"}
}

func controllerManager(c *Cluster, p Programs) []string {
	return []string{p.Kubernetes, "kube-controller-manager",
		"--kubeconfig", c.File("conf", "controller-manager.kubeconfig"),
		"--authentication-kubeconfig", c.File("conf", "controller-manager.kubeconfig"), "--authorization-kubeconfig", c.File("conf", "controller-manager.kubeconfig"),
		"--client-ca-file", c.pki("ca.crt"), "--requestheader-client-ca-file", c.pki("front-proxy-ca.crt"),
		"--tls-cert-file", c.pki("controller-manager-serving.crt"), "--tls-private-key-file", c.pki("controller-manager-serving.key"),
		"--service-account-private-key-file", c.pki("sa.key"), "--root-ca-file", c.pki("ca.crt"),
		"--cluster-signing-cert-file", c.pki("ca.crt"), "--cluster-signing-key-file", c.pki("ca.key"),
		"--use-service-account-credentials", "--leader-elect=false", "--bind-address", "127.0.0.1", "--profiling=false",
		"--flex-volume-plugin-dir", c.File("kubelet", "volumeplugins"), "--kube-api-qps", "100", "--kube-api-burst", "200"}
}

func scheduler(c *Cluster, p Programs) []string {
	return []string{p.Kubernetes, "kube-scheduler",
		"--kubeconfig", c.File("conf", "scheduler.kubeconfig"),
		"--authentication-kubeconfig", c.File("conf", "scheduler.kubeconfig"), "--authorization-kubeconfig", c.File("conf", "scheduler.kubeconfig"),
		"--client-ca-file", c.pki("ca.crt"), "--requestheader-client-ca-file", c.pki("front-proxy-ca.crt"),
		"--tls-cert-file", c.pki("scheduler-serving.crt"), "--tls-private-key-file", c.pki("scheduler-serving.key"),
		"--leader-elect=false", "--bind-address", "127.0.0.1", "--profiling=false", "--kube-api-qps", "100", "--kube-api-burst", "200"}
}

func containerd(c *Cluster, _ Programs) []string {
	return []string{"containerd", "--config", c.File("conf", "containerd.toml")}
}

func kubelet(c *Cluster, p Programs) []string {
	return []string{p.Kubernetes, "kubelet", "--config", c.File("conf", "kubelet.yaml"), "--kubeconfig", c.File("conf", "kubelet.kubeconfig"),
		"--hostname-override", c.Node(), "--node-ip", c.NodeIP(), "--root-dir", c.File("kubelet"), "--cert-dir", c.File("kubelet", "pki"),
		// Without it cAdvisor looks in containerd's usual place, and its metrics lack the names of pods.
		"--containerd", c.Containerd()}
}

func proxy(c *Cluster, p Programs) []string {
	return []string{p.Kubernetes, "kube-proxy", "--config", c.File("conf", "proxy.yaml")}
}

func provisioner(c *Cluster, p Programs) []string {
	return []string{p.Self, "_provisioner", "--server", c.Server(), "--pki", c.File("pki"), "--node", c.Node(), "--volumes", c.File("volumes"), "--health", "127.0.0.1:10290"}
}

func policies(c *Cluster, p Programs) []string {
	return []string{p.Self, "_policies", "--server", c.Server(), "--pki", c.File("pki"), "--node", c.Node(), "--host", c.HostIP(), "--health", "127.0.0.1:10291"}
}

func simulator(c *Cluster, p Programs) []string {
	return []string{p.Kwok, "--kubeconfig", c.File("conf", "simulator.kubeconfig"), "--manage-nodes-with-annotation-selector", "kwok.x-k8s.io/node=fake",
		"--cidr", c.SimulatedPods(), "--node-ip", "127.0.0.1", "--node-lease-duration-seconds", "40", "--server-address", "127.0.0.1:10247", "--v", "WARN"}
}

func registry(c *Cluster, p Programs) []string {
	return []string{p.Self, "registry", "--listen", c.Registry(), "--dir", c.File("registry")}
}

func (c *Cluster) programs() (Programs, error) {
	var p Programs
	var err error
	if p.Self, err = c.self(); err != nil {
		return p, err
	}
	if p.Kubernetes, err = build.Kubernetes(c.Say); err != nil {
		return p, err
	}
	if p.CoreDNS, err = build.CoreDNS(c.Say); err != nil {
		return p, err
	}
	pause, err := build.Pause(c.Say)
	if err != nil {
		return p, err
	}
	if p.PauseImage, p.PauseArchive, err = build.Image(pause, "pause", image.Spec{Bare: true}); err != nil {
		return p, err
	}
	if p.CoreDNSImage, p.CoreDNSArchive, err = build.Image(p.CoreDNS, "coredns", image.Spec{Bare: true}); err != nil {
		return p, err
	}
	if c.Simulated > 0 {
		p.Kwok, err = build.Kwok(c.Say)
	}
	return p, err
}

// self is a copy of this program that a rebuild does not pull away from under the running provisioner.
func (c *Cluster) self() (string, error) { return copySelf(filepath.Join(c.State, "bin")) }

// Build makes every program and image that up needs, and says where they are.
func Build(say build.Progress) ([]string, error) {
	kubernetes, err := build.Kubernetes(say)
	if err != nil {
		return nil, err
	}
	coredns, err := build.CoreDNS(say)
	if err != nil {
		return nil, err
	}
	pause, err := build.Pause(say)
	if err != nil {
		return nil, err
	}
	return []string{kubernetes, coredns, pause}, nil
}
