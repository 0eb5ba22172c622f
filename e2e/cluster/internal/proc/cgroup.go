package proc

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Hierarchies is the root of every mounted control group hierarchy, of version 1 and of version 2.
func Hierarchies() []string {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer file.Close()
	seen := map[string]bool{}
	var out []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup") || seen[fields[4]] {
			continue
		}
		seen[fields[4]] = true
		out = append(out, fields[4])
	}
	sort.Strings(out)
	return out
}

func unified(root string) bool {
	_, err := os.Stat(filepath.Join(root, "cgroup.subtree_control"))
	if err == nil {
		return true
	}
	_, err = os.Stat(filepath.Join(root, "cgroup.controllers"))
	return err == nil
}

// MakeCgroup makes cgroup in every hierarchy, with what the kubelet expects of a parent: processors and memory nodes set, controllers on.
func MakeCgroup(cgroup string) error {
	for _, root := range Hierarchies() {
		path := root
		for _, part := range strings.Split(strings.Trim(cgroup, "/"), "/") {
			if unified(root) {
				enableControllers(path)
			}
			parent := path
			path = filepath.Join(path, part)
			if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("make control group: %w", err)
			}
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if unified(root) {
					continue
				}
				if value, err := os.ReadFile(filepath.Join(parent, file)); err == nil {
					_ = os.WriteFile(filepath.Join(path, file), value, 0o644)
				}
			}
		}
	}
	return nil
}

func enableControllers(path string) {
	available, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
	if err != nil {
		return
	}
	for _, controller := range strings.Fields(string(available)) {
		// One by one: a controller that cannot be turned on here must not keep the others off.
		_ = os.WriteFile(filepath.Join(path, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
}

// CgroupPIDs is every process in cgroup or below, in any hierarchy.
func CgroupPIDs(cgroup string) []int {
	seen := map[int]bool{}
	for _, root := range Hierarchies() {
		_ = filepath.WalkDir(filepath.Join(root, cgroup), func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil
			}
			data, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, field := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() {
					seen[pid] = true
				}
			}
			return nil
		})
	}
	out := make([]int, 0, len(seen))
	for pid := range seen {
		out = append(out, pid)
	}
	sort.Ints(out)
	return out
}

// EndCgroup ends every process in cgroup or below by force. Membership is what makes this safe: nothing else is ever put there.
func EndCgroup(cgroup string, patience time.Duration) error {
	end := time.Now().Add(patience)
	for {
		thaw(cgroup)
		pids := CgroupPIDs(cgroup)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v do not end; see /proc/PID/stack", pids)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// A frozen container cannot die.
func thaw(cgroup string) {
	for _, root := range Hierarchies() {
		_ = filepath.WalkDir(filepath.Join(root, cgroup), func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				for file, value := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
					if _, err := os.Stat(filepath.Join(path, file)); err == nil {
						_ = os.WriteFile(filepath.Join(path, file), []byte(value), 0o644)
					}
				}
			}
			return nil
		})
	}
}

// RemoveCgroup removes cgroup and everything below, in every hierarchy.
func RemoveCgroup(cgroup string) error {
	for _, root := range Hierarchies() {
		top := filepath.Join(root, cgroup)
		// The kernel lets go of a group a moment after its last process has ended.
		var err error
		for range 100 {
			if err = removeTree(top); err == nil {
				break
			}
			time.Sleep(30 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("remove control group: %w", err)
		}
	}
	return nil
}

func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// CgroupMemory is what a cgroup holds, in bytes: anonymous memory, and everything with the page cache.
func CgroupMemory(cgroup string) (anonymous, total int64) {
	for _, root := range Hierarchies() {
		dir := filepath.Join(root, cgroup)
		for _, file := range []string{"memory.usage_in_bytes", "memory.current"} {
			if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				total, _ = strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(data), "\n") {
			key, value, _ := strings.Cut(line, " ")
			if key == "total_rss" || key == "anon" {
				anonymous, _ = strconv.ParseInt(value, 10, 64)
			}
		}
	}
	return anonymous, total
}
