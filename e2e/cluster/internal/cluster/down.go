package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"ers.local/cluster/internal/proc"
	"golang.org/x/sys/unix"
)

// endAll ends every process of the cluster: those that are recorded, kindly, then whatever is left in its control group (containers,
// their shims, and processes whose record was lost).
func (c *Cluster) endAll() error {
	components := Components()
	for i := len(components) - 1; i >= 0; i-- {
		if record, ok := proc.Read(c.runDir(), components[i].Name); ok {
			if components[i].Name == "containerd" {
				// Shims outlive containerd on purpose. They go first, so that containerd can tidy up after them.
				_ = proc.EndCgroup(c.Cgroup()+"/kubepods", 5*time.Second)
			}
			if err := record.End(5 * time.Second); err != nil {
				return err
			}
		}
	}
	return proc.EndCgroup(c.Cgroup(), 15*time.Second)
}

// Down removes every trace. It looks at what is there and not at what should be, so it works after any accident.
func (c *Cluster) Down(keepLogs bool) error {
	var problems []error
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	note(c.endAll())
	c.removeOutside()
	for _, mount := range c.ownMounts() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			note(fmt.Errorf("unmount %s: %w", mount, err))
		}
	}
	if exists(c.NetnsPath()) {
		if command("ip", "netns", "del", c.Netns()) != nil {
			_ = unix.Unmount(c.NetnsPath(), unix.MNT_DETACH)
			note(os.Remove(c.NetnsPath()))
		}
	}
	note(c.removeInterfaces())
	note(proc.RemoveCgroup(c.Cgroup()))
	if len(problems) > 0 {
		return fmt.Errorf("the cluster %q is not all gone; run ers-cluster down again: %w", c.Name, errors.Join(problems...))
	}
	return c.removeState(keepLogs)
}

// removeOutside removes what containerd, its network plugins and the kubelet leave in fixed places of the machine.
func (c *Cluster) removeOutside() {
	addresses, _ := filepath.Glob(c.File("containerd-run", "io.containerd.runtime.v2.task", "*", "*", "address"))
	for _, file := range addresses {
		data, err := os.ReadFile(file)
		if path, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "unix://"); err == nil && ok && strings.HasPrefix(path, "/run/containerd/s/") {
			_ = os.Remove(path)
		}
	}
	result := regexp.MustCompile(`^` + regexp.QuoteMeta(c.CNIName()) + `-[0-9a-f]{64}-[a-z0-9]+$`)
	for _, dir := range []string{"/var/lib/cni/results", "/var/lib/cni/cache/results"} {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if result.MatchString(entry.Name()) {
				_ = os.Remove(filepath.Join(dir, entry.Name()))
			}
		}
	}
	links, _ := os.ReadDir("/var/log/containers")
	for _, link := range links {
		path := filepath.Join("/var/log/containers", link.Name())
		if target, err := os.Readlink(path); err == nil && strings.HasPrefix(target, c.State+"/") {
			_ = os.Remove(path)
		}
	}
	// Empty folders that no other cluster uses.
	for _, dir := range []string{"/var/log/containers", "/var/lib/cni/results", "/var/lib/cni/cache/results", "/var/lib/cni/cache", "/run/containerd/s"} {
		_ = unix.Rmdir(dir)
	}
}

// ownMounts is what is mounted in the state folder, the deepest first.
func (c *Cluster) ownMounts() []string {
	var out []string
	for _, mount := range mounts() {
		if mount == c.State || strings.HasPrefix(mount, c.State+"/") {
			out = append(out, mount)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return len(out[i]) > len(out[j]) })
	return out
}

// removeInterfaces removes the host's end of the veth pair, by the alias that names its owner: the slot may be unknown by now.
func (c *Cluster) removeInterfaces() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, each := range interfaces {
		if !strings.HasPrefix(each.Name, "ersh") {
			continue
		}
		alias, err := os.ReadFile("/sys/class/net/" + each.Name + "/ifalias")
		if err == nil && strings.TrimSpace(string(alias)) == "ers-cluster:"+c.Name {
			// It goes by itself with the namespace, a moment later.
			if err := command("ip", "link", "del", each.Name); err != nil && exists("/sys/class/net/"+each.Name) {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) removeState(keepLogs bool) error {
	if left := c.ownMounts(); len(left) > 0 {
		return fmt.Errorf("not deleting %s: still mounted: %s", c.State, strings.Join(left, ", "))
	}
	entries, err := os.ReadDir(c.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 && !c.looksLikeState() {
		return fmt.Errorf("not deleting %s: it does not look like the state of a cluster (neither cluster.json nor pki is in it)", c.State)
	}
	for _, entry := range entries {
		if keepLogs && entry.Name() == "log" {
			continue
		}
		// cluster.json last: a down that is cut off is still recognised by the next one.
		if entry.Name() == "cluster.json" {
			continue
		}
		if err := os.RemoveAll(c.File(entry.Name())); err != nil {
			return err
		}
	}
	_ = os.Remove(c.File("cluster.json"))
	if keepLogs {
		c.Say("the logs are kept in %s", c.File("log"))
		return nil
	}
	if err := os.Remove(c.State); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The parent, when it is ours and empty.
	if parent := filepath.Dir(c.State); filepath.Base(parent) == "ers-cluster" {
		_ = unix.Rmdir(parent)
	}
	return nil
}

func (c *Cluster) looksLikeState() bool {
	return exists(c.File("cluster.json")) || exists(c.File("pki")) || exists(c.File("log")) || exists(c.File("bin"))
}
