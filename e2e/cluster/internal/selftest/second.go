package selftest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"ers.local/cluster/internal/cluster"
	"ers.local/cluster/internal/proc"
)

// second starts another cluster, looks at both, ends it, and compares the machine with how it was.
func (t *test) second(ctx context.Context) error {
	name := "side-" + strings.TrimPrefix(t.namespace, "selftest-")
	dir, err := os.MkdirTemp("/tmp", "ers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	run := func(arguments ...string) error {
		command := exec.CommandContext(ctx, self, arguments...)
		command.Env = append(os.Environ(), "ERS_CLUSTER="+name, "ERS_CLUSTER_STATE="+filepath.Join(dir, "state"))
		output, err := command.CombinedOutput()
		if err != nil {
			return fmt.Errorf("ers-cluster %s: %w: %s", strings.Join(arguments, " "), err, output)
		}
		return nil
	}
	before := traces(t.cluster)
	began := time.Now()
	if err := run("up"); err != nil {
		_ = run("down")
		return err
	}
	fmt.Printf("              the second cluster was up in %.1f s\n", time.Since(began).Seconds())
	problem := run("status")
	if problem == nil {
		problem = t.healthy(ctx)
	}
	if problem == nil {
		problem = t.answers(ctx, "http://"+t.clusterIP+"/")
	}
	if problem == nil && sameTraces(before, traces(t.cluster)) == nil {
		problem = fmt.Errorf("the comparison does not notice a running cluster")
	}
	if err := run("down"); err != nil {
		return err
	}
	if problem != nil {
		return problem
	}
	// The kernel lets go of a namespace and its interface a moment after the last process.
	if err := until(ctx, 5*time.Second, func(context.Context) error { return sameTraces(before, traces(t.cluster)) }); err != nil {
		return err
	}
	return t.healthy(ctx)
}

// traces is what a cluster can leave on a machine, apart from the cluster that stays.
func traces(stays *cluster.Cluster) map[string]bool {
	out := map[string]bool{}
	interfaces, _ := net.Interfaces()
	for _, each := range interfaces {
		if strings.HasPrefix(each.Name, "ers") {
			out["interface "+each.Name] = true
		}
	}
	namespaces, _ := filepath.Glob("/run/netns/*")
	for _, each := range namespaces {
		out["network namespace "+each] = true
	}
	for _, root := range proc.Hierarchies() {
		groups, _ := filepath.Glob(filepath.Join(root, "ers-cluster-*"))
		for _, each := range groups {
			out["control group "+each] = true
		}
	}
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && (strings.Contains(fields[4], "/ers-") || strings.Contains(fields[4], "/netns")) {
			out["mount "+fields[4]] = true
		}
	}
	for _, program := range [][]string{{"iptables-save"}, {"ip", "-4", "route", "show", "table", "all"}} {
		output, err := exec.Command(program[0], program[1:]...).Output()
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(output), "\n") {
			if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") {
				out[program[0]+" "+line] = true
			}
		}
	}
	own := map[int]bool{}
	for _, pid := range proc.CgroupPIDs(stays.Cgroup()) {
		own[pid] = true
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		text, _ := os.ReadFile(file)
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err != nil || own[pid] {
			continue
		}
		for _, word := range []string{"containerd", "kubelet", "kube-", "etcd", "/pause"} {
			if strings.Contains(string(text), word) && pid != os.Getpid() {
				out[fmt.Sprintf("process %d %.80s", pid, strings.ReplaceAll(string(text), "\x00", " "))] = true
				break
			}
		}
	}
	for _, pattern := range []string{"/var/lib/cni/*/*", "/var/lib/kubelet/*/*", "/var/log/containers/*", "/run/containerd/*/*", "/run/containerd/*/*/*", "/run/ers-cluster/*"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			out["file "+file] = true
		}
	}
	return out
}

func sameTraces(before, after map[string]bool) error {
	var more []string
	for trace := range after {
		if !before[trace] {
			more = append(more, trace)
		}
	}
	sort.Strings(more)
	if len(more) == 0 {
		return nil
	}
	return fmt.Errorf("left behind: %s", strings.Join(more, "; "))
}
