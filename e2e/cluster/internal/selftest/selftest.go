// Package selftest proves on a running cluster that it does what it says.
package selftest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ers.local/cluster/internal/cluster"
	"ers.local/cluster/internal/image"
	"ers.local/cluster/internal/kube"
)

// Run makes a namespace, does every check in it, removes it, and fails when a check has failed.
func Run(ctx context.Context, c *cluster.Cluster, quick bool) error {
	admin, err := c.Admin()
	if err != nil {
		return err
	}
	suffix := make([]byte, 3)
	if _, err := rand.Read(suffix); err != nil {
		return err
	}
	t := &test{cluster: c, admin: admin, namespace: "selftest-" + hex.EncodeToString(suffix)}
	if t.image, err = t.probeImage(); err != nil {
		return err
	}
	namespace := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": t.namespace,
		"labels": map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if err := admin.Create(ctx, "/api/v1/namespaces", namespace, nil); err != nil {
		return err
	}
	defer func() {
		// Also after an interrupt.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		for _, name := range []string{t.namespace, t.namespace + "-host"} {
			if err := admin.Delete(cleanup, "/api/v1/namespaces/"+name); err != nil {
				fmt.Printf("note: namespace %s is left: %v\n", name, err)
			}
		}
	}()
	checks := []check{
		{"the node is Ready and everything is healthy", t.healthy},
		{"a restricted pod runs, and its service answers on its ClusterIP from the host", t.service},
		{"a NodePort answers from the host", t.nodePort},
		{"a privileged pod is refused in a restricted namespace", t.privilegedRefused},
		{"a pod resolves names and reaches a service by name", t.dns},
		{"a pod reaches nothing outside", t.noWayOut},
		{"a NetworkPolicy keeps out whom it does not name, between neighbours too", t.policy},
		{"a claim gets a volume that a non-root pod writes", t.volume},
		{"a deleted claim takes its folder along, a retained one stays", t.reclaim},
		{"a limited volume is full when it is full", t.limited},
		{"a secret is encrypted in etcd", t.encrypted},
		{"a node reads the secrets of its own pods only", t.nodeAuthorizer},
		{"the audit log tells who made the secret, without its content", t.audit},
		{"a token with the audience ers:ns/p is reviewed, with its node", t.tokenReview},
		{"the kubelet's certificate verifies against kube-root-ca.crt, and its metrics name pods", t.kubeletMetrics},
		{"a pod of uid 65534 reads the host's /proc, /sys and /", t.hostPaths},
		{"exec works", t.exec},
	}
	if !quick {
		checks = append(checks, check{"a second cluster runs beside this one, and down leaves nothing of it", t.second})
	}
	failed := 0
	for _, each := range checks {
		began := time.Now()
		limit, cancel := context.WithTimeout(ctx, 2*time.Minute)
		err := each.run(limit)
		cancel()
		word := "ok  "
		if err != nil {
			word = "FAIL"
			failed++
		}
		fmt.Printf("%s %5.1f s  %s\n", word, time.Since(began).Seconds(), each.name)
		if err != nil {
			fmt.Printf("              %v\n", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	fmt.Printf("%d checks passed\n", len(checks))
	return nil
}

type check struct {
	name string
	run  func(context.Context) error
}

type test struct {
	cluster          *cluster.Cluster
	admin            *kube.Client
	namespace, image string
	clusterIP        string
}

// probeImage puts this program into an image and loads it.
func (t *test) probeImage() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "ers-selftest-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	built, err := image.Build(image.Spec{Binary: self, Name: "ers-cluster"}, filepath.Join(dir, "probe.tar"))
	if err != nil {
		return "", err
	}
	return built.Reference, t.cluster.LoadImage(built.Path)
}

func (t *test) path(kind string) string { return "/api/v1/namespaces/" + t.namespace + "/" + kind }

// pod is a restricted pod that runs the probe with args; change may add to it.
func (t *test) pod(name string, args []string, change func(spec, container map[string]any)) map[string]any {
	container := map[string]any{
		"name": "probe", "image": t.image, "args": append([]string{"_probe"}, args...),
		"securityContext": map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []string{"ALL"}}},
	}
	spec := map[string]any{
		"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
		"nodeSelector":    map[string]string{"kubernetes.io/hostname": t.cluster.Node()},
		"securityContext": map[string]any{"runAsNonRoot": true, "seccompProfile": map[string]string{"type": "RuntimeDefault"}},
		"containers":      []any{container},
	}
	if change != nil {
		change(spec, container)
	}
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "labels": map[string]string{"app": name}}, "spec": spec}
}

type podStatus struct {
	Metadata struct{ UID string }
	Status   struct {
		Phase, PodIP      string
		Conditions        []struct{ Type, Status, Message string }
		ContainerStatuses []struct {
			State struct {
				Waiting *struct{ Reason, Message string }
			}
		}
	}
}

func (t *test) await(ctx context.Context, path, phase string) (podStatus, error) {
	var p podStatus
	err := until(ctx, 60*time.Second, func(ctx context.Context) error {
		if err := t.admin.Get(ctx, path, &p); err != nil {
			return err
		}
		if p.Status.Phase == phase {
			return nil
		}
		if p.Status.Phase == "Failed" {
			return fatal{fmt.Errorf("the pod failed: %s", t.log(ctx, path))}
		}
		text, _ := json.Marshal(p.Status)
		return fmt.Errorf("the pod is %s, not %s: %.600s", p.Status.Phase, phase, text)
	})
	return p, err
}

func (t *test) log(ctx context.Context, path string) string {
	text, err := t.admin.Raw(ctx, http.MethodGet, path+"/log", "", nil)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// complete runs a pod to its end and hands back what it said.
func (t *test) complete(ctx context.Context, name string, args []string, change func(spec, container map[string]any)) (string, error) {
	path := t.path("pods") + "/" + name
	if err := t.admin.Create(ctx, t.path("pods"), t.pod(name, args, change), nil); err != nil {
		return "", err
	}
	if _, err := t.await(ctx, path, "Succeeded"); err != nil {
		return "", err
	}
	return t.log(ctx, path), nil
}

// fatal ends a wait at once.
type fatal struct{ error }

func until(ctx context.Context, patience time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if f, ok := err.(fatal); ok {
			return f.error
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// A connection of its own each time: an open one outlives a policy.
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return string(text), err
}
