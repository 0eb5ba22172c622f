package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ers.local/cluster/internal/layout"
	"ers.local/cluster/internal/proc"
	"golang.org/x/sys/unix"
)

// taken is every range that this machine routes or has an address in, apart from the cluster's own interface.
func taken(own string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	output, err := exec.Command("ip", "-j", "-4", "route", "show", "table", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("ip route: %w", err)
	}
	var routes []struct{ Dst, Dev, Type string }
	if err := json.Unmarshal(output, &routes); err != nil {
		return nil, fmt.Errorf("ip route: %w", err)
	}
	for _, route := range routes {
		if route.Dev == own || route.Dst == "default" {
			continue
		}
		if prefix, err := netip.ParsePrefix(route.Dst); err == nil {
			out = append(out, prefix)
		} else if address, err := netip.ParseAddr(route.Dst); err == nil {
			out = append(out, netip.PrefixFrom(address, 32))
		}
	}
	return out, nil
}

// chooseSlot takes the slot that is free, or checks that the slot of an earlier start still is.
func (c *Cluster) chooseSlot() error {
	if exists(c.File("cluster.json")) {
		prefixes, err := taken(c.HostIf())
		if err != nil {
			return err
		}
		if clash, found := c.Clash(prefixes); found {
			return fmt.Errorf("the cluster's ranges %s, %s and %s overlap with the route %s that this machine has now: remove that route, or run ers-cluster down and up to move the cluster", c.Link(), c.Services(), c.Pods(), clash)
		}
		return nil
	}
	prefixes, err := taken("")
	if err != nil {
		return err
	}
	chosen, err := c.Choose(prefixes)
	if err != nil {
		return err
	}
	// An interface of that name that carries no route (a half-made cluster of somebody else) is taken as well.
	for range layout.Slots {
		if _, err := net.InterfaceByName(chosen.HostIf()); err != nil {
			break
		}
		next := chosen
		next.Slot = (chosen.Slot + 1) % layout.Slots
		if chosen, err = next.Choose(prefixes); err != nil {
			return err
		}
	}
	c.Layout = chosen
	return c.Save()
}

// network makes the namespace and the veth pair. Every step looks first, so that it can be run again after a cut.
func (c *Cluster) network() error {
	if !c.netnsWorks() {
		_ = command("ip", "netns", "del", c.Netns())
		_ = os.Remove(c.NetnsPath())
		if err := command("ip", "netns", "add", c.Netns()); err != nil {
			return err
		}
	}
	node := []string{"nsenter", "--net=" + c.NetnsPath(), "--"}
	if command(append(node, "ip", "link", "show", c.NodeIf())...) != nil {
		if _, err := net.InterfaceByName(c.HostIf()); err == nil {
			if err := command("ip", "link", "del", c.HostIf()); err != nil {
				return err
			}
		}
		if err := command("ip", "link", "add", c.HostIf(), "type", "veth", "peer", "name", c.NodeIf(), "netns", c.Netns()); err != nil {
			return err
		}
	}
	if err := command("ip", "link", "set", c.HostIf(), "alias", "ers-cluster:"+c.Name); err != nil {
		return err
	}
	steps := [][]string{
		{"ip", "addr", "replace", c.HostIP() + "/30", "dev", c.HostIf()},
		{"ip", "link", "set", c.HostIf(), "up"},
		append(node, "ip", "link", "set", "lo", "up"),
		append(node, "ip", "addr", "replace", c.NodeIP()+"/30", "dev", c.NodeIf()),
		append(node, "ip", "link", "set", c.NodeIf(), "up"),
		append(node, "sysctl", "-qw", "net.ipv4.ip_forward=1"),
		// The node looks up a route before its rules rewrite the address, so the service range needs one. What no rule rewrites ends at
		// the host. There is no default route: nothing leaves.
		append(node, "ip", "route", "replace", c.Services().String(), "dev", c.NodeIf(), "src", c.NodeIP()),
		{"ip", "route", "replace", c.Services().String(), "via", c.NodeIP(), "dev", c.HostIf()},
		{"ip", "route", "replace", c.Pods().String(), "via", c.NodeIP(), "dev", c.HostIf()},
	}
	for _, step := range steps {
		if err := command(step...); err != nil {
			return err
		}
	}
	// A pod that reaches itself or its neighbour through a service needs the rules on bridged packets too. The switch belongs to the
	// namespace; a kernel without it has no bridge filter, which containers on one bridge can live without until such a packet comes.
	if err := c.inNetns("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"); err != nil {
		c.Say("warning: no bridge filter in this kernel (modprobe br_netfilter): a pod cannot reach its own node's pods through a service")
	}
	return nil
}

func (c *Cluster) netnsWorks() bool {
	return command("nsenter", "--net="+c.NetnsPath(), "--", "true") == nil && isMount(c.NetnsPath())
}

// mountNamespace makes the namespace that containerd and the kubelet mount in. Its mounts go away with it, and they are shared inside,
// which `mountPropagation: HostToContainer` needs and which the root of a machine without systemd is not.
func (c *Cluster) mountNamespace() error {
	dir, file := filepath.Dir(c.MountNs()), c.MountNs()
	if isMount(file) && command("nsenter", "--mount="+file, "--", "true") == nil {
		return nil
	}
	_ = unix.Unmount(file, unix.MNT_DETACH)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if !isMount(dir) {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	// The kernel holds a mount namespace only where the mount does not travel to others.
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", dir, err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := command("unshare", "--mount="+file, "--propagation", "slave", "true"); err != nil {
		return err
	}
	if err := command("nsenter", "--mount="+file, "--", "mount", "--make-rshared", "/"); err != nil {
		return err
	}
	return c.ownFolders()
}

// fixedFolders is where containerd, its network plugins and the kubelet keep things whatever they are told, and where our agents spool. Inside the mount namespace a
// folder of the state lies over each, so that clusters do not share them and nothing is left in them.
var fixedFolders = []string{"/var/lib/kubelet", "/var/lib/cni", "/run/containerd", "/var/log/containers", "/var/lib/ers-agent"}

func (c *Cluster) ownFolders() error {
	for _, dir := range fixedFolders {
		if !exists(dir) {
			if err := os.MkdirAll(madeDir, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(madeMarker(dir), nil, 0o644); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		own := c.File("fixed", dir)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		if err := command("nsenter", "--mount="+c.MountNs(), "--", "mount", "--bind", own, dir); err != nil {
			return err
		}
	}
	return nil
}

// madeDir remembers which of the fixed folders this tool has made. The last cluster's down removes them: removing a folder takes away
// what other mount namespaces have mounted on it.
const madeDir = lockDir + "/made"

func madeMarker(dir string) string {
	return filepath.Join(madeDir, strings.ReplaceAll(strings.TrimPrefix(dir, "/"), "/", "-"))
}

func removeFixedFolders() {
	for _, root := range proc.Hierarchies() {
		if others, _ := filepath.Glob(filepath.Join(root, layout.CgroupPrefix+"*")); len(others) > 0 {
			return
		}
	}
	for _, dir := range fixedFolders {
		if exists(madeMarker(dir)) {
			_ = unix.Rmdir(dir)
			_ = os.Remove(madeMarker(dir))
		}
	}
	_ = unix.Rmdir(madeDir)
}

func isMount(path string) bool {
	for _, mount := range mounts() {
		if mount == path {
			return true
		}
	}
	return false
}

// mounts is every mount point of this mount namespace, the latest last.
func mounts() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []string
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`)
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 {
			out = append(out, unescape.Replace(fields[4]))
		}
	}
	return out
}

func (c *Cluster) cgroups() error {
	if len(proc.Hierarchies()) == 0 {
		return fmt.Errorf("no control groups are mounted: mount -t cgroup2 none /sys/fs/cgroup")
	}
	if err := proc.MakeCgroup(c.systemCgroup()); err != nil {
		return err
	}
	return proc.MakeCgroup(c.Cgroup())
}

// The kubelet makes kubepods beside it.
func (c *Cluster) systemCgroup() string { return c.Cgroup() + "/system" }
