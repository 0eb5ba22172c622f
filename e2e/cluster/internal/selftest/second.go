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

	"ers.local/cluster/internal/layout"
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
	state := filepath.Join(dir, "state")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	run := func(arguments ...string) error {
		command := exec.CommandContext(ctx, self, arguments...)
		command.Env = append(os.Environ(), "ERS_CLUSTER="+name, "ERS_CLUSTER_STATE="+state)
		output, err := command.CombinedOutput()
		if err != nil {
			return fmt.Errorf("ers-cluster %s: %w: %s", strings.Join(arguments, " "), err, output)
		}
		return nil
	}
	before := traces(name, state)
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
	if problem == nil && sameTraces(before, traces(name, state)) == nil {
		problem = fmt.Errorf("the comparison does not notice a running cluster")
	}
	if err := run("down"); err != nil {
		return err
	}
	if problem != nil {
		return problem
	}
	// The kernel lets go of a namespace and its interface a moment after the last process.
	if err := until(ctx, 5*time.Second, func(context.Context) error { return sameTraces(before, traces(name, state)) }); err != nil {
		return err
	}
	return t.healthy(ctx)
}

// traces is what the cluster of that name and state folder can leave on a machine.
func traces(name, state string) map[string]bool {
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
	// A process of the second cluster names its state folder, or sits in its control group.
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		if text, _ := os.ReadFile(file); strings.Contains(string(text), state) {
			out[fmt.Sprintf("process %s %.80s", file, strings.ReplaceAll(string(text), "\x00", " "))] = true
		}
	}
	for _, pid := range proc.CgroupPIDs(layout.CgroupPrefix + name) {
		out[fmt.Sprintf("process %d in the control group", pid)] = true
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
