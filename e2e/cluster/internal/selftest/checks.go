package selftest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"ers.local/cluster/internal/build"
	"ers.local/cluster/internal/kube"
	"ers.local/cluster/internal/proc"
)

func (t *test) healthy(ctx context.Context) error {
	lines, ok := t.cluster.Status(ctx)
	if ok {
		return nil
	}
	for _, line := range lines {
		if line.State != "healthy" && line.State != "ready" {
			return fmt.Errorf("%s is %s: %s", line.Name, line.State, line.Detail)
		}
	}
	return nil
}

func (t *test) service(ctx context.Context) error {
	if err := t.admin.Create(ctx, t.path("pods"), t.pod("web", []string{"serve", ":8080", "hello from a pod"}, nil), nil); err != nil {
		return err
	}
	service := map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]string{"name": "web"},
		"spec": map[string]any{"type": "NodePort", "selector": map[string]string{"app": "web"}, "ports": []any{map[string]any{"port": 80, "targetPort": 8080}}}}
	if err := t.admin.Create(ctx, t.path("services"), service, nil); err != nil {
		return err
	}
	if _, err := t.await(ctx, t.path("pods")+"/web", "Running"); err != nil {
		return err
	}
	var made struct{ Spec struct{ ClusterIP string } }
	if err := t.admin.Get(ctx, t.path("services")+"/web", &made); err != nil {
		return err
	}
	t.clusterIP = made.Spec.ClusterIP
	return t.answers(ctx, "http://"+made.Spec.ClusterIP+"/")
}

func (t *test) answers(ctx context.Context, url string) error {
	return until(ctx, 10*time.Second, func(ctx context.Context) error {
		text, err := fetch(ctx, url)
		if err == nil && text != "hello from a pod" {
			return fmt.Errorf("%s answers %q", url, text)
		}
		return err
	})
}

func (t *test) nodePort(ctx context.Context) error {
	var made struct {
		Spec struct{ Ports []struct{ NodePort int } }
	}
	if err := t.admin.Get(ctx, t.path("services")+"/web", &made); err != nil {
		return err
	}
	return t.answers(ctx, fmt.Sprintf("http://%s:%d/", t.cluster.NodeIP(), made.Spec.Ports[0].NodePort))
}

func (t *test) privilegedRefused(ctx context.Context) error {
	err := t.admin.Create(ctx, t.path("pods"), t.pod("bad", []string{"sleep"}, func(_, container map[string]any) {
		container["securityContext"] = map[string]any{"privileged": true}
	}), nil)
	if kube.IsCode(err, http.StatusForbidden) && strings.Contains(err.Error(), "PodSecurity") {
		return nil
	}
	return fmt.Errorf("want a refusal by PodSecurity, got %v", err)
}

func (t *test) dns(ctx context.Context) error {
	said, err := t.complete(ctx, "lookup", []string{"lookup", "kubernetes.default.svc.cluster.local"}, nil)
	if err != nil {
		return err
	}
	if said != t.cluster.KubernetesIP() {
		return fmt.Errorf("kubernetes.default resolves to %q, not %s", said, t.cluster.KubernetesIP())
	}
	// The short name and the search list, and a pod that reaches its neighbour on the same bridge.
	said, err = t.complete(ctx, "get", []string{"get", "http://web/"}, nil)
	if err == nil && said != "hello from a pod" {
		return fmt.Errorf("http://web/ answers %q", said)
	}
	return err
}

func (t *test) noWayOut(ctx context.Context) error {
	// 192.0.2.0/24 and 198.51.100.0/24 are for documentation; what matters is that no route leads anywhere.
	_, err := t.complete(ctx, "outside", []string{"unreachable", "198.51.100.1:443"}, nil)
	return err
}

func (t *test) policy(ctx context.Context) error {
	const path = "/apis/networking.k8s.io/v1/namespaces/"
	if err := t.admin.Create(ctx, t.path("pods"), t.pod("guarded", []string{"serve", ":8080", "hello from a pod"}, nil), nil); err != nil {
		return err
	}
	pod, err := t.await(ctx, t.path("pods")+"/guarded", "Running")
	if err != nil {
		return err
	}
	url := "http://" + pod.Status.PodIP + ":8080/"
	if err := t.answers(ctx, url); err != nil {
		return fmt.Errorf("before there is a policy: %w", err)
	}
	object := map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": map[string]string{"name": "guarded"},
		"spec": map[string]any{"podSelector": map[string]any{"matchLabels": map[string]string{"app": "guarded"}}, "policyTypes": []string{"Ingress"},
			"ingress": []any{map[string]any{"from": []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]string{"app": "friend"}}}},
				"ports": []any{map[string]any{"port": 8080}}}}}}
	if err := t.admin.Create(ctx, path+t.namespace+"/networkpolicies", object, nil); err != nil {
		return err
	}
	if _, err := t.complete(ctx, "stranger", []string{"unreachable", pod.Status.PodIP + ":8080"}, nil); err != nil {
		return err
	}
	said, err := t.complete(ctx, "friend", []string{"get", url}, nil)
	if err != nil {
		return err
	}
	if said != "hello from a pod" {
		return errors.New(said)
	}
	if err := t.answers(ctx, url); err != nil {
		return fmt.Errorf("the host is the node's own machine and is let in: %w", err)
	}
	return nil
}

func claim(name, class, size string) map[string]any {
	spec := map[string]any{"accessModes": []string{"ReadWriteOnce"}, "resources": map[string]any{"requests": map[string]string{"storage": size}}}
	if class != "" {
		spec["storageClassName"] = class
	}
	return map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]string{"name": name}, "spec": spec}
}

func withClaim(name string) func(spec, container map[string]any) {
	return func(spec, container map[string]any) {
		spec["securityContext"].(map[string]any)["fsGroup"] = 65534
		spec["volumes"] = []any{map[string]any{"name": "data", "persistentVolumeClaim": map[string]string{"claimName": name}}}
		container["volumeMounts"] = []any{map[string]any{"name": "data", "mountPath": "/data"}}
	}
}

func (t *test) volume(ctx context.Context) error {
	if err := t.admin.Create(ctx, t.path("persistentvolumeclaims"), claim("data", "", "1Gi"), nil); err != nil {
		return err
	}
	said, err := t.complete(ctx, "writer", []string{"write", "/data/file", "kept"}, withClaim("data"))
	if err != nil {
		return err
	}
	if said != "written by uid 65534 gid 65534" {
		return errors.New(said)
	}
	said, err = t.complete(ctx, "reader", []string{"read", "/data/file"}, withClaim("data"))
	if err == nil && said != "/data/file: kept" {
		return errors.New(said)
	}
	return err
}

type volume struct {
	Metadata struct{ Name string }
	Spec     struct {
		PersistentVolumeReclaimPolicy string
		Local                         struct{ Path string }
	}
}

func (t *test) volumeOf(ctx context.Context, claim string) (volume, error) {
	var c struct{ Spec struct{ VolumeName string } }
	var v volume
	if err := t.admin.Get(ctx, t.path("persistentvolumeclaims")+"/"+claim, &c); err != nil {
		return v, err
	}
	return v, t.admin.Get(ctx, "/api/v1/persistentvolumes/"+c.Spec.VolumeName, &v)
}

func (t *test) reclaim(ctx context.Context) error {
	gone, err := t.volumeOf(ctx, "data")
	if err != nil {
		return err
	}
	// A second volume, turned to Retain, as the administrator of a real cluster would.
	if err := t.admin.Create(ctx, t.path("persistentvolumeclaims"), claim("kept", "standard", "1Gi"), nil); err != nil {
		return err
	}
	if _, err := t.complete(ctx, "keeper", []string{"write", "/data/file", "kept"}, withClaim("kept")); err != nil {
		return err
	}
	kept, err := t.volumeOf(ctx, "kept")
	if err != nil {
		return err
	}
	if err := t.admin.Merge(ctx, "/api/v1/persistentvolumes/"+kept.Metadata.Name, map[string]any{"spec": map[string]string{"persistentVolumeReclaimPolicy": "Retain"}}); err != nil {
		return err
	}
	for _, pod := range []string{"writer", "reader", "keeper"} {
		if err := t.admin.Delete(ctx, t.path("pods")+"/"+pod); err != nil {
			return err
		}
	}
	for _, name := range []string{"data", "kept"} {
		if err := t.admin.Delete(ctx, t.path("persistentvolumeclaims")+"/"+name); err != nil {
			return err
		}
	}
	err = until(ctx, 30*time.Second, func(ctx context.Context) error {
		err := t.admin.Get(ctx, "/api/v1/persistentvolumes/"+gone.Metadata.Name, nil)
		if !kube.IsCode(err, http.StatusNotFound) {
			return fmt.Errorf("the volume %s is still there (%v)", gone.Metadata.Name, err)
		}
		if _, err := os.Stat(gone.Spec.Local.Path); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the folder %s is still there", gone.Spec.Local.Path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var after struct{ Status struct{ Phase string } }
	err = until(ctx, 30*time.Second, func(ctx context.Context) error {
		if err := t.admin.Get(ctx, "/api/v1/persistentvolumes/"+kept.Metadata.Name, &after); err != nil {
			return fatal{err}
		}
		if after.Status.Phase != "Released" {
			return fmt.Errorf("the retained volume is %s", after.Status.Phase)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if data, err := os.ReadFile(kept.Spec.Local.Path + "/file"); err != nil || string(data) != "kept" {
		return fmt.Errorf("the retained folder holds %q (%v)", data, err)
	}
	// Tidy up: back to Delete.
	return t.admin.Merge(ctx, "/api/v1/persistentvolumes/"+kept.Metadata.Name, map[string]any{"spec": map[string]string{"persistentVolumeReclaimPolicy": "Delete"}})
}

func (t *test) limited(ctx context.Context) error {
	if err := t.admin.Create(ctx, t.path("persistentvolumeclaims"), claim("small", "limited", "1Mi"), nil); err != nil {
		return err
	}
	path := t.path("pods") + "/fill"
	if err := t.admin.Create(ctx, t.path("pods"), t.pod("fill", []string{"write", "/data/file", strings.Repeat("x", 100_000)}, withClaim("small")), nil); err != nil {
		return err
	}
	if _, err := t.await(ctx, path, "Succeeded"); err != nil {
		return fmt.Errorf("100 kB into 1 MiB: %w", err)
	}
	// What a program may be told on its command line is limited, so a file does it: the program itself is larger than the volume.
	path = t.path("pods") + "/overfill"
	if err := t.admin.Create(ctx, t.path("pods"), t.pod("overfill", []string{"copy", "/bin/ers-cluster", "/data/file"}, withClaim("small")), nil); err != nil {
		return err
	}
	_, err := t.await(ctx, path, "Succeeded")
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		return fmt.Errorf("want \"no space left on device\", got %v", err)
	}
	return nil
}

// etcdValue reads a key past the API server.
func (t *test) etcdValue(ctx context.Context, key string) ([]byte, error) {
	pki := t.cluster.File("pki")
	ca, err := os.ReadFile(pki + "/etcd-ca.crt")
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(pki+"/apiserver-etcd-client.crt", pki+"/apiserver-etcd-client.key")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: proc.Dialer(t.cluster.NetnsPath()),
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
	body, err := json.Marshal(map[string][]byte{"key": []byte(key)})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://127.0.0.1:2379/v3/kv/range", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Kvs []struct{ Value []byte }
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &answer); err != nil || len(answer.Kvs) != 1 {
		return nil, fmt.Errorf("etcd answers %s: %.200s", response.Status, text)
	}
	return answer.Kvs[0].Value, nil
}

const plain = "a-secret-that-must-not-be-readable"

func (t *test) encrypted(ctx context.Context) error {
	secret := map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]string{"name": "own"}, "stringData": map[string]string{"key": plain}}
	if err := t.admin.Create(ctx, t.path("secrets"), secret, nil); err != nil {
		return err
	}
	value, err := t.etcdValue(ctx, "/registry/secrets/"+t.namespace+"/own")
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(value, []byte("k8s:enc:secretbox:v1:key1:")) || bytes.Contains(value, []byte(plain)) {
		return fmt.Errorf("etcd holds %.60q", value)
	}
	// The same look finds what is not encrypted, so the check can fail.
	value, err = t.etcdValue(ctx, "/registry/namespaces/"+t.namespace)
	if err == nil && !bytes.HasPrefix(value, []byte("k8s\x00")) {
		err = fmt.Errorf("etcd holds %.60q for a namespace", value)
	}
	return err
}

func (t *test) nodeAuthorizer(ctx context.Context) error {
	node, err := kube.New(t.cluster.Server(), t.cluster.File("pki"), "kubelet")
	if err != nil {
		return err
	}
	path := t.path("secrets") + "/own"
	if err := node.Get(ctx, path, nil); !kube.IsCode(err, http.StatusForbidden) {
		return fmt.Errorf("the node reads a secret that no pod of its uses: %v", err)
	}
	if _, err := t.complete(ctx, "user", []string{"read", "/secret/key"}, func(spec, container map[string]any) {
		spec["volumes"] = []any{map[string]any{"name": "s", "secret": map[string]any{"secretName": "own"}}}
		container["volumeMounts"] = []any{map[string]any{"name": "s", "mountPath": "/secret"}}
	}); err != nil {
		return err
	}
	other := map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]string{"name": "another-node"}}
	if err := node.Create(ctx, "/api/v1/nodes", other, nil); !kube.IsCode(err, http.StatusForbidden) {
		return fmt.Errorf("the node makes another node: %v", err)
	}
	return nil
}

func (t *test) audit(ctx context.Context) error {
	return until(ctx, 10*time.Second, func(context.Context) error {
		file, err := os.Open(t.cluster.File("log", "audit.log"))
		if err != nil {
			return err
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if bytes.Contains(lines.Bytes(), []byte(plain)) {
				return fatal{errors.New("the audit log holds a secret")}
			}
			var event struct {
				Level, Verb string
				User        struct{ Username string }
				ObjectRef   struct{ Resource, Namespace string }
			}
			if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
				return fmt.Errorf("a line that is not JSON: %w", err)
			}
			if event.Verb == "create" && event.ObjectRef.Resource == "secrets" && event.ObjectRef.Namespace == t.namespace && event.User.Username == "admin" {
				return nil
			}
		}
		return errors.New("no line about it")
	})
}

func (t *test) tokenReview(ctx context.Context) error {
	var pod podStatus
	if err := t.admin.Get(ctx, t.path("pods")+"/web", &pod); err != nil {
		return err
	}
	const audience = "ers:ns/p"
	request := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{
		"audiences": []string{audience}, "boundObjectRef": map[string]string{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": pod.Metadata.UID}}}
	var made struct{ Status struct{ Token string } }
	if err := t.admin.Create(ctx, t.path("serviceaccounts")+"/default/token", request, &made); err != nil {
		return err
	}
	for _, wanted := range []struct {
		audience string
		valid    bool
	}{{audience, true}, {"ers:ns/other", false}} {
		review := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
			"spec": map[string]any{"token": made.Status.Token, "audiences": []string{wanted.audience}}}
		var answer struct {
			Status struct {
				Authenticated bool
				Audiences     []string
				User          struct{ Extra map[string][]string }
			}
		}
		if err := t.admin.Create(ctx, "/apis/authentication.k8s.io/v1/tokenreviews", review, &answer); err != nil {
			return err
		}
		if answer.Status.Authenticated != wanted.valid {
			return fmt.Errorf("audience %s: authenticated %v", wanted.audience, answer.Status.Authenticated)
		}
		node := answer.Status.User.Extra["authentication.kubernetes.io/node-name"]
		if wanted.valid && (len(node) != 1 || node[0] != t.cluster.Node()) {
			return fmt.Errorf("the review names the node %v", node)
		}
	}
	return nil
}

func (t *test) kubeletMetrics(ctx context.Context) error {
	var root struct{ Data map[string]string }
	if err := t.admin.Get(ctx, t.path("configmaps")+"/kube-root-ca.crt", &root); err != nil {
		return err
	}
	// The CA that pods see, and no other, beside the administrator's client certificate.
	dir, err := os.MkdirTemp("", "ers-selftest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/ca.crt", []byte(root.Data["ca.crt"]), 0o600); err != nil {
		return err
	}
	for _, file := range []string{"admin.crt", "admin.key"} {
		data, err := os.ReadFile(t.cluster.File("pki", file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(dir+"/"+file, data, 0o600); err != nil {
			return err
		}
	}
	kubelet, err := kube.New("https://"+t.cluster.NodeIP()+":10250", dir, "admin")
	if err != nil {
		return err
	}
	want := `namespace="` + t.namespace + `",pod="web"`
	return until(ctx, 40*time.Second, func(ctx context.Context) error {
		text, err := kubelet.Raw(ctx, http.MethodGet, "/metrics/cadvisor", "", nil)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, `container_memory_working_set_bytes{container="probe"`) && strings.Contains(line, want) {
				return nil
			}
		}
		return fmt.Errorf("no container_memory_working_set_bytes with %s among %d bytes of metrics", want, len(text))
	})
}

func (t *test) hostPaths(ctx context.Context) error {
	restricted := t.namespace
	t.namespace += "-host"
	defer func() { t.namespace = restricted }()
	namespace := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": t.namespace,
		"labels": map[string]string{"pod-security.kubernetes.io/enforce": "privileged"}}}
	if err := t.admin.Create(ctx, "/api/v1/namespaces", namespace, nil); err != nil {
		return err
	}
	// The default service account comes a moment after its namespace.
	if err := until(ctx, 10*time.Second, func(ctx context.Context) error {
		return t.admin.Get(ctx, t.path("serviceaccounts")+"/default", nil)
	}); err != nil {
		return err
	}
	said, err := t.complete(ctx, "agent", []string{"read", "/host/proc/stat", "/host/proc/1/mounts", "/host/sys/devices/system/cpu/online", "/host/root/etc/os-release"}, func(spec, container map[string]any) {
		spec["hostNetwork"], spec["hostPID"] = true, true
		var volumes, mounts []any
		for name, path := range map[string]string{"proc": "/proc", "sys": "/sys", "root": "/"} {
			volumes = append(volumes, map[string]any{"name": name, "hostPath": map[string]string{"path": path}})
			mounts = append(mounts, map[string]any{"name": name, "mountPath": "/host/" + name, "readOnly": true, "mountPropagation": "HostToContainer"})
		}
		spec["volumes"], container["volumeMounts"] = volumes, mounts
	})
	if err == nil && !strings.Contains(said, "/host/proc/stat: cpu ") {
		return errors.New(said)
	}
	return err
}

func (t *test) exec(ctx context.Context) error {
	program, err := build.Kubernetes(func(string, ...any) {})
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, program, "kubectl", "--kubeconfig", t.cluster.Kubeconfig(), "-n", t.namespace, "exec", "web", "--",
		"/bin/ers-cluster", "_probe", "get", "http://127.0.0.1:8080/")
	output, err := command.CombinedOutput()
	if err != nil || string(output) != "hello from a pod" {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}
