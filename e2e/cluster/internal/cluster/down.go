package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"ers.local/cluster/internal/proc"
	"golang.org/x/sys/unix"
)

// endAll ends every process of the cluster: those that are recorded, kindly, then whatever is left in its control group (containers,
// their shims, and processes whose record was lost).
func (c *Cluster) endAll() error {
	const patience = 2 * time.Second
	problems := make(chan error)
	components := Components()
	for _, component := range components {
		go func() {
			record, ok := proc.Read(c.runDir(), component.Name)
			if !ok {
				problems <- nil
				return
			}
			problems <- record.End(patience)
		}()
	}
	var all []error
	for range components {
		all = append(all, <-problems)
	}
	// Shims and containers outlive containerd on purpose.
	all = append(all, proc.EndCgroup(c.Cgroup(), 15*time.Second))
	return errors.Join(all...)
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
	removeFixedFolders()
	if len(problems) > 0 {
		return fmt.Errorf("the cluster %q is not all gone; run ers-cluster down again: %w", c.Name, errors.Join(problems...))
	}
	return c.removeState(keepLogs)
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
	if foreign := unknown(entries); len(foreign) > 0 {
		return fmt.Errorf("not deleting %s: it holds what no cluster puts there (%s); move that away and run ers-cluster down again", c.State, strings.Join(foreign, ", "))
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

// known is everything that a cluster keeps in its state folder.
var known = map[string]bool{"bin": true, "cluster.json": true, "cni": true, "cni-addresses": true, "complete": true, "conf": true,
	"containerd": true, "containerd-opt": true, "containerd-run": true, "containerd.sock": true, "containerd.sock.ttrpc": true, "etcd": true,
	"fixed": true, "kubeconfig": true, "kubelet": true, "log": true, "ns": true, "pki": true, "registries": true, "registry": true, "run": true,
	"runc": true, "settings.json": true, "volumes": true}

// unknown is what is in the state folder and was not put there by a cluster. A folder that was named by mistake is not deleted.
func unknown(entries []os.DirEntry) []string {
	var out []string
	for _, entry := range entries {
		if !known[strings.TrimSuffix(entry.Name(), ".new")] {
			out = append(out, entry.Name())
		}
	}
	return out
}
