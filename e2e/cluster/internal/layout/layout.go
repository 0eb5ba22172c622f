// Package layout derives every name, address and path of a cluster from its name, so that several clusters can run side by side.
package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
)

// Slots is how many clusters can run side by side: each takes one slot of the address plan.
const Slots = 32

// maxStatePath keeps the sockets below the state folder under the 108 bytes that a unix socket address may have.
const maxStatePath = 64

// ErrDamaged is a state folder that was written by something else, or not to its end.
var ErrDamaged = errors.New("cannot be read: run ers-cluster down, then up")

// Links holds the link of every slot.
var Links = netip.MustParsePrefix("192.168.231.0/24")

var validName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,14}[a-z0-9])?$`)

// Layout is one cluster's names, addresses and paths.
type Layout struct {
	Name  string `json:"name"`
	Slot  int    `json:"slot"`
	State string `json:"-"`
}

// New checks the name and picks the state folder. The slot is the preferred one; see Taken.
func New(name, state string) (Layout, error) {
	if !validName.MatchString(name) {
		return Layout{}, fmt.Errorf("ERS_CLUSTER=%q: want 1 to 16 characters of a-z, 0-9 and '-', starting with a letter", name)
	}
	if state == "" {
		if base := os.Getenv("XDG_STATE_HOME"); base != "" {
			state = filepath.Join(base, "ers-cluster", name)
		} else {
			state = filepath.Join("/var/lib/ers-cluster", name)
		}
	}
	state, err := filepath.Abs(state)
	if err != nil {
		return Layout{}, err
	}
	if len(state) > maxStatePath {
		return Layout{}, fmt.Errorf("the state folder %s has %d characters, sockets below it allow %d: set ERS_CLUSTER_STATE to a shorter path", state, len(state), maxStatePath)
	}
	if state == "/" || filepath.Dir(state) == "/" {
		return Layout{}, fmt.Errorf("the state folder %s is too close to the root: down deletes it, so give it a folder of its own", state)
	}
	return Layout{Name: name, State: state, Slot: PreferredSlot(name)}, nil
}

// PreferredSlot is where the search for a free slot starts: 0 for the default cluster, else by the hash of the name.
func PreferredSlot(name string) int {
	if name == "ers" {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return 1 + int(h.Sum32()%(Slots-1))
}

// Load reads the slot that an earlier up has chosen; ok is false when there is none.
func (l Layout) Load() (Layout, bool, error) {
	data, err := os.ReadFile(l.File("cluster.json"))
	if errors.Is(err, os.ErrNotExist) {
		return l, false, nil
	}
	if err != nil {
		return l, false, err
	}
	var saved Layout
	if err := json.Unmarshal(data, &saved); err != nil {
		return l, false, fmt.Errorf("%s: %w (%w)", l.File("cluster.json"), ErrDamaged, err)
	}
	if saved.Name != l.Name {
		return l, false, fmt.Errorf("the state folder %s belongs to the cluster %q, not to %q: set ERS_CLUSTER_STATE or ERS_CLUSTER", l.State, saved.Name, l.Name)
	}
	if saved.Slot < 0 || saved.Slot >= Slots {
		return l, false, fmt.Errorf("%s: %w (slot %d is outside 0..%d)", l.File("cluster.json"), ErrDamaged, saved.Slot, Slots-1)
	}
	saved.State = l.State
	return saved, true, nil
}

// Save records the slot.
func (l Layout) Save() error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(l.File("cluster.json"), append(data, '\n'), 0o644)
}

// Choose returns the layout with the first slot, from the preferred one on, whose ranges overlap with none of taken.
func (l Layout) Choose(taken []netip.Prefix) (Layout, error) {
	var last netip.Prefix
	for i := range Slots {
		c := l
		c.Slot = (l.Slot + i) % Slots
		clash, found := c.Clash(taken)
		if !found {
			return c, nil
		}
		last = clash
	}
	return l, fmt.Errorf("no free address range: all %d slots of 192.168.231.0/24, 10.96.0.0/11 and 10.160.0.0/11 overlap with routes of this machine (the last one with %s); end another cluster (ERS_CLUSTER=... ers-cluster down) or the route", Slots, last)
}

// Clash names the first of the given prefixes that overlaps with one of the cluster's own.
func (l Layout) Clash(taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		for _, own := range []netip.Prefix{l.Link(), l.Services(), l.Pods()} {
			if t.Bits() > 0 && t.Overlaps(own) {
				return t, true
			}
		}
	}
	return netip.Prefix{}, false
}

// File is a path below the state folder.
func (l Layout) File(parts ...string) string {
	return filepath.Join(append([]string{l.State}, parts...)...)
}

func (l Layout) id() string {
	if l.Name == "ers" {
		return "ers"
	}
	return "ers-" + l.Name
}

// Netns is the name of the network namespace, as `ip netns` shows it.
func (l Layout) Netns() string { return l.id() }

// NetnsPath is the file that holds the network namespace.
func (l Layout) NetnsPath() string { return "/run/netns/" + l.Netns() }

// MountNs is the file that holds the mount namespace: the folder is its own private mount, so that the kernel allows it.
func (l Layout) MountNs() string { return l.File("ns", "mnt") }

// Cgroup is the name of the cluster's control group below every hierarchy's root.
func (l Layout) Cgroup() string { return CgroupPrefix + l.Name }

// CgroupPrefix begins the control group of every cluster.
const CgroupPrefix = "ers-cluster-"

// CNIName is the name of the pod network.
func (l Layout) CNIName() string { return "ers-cluster." + l.Name }

// HostIf and NodeIf are the two ends of the veth pair.
func (l Layout) HostIf() string { return fmt.Sprintf("ersh%d", l.Slot) }

// NodeIf is the end inside the namespace.
func (l Layout) NodeIf() string { return fmt.Sprintf("ersn%d", l.Slot) }

// Bridge is the pod bridge inside the namespace.
func (l Layout) Bridge() string { return "ersbr0" }

// Node is the name of the real node.
func (l Layout) Node() string { return l.Name + "-node-1" }

// Link is the range of the veth pair.
func (l Layout) Link() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 231, byte(4 * l.Slot)}), 30)
}

// HostIP is the host's address on the link.
func (l Layout) HostIP() string { return l.Link().Addr().Next().String() }

// NodeIP is the node's address on the link.
func (l Layout) NodeIP() string { return l.Link().Addr().Next().Next().String() }

// Services is the range of ClusterIPs.
func (l Layout) Services() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(96 + l.Slot), 0, 0}), 16)
}

// KubernetesIP is the address of the service `kubernetes`.
func (l Layout) KubernetesIP() string { return l.Services().Addr().Next().String() }

// DNSIP is the address of the service `kube-dns`.
func (l Layout) DNSIP() string {
	return netip.AddrFrom4([4]byte{10, byte(96 + l.Slot), 0, 10}).String()
}

// Pods is the range of pod addresses.
func (l Layout) Pods() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(160 + l.Slot), 0, 0}), 16)
}

// SimulatedPods is the range that simulated pods report; nothing routes there.
func (l Layout) SimulatedPods() string { return "100.64.0.0/16" }

// Server is the API server's address, from the host and from the node.
func (l Layout) Server() string { return "https://" + l.NodeIP() + ":6443" }

// Containerd is the address of the container runtime.
func (l Layout) Containerd() string { return l.File("containerd.sock") }

// Kubeconfig is the administrator's.
func (l Layout) Kubeconfig() string { return l.File("kubeconfig") }

// Registry is where `up --registry` listens.
func (l Layout) Registry() string { return l.HostIP() + ":5000" }
