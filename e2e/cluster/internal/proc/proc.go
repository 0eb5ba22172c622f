// Package proc starts long-lived processes and remembers which ones they are: a process is its id, its start time and the boot it was
// started in, so that an id that the kernel has given to somebody else is never ended.
package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Record is one started process.
type Record struct {
	Component string   `json:"component"`
	PID       int      `json:"pid"`
	Start     uint64   `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
	Boot      string   `json:"boot"`
	Command   []string `json:"command"`
	Config    string   `json:"config"`  // digest of the files that it was started with
	Stopped   bool     `json:"stopped"` // by `ers-cluster stop`
}

// Spec is what to start and where.
type Spec struct {
	Component string
	Command   []string
	Config    string // digest of the files that it reads
	Log       string
	Netns     string // file of the network namespace; empty: the host's
	MountNs   string // file of the mount namespace; empty: the host's
	Cgroup    string // path below every hierarchy's root
}

// maxLog is when a log is moved aside at the next start.
const maxLog = 32 << 20

// Launch starts the process detached from this one, and records it in dir.
func Launch(dir string, spec Spec) (Record, error) {
	if info, err := os.Stat(spec.Log); err == nil && info.Size() > maxLog {
		if err := os.Rename(spec.Log, spec.Log+".1"); err != nil {
			return Record{}, err
		}
	}
	log, err := os.OpenFile(spec.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return Record{}, err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- ers-cluster starts %s at %s\n", spec.Component, time.Now().Format(time.RFC3339))
	self, err := os.Executable()
	if err != nil {
		return Record{}, err
	}
	args := []string{"_join", spec.Cgroup, "--"}
	if spec.Netns != "" || spec.MountNs != "" {
		args = append(args, "nsenter")
		if spec.Netns != "" {
			args = append(args, "--net="+spec.Netns)
		}
		if spec.MountNs != "" {
			args = append(args, "--mount="+spec.MountNs)
		}
		args = append(args, "--")
	}
	cmd := exec.Command(self, append(args, spec.Command...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Record{}, fmt.Errorf("start %s: %w", spec.Component, err)
	}
	boot, err := bootID()
	if err != nil {
		return Record{}, err
	}
	start, _, err := stat(cmd.Process.Pid)
	if err != nil {
		return Record{}, fmt.Errorf("%s ended at once; its log is %s", spec.Component, spec.Log)
	}
	record := Record{Component: spec.Component, PID: cmd.Process.Pid, Start: start, Boot: boot, Command: spec.Command, Config: spec.Config}
	// Collected here while this command lives, by the init process afterwards.
	go func() { _ = cmd.Wait() }()
	return record, record.Save(dir)
}

// Pin keeps the caller on the first thread of the program; call it from an init function before Join. A program that another thread turns
// into the command looks dead for a moment.
func Pin() { runtime.LockOSThread() }

// Join puts this process into the cgroup of every mounted hierarchy and becomes the given command.
func Join(cgroup string, command []string) error {
	for _, root := range Hierarchies() {
		if err := os.WriteFile(filepath.Join(root, cgroup, "cgroup.procs"), []byte("0"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("join control group: %w", err)
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, command, os.Environ())
}

// Same says whether the process was started as spec would start it.
func (r Record) Same(spec Spec) bool {
	return slices.Equal(r.Command, spec.Command) && r.Config == spec.Config
}

// Save writes the record into dir, whole or not at all.
func (r Record) Save(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, r.Component+".json")
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Read returns the record of a component; ok is false when there is none, or none that can be read (a start that was cut off).
func Read(dir, component string) (Record, bool) {
	data, err := os.ReadFile(filepath.Join(dir, component+".json"))
	if err != nil {
		return Record{}, false
	}
	var r Record
	if json.Unmarshal(data, &r) != nil || r.PID <= 1 {
		return Record{}, false
	}
	return r, true
}

// Alive says whether exactly this process still runs.
func (r Record) Alive() bool {
	if r.PID <= 1 {
		return false
	}
	if boot, err := bootID(); err != nil || boot != r.Boot {
		return false
	}
	start, state, err := stat(r.PID)
	return err == nil && start == r.Start && state != 'Z' && state != 'X'
}

// End asks the process to end, waits, and then ends it by force.
func (r Record) End(patience time.Duration) error {
	// The handle is a pidfd: taken before the check, it cannot come to mean another process after it.
	process, err := os.FindProcess(r.PID)
	if err != nil || !r.Alive() {
		return nil
	}
	defer process.Release()
	_ = process.Signal(syscall.SIGTERM)
	if r.waitGone(patience) {
		return nil
	}
	_ = process.Kill()
	if r.waitGone(5 * time.Second) {
		return nil
	}
	return fmt.Errorf("%s (process %d) does not end; see /proc/%d/stack", r.Component, r.PID, r.PID)
}

func (r Record) waitGone(patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !r.Alive() {
			return true
		}
	}
	return !r.Alive()
}

// Uptime is how long the process has been running.
func (r Record) Uptime() time.Duration {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	up, err := strconv.ParseFloat(strings.Fields(string(data))[0], 64)
	if err != nil {
		return 0
	}
	// USER_HZ is 100 on every architecture that Linux shows it to user space on.
	return time.Duration((up - float64(r.Start)/100) * float64(time.Second)).Round(time.Second)
}

// RSS is the resident memory in bytes.
func (r Record) RSS() int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", r.PID))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

func stat(pid int) (start uint64, state byte, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(data))
}

// The second field is the command in parentheses and may hold anything, so the fields are counted from the last parenthesis.
func parseStat(line string) (start uint64, state byte, err error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc stat line of %d fields", len(fields))
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0][0], err
}
