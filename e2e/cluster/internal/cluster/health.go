package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"ers.local/cluster/internal/kube"
	"ers.local/cluster/internal/proc"
)

// probe asks one component whether it is well; nil means yes.
func (c *Cluster) probe(ctx context.Context, component Component) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	switch {
	case component.Probe == "containerd":
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Containerd())
		if err != nil {
			return err
		}
		return conn.Close()
	case component.Probe == "registry":
		return get(ctx, http.DefaultClient, "http://"+c.Registry()+"/v2/")
	case strings.HasPrefix(component.Probe, "/"):
		client, err := c.Admin()
		if err != nil {
			return err
		}
		return client.Get(ctx, component.Probe, nil)
	}
	roots := x509.NewCertPool()
	if ca, err := os.ReadFile(c.pki("ca.crt")); err == nil {
		roots.AppendCertsFromPEM(ca)
	}
	transport := &http.Transport{DialContext: proc.Dialer(c.NetnsPath()), DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	return get(ctx, &http.Client{Transport: transport}, component.Probe)
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return fmt.Errorf("answers %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// await waits until the component is well, and gives up at once when its process ends.
func (c *Cluster) await(ctx context.Context, component Component, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := c.probe(ctx, component)
		// The process first: what answers may be somebody else's.
		if record, ok := proc.Read(c.runDir(), component.Name); !ok || !record.Alive() {
			return fmt.Errorf("%s ended; the end of its log (ers-cluster logs %s):\n%s", component.Name, component.Name, tail(c.File("log", component.Name+".log"), 12))
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not healthy after %s: %v; the end of its log (ers-cluster logs %s):\n%s",
				component.Name, patience, err, component.Name, tail(c.File("log", component.Name+".log"), 12))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func tail(path string, lines int) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	data, err := io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-16384), 16384))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "    " + strings.Join(all[max(0, len(all)-lines):], "\n    ")
}

type condition struct {
	Type, Status, Message string
	LastHeartbeatTime     time.Time
}

// nodeReady reads the node's condition and checks that the kubelet has renewed its lease, because a dead kubelet's last word was Ready.
// A new node makes its lease ten seconds after its first status, which counts until then.
func (c *Cluster) nodeReady(ctx context.Context) error {
	client, err := c.Admin()
	if err != nil {
		return err
	}
	var node struct {
		Status struct{ Conditions []condition }
	}
	if err := client.Get(ctx, "/api/v1/nodes/"+c.Node(), &node); err != nil {
		return err
	}
	ready := condition{Message: "no Ready condition yet"}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" {
			ready = condition
		}
	}
	if ready.Status != "True" {
		return fmt.Errorf("not Ready: %s", ready.Message)
	}
	heard := ready.LastHeartbeatTime
	var lease struct {
		Spec struct{ RenewTime time.Time }
	}
	err = client.Get(ctx, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"+c.Node(), &lease)
	if err == nil {
		heard = lease.Spec.RenewTime
	} else if !kube.IsCode(err, http.StatusNotFound) {
		return err
	}
	if age := time.Since(heard); age > nodeSilence {
		return fmt.Errorf("the kubelet was not heard of for %s", age.Round(time.Second))
	}
	return nil
}

// nodeSilence is the lease's duration, as in kubelet.yaml.
const nodeSilence = 40 * time.Second

// dnsReady asks CoreDNS itself: the deployment's status tells what was, not what is.
func (c *Cluster) dnsReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, c.DNSIP()+":53")
	}}
	const name = "kubernetes.default.svc.cluster.local."
	addresses, err := resolver.LookupHost(ctx, name)
	if err != nil {
		return fmt.Errorf("CoreDNS does not answer at %s: %w", c.DNSIP(), err)
	}
	if len(addresses) != 1 || addresses[0] != c.KubernetesIP() {
		return fmt.Errorf("%s resolves to %v, not to %s", name, addresses, c.KubernetesIP())
	}
	return nil
}

// namespaces checks what holds the two namespaces; processes may live on in one that nothing can enter any more.
func (c *Cluster) namespaces(context.Context) error {
	if !isMount(c.NetnsPath()) {
		return fmt.Errorf("the network namespace %s is gone: ers-cluster up starts everything anew", c.Netns())
	}
	if !isMount(c.MountNs()) {
		return fmt.Errorf("the mount namespace %s is gone: ers-cluster up starts everything anew", c.MountNs())
	}
	return nil
}

// poll repeats check until it is nil.
func poll(ctx context.Context, patience time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", patience, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Line is one line of the status table.
type Line struct {
	Name, State, Detail string
	PID                 int
	Uptime              time.Duration
	RSS                 int64
}

// Status looks at everything; healthy is false when anything is not as it should be.
func (c *Cluster) Status(ctx context.Context) (lines []Line, healthy bool) {
	healthy = true
	c.remembered()
	var wanted []Component
	for _, component := range Components() {
		if component.Wanted == nil || component.Wanted(c) {
			wanted = append(wanted, component)
		}
	}
	lines = make([]Line, len(wanted))
	done := make(chan struct{})
	for i, component := range wanted {
		go func() {
			lines[i] = c.statusOf(ctx, component)
			done <- struct{}{}
		}()
	}
	for range wanted {
		<-done
	}
	for _, check := range []struct {
		name string
		run  func(context.Context) error
	}{{"namespaces", c.namespaces}, {"node " + c.Node(), c.nodeReady}, {"dns", c.dnsReady}} {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		line := Line{Name: check.name, State: "ready"}
		if err := check.run(ctx); err != nil {
			line.State, line.Detail = "not ready", err.Error()
		}
		cancel()
		lines = append(lines, line)
	}
	for _, line := range lines {
		healthy = healthy && (line.State == "healthy" || line.State == "ready")
	}
	return lines, healthy
}

func (c *Cluster) statusOf(ctx context.Context, component Component) Line {
	line := Line{Name: component.Name}
	record, ok := proc.Read(c.runDir(), component.Name)
	switch {
	case !ok:
		line.State, line.Detail = "not started", "run ers-cluster up"
		return line
	case !record.Alive() && record.Stopped:
		line.State, line.Detail = "stopped", "by ers-cluster stop; ers-cluster start "+component.Name+" starts it"
		return line
	case !record.Alive():
		line.State, line.Detail = "dead", "ers-cluster up restarts it; ers-cluster logs "+component.Name
		return line
	}
	line.PID, line.Uptime, line.RSS, line.State = record.PID, record.Uptime(), record.RSS(), "healthy"
	if err := c.probe(ctx, component); err != nil {
		line.State, line.Detail = "unhealthy", err.Error()
	}
	return line
}
