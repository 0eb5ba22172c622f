// Package netpolicy turns NetworkPolicies into packet filter rules on the real node.
package netpolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// Selector is a label selector; nil selects nothing, an empty one everything.
type Selector struct {
	MatchLabels      map[string]string
	MatchExpressions []struct {
		Key, Operator string
		Values        []string
	}
}

// Matches says whether the selector selects the labels.
func (s *Selector) Matches(labels map[string]string) bool {
	if s == nil {
		return false
	}
	for key, value := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, has := labels[e.Key]
		in := has && slices.Contains(e.Values, value)
		switch e.Operator {
		case "In":
			if !in {
				return false
			}
		case "NotIn":
			if in {
				return false
			}
		case "Exists":
			if !has {
				return false
			}
		case "DoesNotExist":
			if has {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// Metadata of any object.
type Metadata struct {
	Name, Namespace string
	Labels          map[string]string
}

// Pod is a pod of the real node.
type Pod struct {
	Metadata Metadata
	Spec     struct {
		HostNetwork bool
		Containers  []struct {
			Ports []struct {
				Name, Protocol string
				ContainerPort  int
			}
		}
	}
	Status struct{ Phase, PodIP string }
}

// Namespace with its labels.
type Namespace struct{ Metadata Metadata }

// Peer is one side of a rule.
type Peer struct {
	PodSelector, NamespaceSelector *Selector
	IPBlock                        *struct {
		CIDR   string
		Except []string
	}
}

// Port of a rule; Port is a number, a name, or nil for all.
type Port struct {
	Protocol string
	Port     any
	EndPort  int
}

// Policy is a NetworkPolicy.
type Policy struct {
	Metadata Metadata
	Spec     struct {
		PodSelector Selector
		PolicyTypes []string
		Ingress     []struct {
			From  []Peer
			Ports []Port
		}
		Egress []struct {
			To    []Peer
			Ports []Port
		}
	}
}

// The two chains, both in the table mangle: what the filter table of kube-proxy accepts has passed here before.
const (
	ingressChain = "ERS-POLICY-INGRESS"
	egressChain  = "ERS-POLICY-EGRESS"
)

// Rules is the input for iptables-restore: for each isolated pod and direction what may pass, and then a DROP. Traffic of the node itself
// (probes, the API server's calls of webhooks) does not come by here and always passes, as the API demands for the kubelet's. The host is
// the same machine, so what comes from its address passes too.
func Rules(host string, pods []Pod, namespaces []Namespace, policies []Policy) string {
	running := make([]Pod, 0, len(pods))
	for _, pod := range pods {
		address, err := netip.ParseAddr(pod.Status.PodIP)
		if err == nil && address.Is4() && !pod.Spec.HostNetwork && pod.Status.Phase != "Succeeded" && pod.Status.Phase != "Failed" {
			running = append(running, pod)
		}
	}
	sort.Slice(running, func(i, j int) bool { return running[i].Status.PodIP < running[j].Status.PodIP })
	labels := map[string]map[string]string{}
	for _, n := range namespaces {
		labels[n.Metadata.Name] = n.Metadata.Labels
	}
	w := world{running, labels}
	var out strings.Builder
	fmt.Fprintf(&out, "*mangle\n:%s - [0:0]\n:%s - [0:0]\n", ingressChain, egressChain)
	for _, chain := range []string{ingressChain, egressChain} {
		fmt.Fprintf(&out, "-A %s -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN\n", chain)
	}
	fmt.Fprintf(&out, "-A %s -s %s -j RETURN\n", ingressChain, host)
	for _, pod := range running {
		w.isolate(&out, pod, policies, ingressChain)
		w.isolate(&out, pod, policies, egressChain)
	}
	out.WriteString("COMMIT\n")
	return out.String()
}

type world struct {
	pods       []Pod
	namespaces map[string]map[string]string
}

type rule struct {
	peers []Peer
	ports []Port
}

func (w world) isolate(out *strings.Builder, pod Pod, policies []Policy, chain string) {
	ingress := chain == ingressChain
	kind, own, other := "Egress", "-s", "-d"
	if ingress {
		kind, own, other = "Ingress", "-d", "-s"
	}
	isolated := false
	lines := map[string]bool{}
	for _, policy := range policies {
		if policy.Metadata.Namespace != pod.Metadata.Namespace || !policy.Spec.PodSelector.Matches(pod.Metadata.Labels) || !slices.Contains(policy.Spec.PolicyTypes, kind) {
			continue
		}
		isolated = true
		var rules []rule
		if ingress {
			for _, r := range policy.Spec.Ingress {
				rules = append(rules, rule{r.From, r.Ports})
			}
		} else {
			for _, r := range policy.Spec.Egress {
				rules = append(rules, rule{r.To, r.Ports})
			}
		}
		for _, r := range rules {
			for _, target := range w.targets(r.peers, policy.Metadata.Namespace) {
				listener := []Pod{pod}
				if !ingress {
					listener = w.at(target)
				}
				for _, ports := range portMatches(r.ports, listener) {
					match := ""
					if target != "" {
						match = " " + other + " " + target
					}
					lines[fmt.Sprintf("-A %s %s %s%s%s -j RETURN\n", chain, own, pod.Status.PodIP, match, ports)] = true
				}
			}
		}
	}
	if !isolated {
		return
	}
	// A pod that reaches itself through its service.
	lines[fmt.Sprintf("-A %s -s %s -d %s -j RETURN\n", chain, pod.Status.PodIP, pod.Status.PodIP)] = true
	sorted := make([]string, 0, len(lines))
	for line := range lines {
		sorted = append(sorted, line)
	}
	sort.Strings(sorted)
	for _, line := range sorted {
		out.WriteString(line)
	}
	fmt.Fprintf(out, "-A %s %s %s -j DROP\n", chain, own, pod.Status.PodIP)
}

// targets is the addresses of the peers; "" is everybody.
func (w world) targets(peers []Peer, namespace string) []string {
	if len(peers) == 0 {
		return []string{""}
	}
	var out []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			out = append(out, subtract(peer.IPBlock.CIDR, peer.IPBlock.Except)...)
			continue
		}
		for _, pod := range w.pods {
			inNamespace := pod.Metadata.Namespace == namespace
			if peer.NamespaceSelector != nil {
				inNamespace = peer.NamespaceSelector.Matches(w.namespaces[pod.Metadata.Namespace])
			}
			if inNamespace && (peer.PodSelector == nil || peer.PodSelector.Matches(pod.Metadata.Labels)) {
				out = append(out, pod.Status.PodIP)
			}
		}
	}
	return out
}

// at is the pods that a target means, whose named ports count.
func (w world) at(target string) []Pod {
	var out []Pod
	for _, pod := range w.pods {
		if target == "" || pod.Status.PodIP == target {
			out = append(out, pod)
		}
	}
	return out
}

func portMatches(ports []Port, listeners []Pod) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var out []string
	for _, port := range ports {
		protocol := strings.ToLower(port.Protocol)
		if protocol == "" {
			protocol = "tcp"
		}
		switch value := port.Port.(type) {
		case nil:
			out = append(out, " -p "+protocol)
		case float64:
			match := fmt.Sprintf(" -p %s --dport %d", protocol, int(value))
			if port.EndPort > int(value) {
				match += fmt.Sprintf(":%d", port.EndPort)
			}
			out = append(out, match)
		case string:
			for _, pod := range listeners {
				for _, container := range pod.Spec.Containers {
					for _, named := range container.Ports {
						kind := strings.ToLower(named.Protocol)
						if named.Name == value && (kind == protocol || kind == "" && protocol == "tcp") {
							out = append(out, fmt.Sprintf(" -p %s --dport %d", protocol, named.ContainerPort))
						}
					}
				}
			}
		}
	}
	return out
}

// subtract is the ranges of cidr without those in except. IPv6 ranges have no meaning here.
func subtract(cidr string, except []string) []string {
	whole, err := netip.ParsePrefix(cidr)
	if err != nil || !whole.Addr().Is4() {
		return nil
	}
	keep := []netip.Prefix{whole.Masked()}
	for _, text := range except {
		cut, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		var next []netip.Prefix
		for _, prefix := range keep {
			next = append(next, without(prefix, cut.Masked())...)
		}
		keep = next
	}
	out := make([]string, 0, len(keep))
	for _, prefix := range keep {
		out = append(out, prefix.String())
	}
	return out
}

func without(prefix, cut netip.Prefix) []netip.Prefix {
	if !prefix.Overlaps(cut) {
		return []netip.Prefix{prefix}
	}
	if cut.Bits() <= prefix.Bits() {
		return nil
	}
	low := netip.PrefixFrom(prefix.Addr(), prefix.Bits()+1)
	raw := prefix.Addr().As4()
	raw[prefix.Bits()/8] |= 0x80 >> (prefix.Bits() % 8)
	high := netip.PrefixFrom(netip.AddrFrom4(raw), prefix.Bits()+1)
	return append(without(low, cut), without(high, cut)...)
}
