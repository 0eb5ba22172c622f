package netpolicy

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"ers.local/cluster/internal/kube"
)

// Applier keeps the rules of one node. It runs inside the cluster's network namespace.
type Applier struct {
	Client *kube.Client
	Node   string
	Host   string // the host's address, from which everything is let in

	lastGood atomic.Int64
	applied  string
}

type list[T any] struct{ Items []T }

// Run works until the context ends; while the API server is away the last rules stay.
func (a *Applier) Run(ctx context.Context) error {
	kick := make(chan struct{}, 1)
	pods := "/api/v1/pods?fieldSelector=" + url.QueryEscape("spec.nodeName="+a.Node)
	for _, path := range []string{pods, "/api/v1/namespaces", "/apis/networking.k8s.io/v1/networkpolicies"} {
		go a.Client.Follow(ctx, path, kick)
	}
	for {
		pause := 20 * time.Second
		if err := a.sync(ctx, pods); err != nil {
			log.Printf("sync: %v", err)
			pause = time.Second
		} else {
			a.lastGood.Store(time.Now().Unix())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-kick:
			time.Sleep(20 * time.Millisecond)
		case <-time.After(pause):
			a.applied = "" // somebody may have flushed the rules
		}
	}
}

// ServeHTTP answers 200 while the rules are in force.
func (a *Applier) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if bridge, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil || strings.TrimSpace(string(bridge)) != "1" {
		http.Error(w, "packets between pods of one bridge pass no rule: modprobe br_netfilter, then ers-cluster down and up", http.StatusServiceUnavailable)
		return
	}
	if age := time.Since(time.Unix(a.lastGood.Load(), 0)); age > time.Minute {
		http.Error(w, "the rules were not renewed for a minute", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (a *Applier) sync(ctx context.Context, podPath string) error {
	var pods list[Pod]
	var namespaces list[Namespace]
	var policies list[Policy]
	if err := a.Client.Get(ctx, podPath, &pods); err != nil {
		return err
	}
	if err := a.Client.Get(ctx, "/api/v1/namespaces", &namespaces); err != nil {
		return err
	}
	if err := a.Client.Get(ctx, "/apis/networking.k8s.io/v1/networkpolicies", &policies); err != nil {
		return err
	}
	rules := Rules(a.Host, pods.Items, namespaces.Items, policies.Items)
	if rules == a.applied {
		return nil
	}
	restore := exec.CommandContext(ctx, "iptables-restore", "--noflush", "--wait", "5")
	restore.Stdin = strings.NewReader(rules)
	if output, err := restore.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, output)
	}
	for _, chain := range []string{ingressChain, egressChain} {
		jump := []string{"FORWARD", "-j", chain}
		if exec.CommandContext(ctx, "iptables", append([]string{"--wait", "5", "-t", "mangle", "-C"}, jump...)...).Run() == nil {
			continue
		}
		if output, err := exec.CommandContext(ctx, "iptables", append([]string{"--wait", "5", "-t", "mangle", "-A"}, jump...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables: %w: %s", err, output)
		}
	}
	a.applied = rules
	log.Printf("%d rules for %d policies", strings.Count(rules, "\n-A"), len(policies.Items))
	return nil
}
