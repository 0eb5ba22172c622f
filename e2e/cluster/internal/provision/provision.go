// Package provision makes folders on the node into the volumes that claims ask for, and takes them away again.
package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ers.local/cluster/internal/kube"
	"golang.org/x/sys/unix"
)

// Name is the provisioner that a StorageClass names.
const Name = "cluster.ers.local/folder"

const (
	selectedNode  = "volume.kubernetes.io/selected-node"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	memorySize    = "cluster.ers.local/memory-bytes"
)

// Provisioner serves one node.
type Provisioner struct {
	Client *kube.Client
	Node   string
	Dir    string // every volume is a folder in it

	lastGood atomic.Int64
	told     map[string]string // claim -> the last problem that was reported
}

type meta struct {
	Name, Namespace, UID string
	Annotations          map[string]string
	DeletionTimestamp    *time.Time
}

type claim struct {
	Metadata meta
	Spec     struct {
		AccessModes      []string
		StorageClassName *string
		VolumeName       string
		VolumeMode       *string
		Resources        struct{ Requests map[string]string }
		Selector         *json.RawMessage
	}
	Status struct{ Phase string }
}

type volume struct {
	Metadata meta
	Spec     struct {
		PersistentVolumeReclaimPolicy string
		Local                         *struct{ Path string }
	}
	Status struct{ Phase string }
}

type class struct {
	Metadata          meta
	Provisioner       string
	ReclaimPolicy     string
	VolumeBindingMode string
	Parameters        map[string]string
}

type list[T any] struct{ Items []T }

// Run works until the context ends. It never gives up: the API server may be away for a while.
func (p *Provisioner) Run(ctx context.Context) error {
	p.told = map[string]string{}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return err
	}
	kick := make(chan struct{}, 1)
	for _, path := range []string{"/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"} {
		go p.Client.Follow(ctx, path, kick)
	}
	for {
		pause := 20 * time.Second
		if err := p.reconcile(ctx); err != nil {
			log.Printf("reconcile: %v", err)
			pause = time.Second
		} else {
			p.lastGood.Store(time.Now().Unix())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-kick:
			// Claims come in groups; one look serves them all.
			time.Sleep(50 * time.Millisecond)
		case <-time.After(pause):
		}
	}
}

// ServeHTTP answers 200 while the API server was reached lately.
func (p *Provisioner) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if age := time.Since(time.Unix(p.lastGood.Load(), 0)); age > time.Minute {
		http.Error(w, "the API server was not reached for a minute", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (p *Provisioner) reconcile(ctx context.Context) error {
	var classes list[class]
	var claims list[claim]
	var volumes list[volume]
	if err := p.Client.Get(ctx, "/apis/storage.k8s.io/v1/storageclasses", &classes); err != nil {
		return err
	}
	if err := p.Client.Get(ctx, "/api/v1/persistentvolumeclaims", &claims); err != nil {
		return err
	}
	if err := p.Client.Get(ctx, "/api/v1/persistentvolumes", &volumes); err != nil {
		return err
	}
	known := map[string]class{}
	for _, c := range classes.Items {
		if c.Provisioner == Name {
			known[c.Metadata.Name] = c
		}
	}
	var problems []error
	for _, v := range volumes.Items {
		if err := p.keep(ctx, v); err != nil {
			problems = append(problems, fmt.Errorf("volume %s: %w", v.Metadata.Name, err))
		}
	}
	for _, c := range claims.Items {
		if err := p.provision(ctx, c, known); err != nil {
			problems = append(problems, fmt.Errorf("claim %s/%s: %w", c.Metadata.Namespace, c.Metadata.Name, err))
			p.report(ctx, c, err)
		}
	}
	return errors.Join(problems...)
}

// keep deletes a released volume whose policy says so, and mounts again what a restart has unmounted.
func (p *Provisioner) keep(ctx context.Context, v volume) error {
	if v.Metadata.Annotations[provisionedBy] != Name || v.Spec.Local == nil {
		return nil
	}
	path := v.Spec.Local.Path
	if filepath.Dir(filepath.Clean(path)) != filepath.Clean(p.Dir) {
		return fmt.Errorf("its path %s is not in %s: left alone", path, p.Dir)
	}
	if v.Status.Phase != "Released" || v.Spec.PersistentVolumeReclaimPolicy != "Delete" {
		if size := v.Metadata.Annotations[memorySize]; size != "" && v.Metadata.DeletionTimestamp == nil {
			return mountMemory(path, size)
		}
		return nil
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if v.Metadata.DeletionTimestamp != nil {
		return nil
	}
	log.Printf("deleting volume %s and its folder", v.Metadata.Name)
	return p.Client.Delete(ctx, "/api/v1/persistentvolumes/"+v.Metadata.Name)
}

func (p *Provisioner) provision(ctx context.Context, c claim, classes map[string]class) error {
	if c.Status.Phase != "Pending" || c.Spec.VolumeName != "" || c.Spec.StorageClassName == nil || c.Metadata.DeletionTimestamp != nil {
		return nil
	}
	k, ours := classes[*c.Spec.StorageClassName]
	if !ours {
		return nil
	}
	node := c.Metadata.Annotations[selectedNode]
	if node == "" {
		if k.VolumeBindingMode == "WaitForFirstConsumer" {
			return nil
		}
		node = p.Node
	}
	if c.Spec.VolumeMode != nil && *c.Spec.VolumeMode != "Filesystem" {
		return errors.New("volumeMode Block is not possible here: volumes are folders")
	}
	if c.Spec.Selector != nil {
		return errors.New("a claim with a selector is not provisioned: it asks for a volume that exists")
	}
	size := c.Spec.Resources.Requests["storage"]
	name := "pvc-" + c.Metadata.UID
	path := filepath.Join(p.Dir, name)
	annotations := map[string]string{provisionedBy: Name}
	// Root's alone until the kubelet gives it to the pod's fsGroup, as with a fresh disk.
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	switch k.Parameters["medium"] {
	case "":
	case "memory":
		bytes, err := parseSize(size)
		if err != nil {
			return err
		}
		annotations[memorySize] = strconv.FormatInt(bytes, 10)
		if err := mountMemory(path, annotations[memorySize]); err != nil {
			return err
		}
	default:
		return fmt.Errorf("storage class %s: parameter medium is %q; only \"memory\" is known", k.Metadata.Name, k.Parameters["medium"])
	}
	policy := k.ReclaimPolicy
	if policy == "" {
		policy = "Delete"
	}
	pv := map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": map[string]any{"name": name, "annotations": annotations},
		"spec": map[string]any{
			"capacity": map[string]string{"storage": size}, "accessModes": c.Spec.AccessModes, "persistentVolumeReclaimPolicy": policy,
			"storageClassName": k.Metadata.Name, "volumeMode": "Filesystem", "local": map[string]string{"path": path},
			"claimRef": map[string]string{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": c.Metadata.Namespace, "name": c.Metadata.Name, "uid": c.Metadata.UID},
			"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{
				map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []string{node}}}}}}},
		},
	}
	err := p.Client.Create(ctx, "/api/v1/persistentvolumes", pv, nil)
	if kube.IsCode(err, http.StatusConflict) {
		return nil
	}
	if err == nil {
		log.Printf("made volume %s of %s for %s/%s", name, size, c.Metadata.Namespace, c.Metadata.Name)
	}
	return err
}

// report leaves an event on the claim, once per message.
func (p *Provisioner) report(ctx context.Context, c claim, problem error) {
	key, now := c.Metadata.UID, time.Now().UTC()
	if p.told[key] == problem.Error() {
		return
	}
	event := map[string]any{
		"apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "ProvisioningFailed", "message": problem.Error(),
		"metadata":       map[string]string{"namespace": c.Metadata.Namespace, "generateName": c.Metadata.Name + "."},
		"source":         map[string]string{"component": Name},
		"firstTimestamp": now.Format(time.RFC3339), "lastTimestamp": now.Format(time.RFC3339), "count": 1,
		"involvedObject": map[string]string{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": c.Metadata.Namespace, "name": c.Metadata.Name, "uid": c.Metadata.UID},
	}
	if err := p.Client.Create(ctx, "/api/v1/namespaces/"+c.Metadata.Namespace+"/events", event, nil); err == nil {
		p.told[key] = problem.Error()
	}
}

func mountMemory(path, size string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	var info unix.Statfs_t
	if err := unix.Statfs(path, &info); err != nil {
		return err
	}
	if info.Type == unix.TMPFS_MAGIC {
		var here, above unix.Stat_t
		if unix.Stat(path, &here) == nil && unix.Stat(filepath.Dir(path), &above) == nil && here.Dev != above.Dev {
			return nil
		}
	}
	return unix.Mount("tmpfs", path, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=0755,size="+size)
}

var units = []struct {
	suffix string
	factor int64
}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"", 1}}

// parseSize reads a Kubernetes quantity of bytes without fractions.
func parseSize(text string) (int64, error) {
	for _, unit := range units {
		if number, ok := strings.CutSuffix(text, unit.suffix); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil || n <= 0 || n > (1<<62)/unit.factor {
				break
			}
			return n * unit.factor, nil
		}
	}
	return 0, fmt.Errorf("size %q: want a whole number of bytes such as 64Mi or 1Gi", text)
}
