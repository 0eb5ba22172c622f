// Package cluster starts, checks and ends one cluster.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"ers.local/cluster/internal/kube"
	"ers.local/cluster/internal/layout"
	"ers.local/cluster/internal/proc"
)

// Cluster is one cluster on this machine.
type Cluster struct {
	layout.Layout
	Simulated    int  // how many simulated nodes; kept from the last up when negative
	WithRegistry bool // whether a registry runs beside it
	Say          func(format string, args ...any)

	damaged bool
	lock    *os.File
}

// Open finds the cluster that the environment names.
func Open() (*Cluster, error) { return open(false) }

// OpenDamaged is Open for down, which has to work on a state folder that cannot be read any more.
func OpenDamaged() (*Cluster, error) { return open(true) }

func open(damaged bool) (*Cluster, error) {
	name := os.Getenv("ERS_CLUSTER")
	if name == "" {
		name = "ers"
	}
	l, err := layout.New(name, os.Getenv("ERS_CLUSTER_STATE"))
	if err != nil {
		return nil, err
	}
	l, _, err = l.Load()
	if err != nil && !(damaged && errors.Is(err, layout.ErrDamaged)) {
		return nil, err
	}
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	return &Cluster{Layout: l, Say: say, Simulated: -1, damaged: damaged}, nil
}

// ErrNeedsRoot is what an ordinary user gets.
var ErrNeedsRoot = errors.New("needs root: it makes network and mount namespaces, control groups and a veth pair, and runs containerd and a kubelet")

// NeedRoot refuses an ordinary user with what to do.
func (c *Cluster) NeedRoot(command string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	var env []string
	for _, key := range []string{"ERS_CLUSTER", "ERS_CLUSTER_STATE", "XDG_STATE_HOME", "XDG_CACHE_HOME"} {
		if value := os.Getenv(key); value != "" {
			env = append(env, key+"="+value)
		}
	}
	if os.Getenv("XDG_CACHE_HOME") == "" {
		if home := os.Getenv("HOME"); home != "" {
			env = append(env, "XDG_CACHE_HOME="+home+"/.cache")
		}
	}
	self, err := os.Executable()
	if err != nil {
		self = "ers-cluster"
	}
	return fmt.Errorf("ers-cluster %s %w; run: sudo %s %s %s", command, ErrNeedsRoot, strings.Join(env, " "), self, command)
}

// lockDir is outside of the state folder, which down deletes.
const lockDir = "/run/ers-cluster"

func (c *Cluster) lockPath() string { return lockDir + "/" + c.Netns() + ".lock" }

// Lock keeps two commands from changing the cluster at the same time.
func (c *Cluster) Lock() error {
	for {
		if err := os.MkdirAll(lockDir, 0o755); err != nil {
			return err
		}
		file, err := os.OpenFile(c.lockPath(), os.O_CREATE|os.O_RDWR, 0o644)
		if errors.Is(err, os.ErrNotExist) {
			continue // a down has just removed the folder
		}
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			c.Say("another ers-cluster command works on %q; waiting for it", c.Name)
			if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
				return err
			}
		}
		// The file that was waited for may have been removed by a down meanwhile; then it guards nothing.
		mine, err := file.Stat()
		if err != nil {
			return err
		}
		if there, err := os.Stat(c.lockPath()); err == nil && os.SameFile(mine, there) {
			c.lock = file
			break
		}
		file.Close()
	}
	loaded, _, err := c.Load()
	if c.damaged && errors.Is(err, layout.ErrDamaged) {
		return nil
	}
	if err == nil {
		c.Layout = loaded
	}
	return err
}

// Unlock removes the lock's file too: nothing of the cluster stays.
func (c *Cluster) Unlock() {
	if c.lock != nil {
		_ = os.Remove(c.lockPath())
		_ = syscall.Rmdir(lockDir)
		_ = c.lock.Close()
		c.lock = nil
	}
}

// Admin is the administrator's client.
func (c *Cluster) Admin() (*kube.Client, error) {
	client, err := kube.New(c.Server(), c.File("pki"), "admin")
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the cluster %q is not there: run ers-cluster up", c.Name)
	}
	return client, err
}

func (c *Cluster) runDir() string { return c.File("run") }

// Component finds a component by name or by a short name.
func (c *Cluster) Component(name string) (Component, error) {
	var names []string
	for _, component := range Components() {
		if component.Name == name || strings.TrimPrefix(component.Name, "kube-") == name {
			return component, nil
		}
		names = append(names, component.Name)
	}
	return Component{}, fmt.Errorf("there is no component %q; there are: %s", name, strings.Join(names, ", "))
}

// Stop ends one component and remembers that this was meant.
func (c *Cluster) Stop(name string, patience time.Duration) error {
	component, err := c.Component(name)
	if err != nil {
		return err
	}
	record, ok := proc.Read(c.runDir(), component.Name)
	if !ok {
		return fmt.Errorf("%s was not started: run ers-cluster up", component.Name)
	}
	if err := record.End(patience); err != nil {
		return err
	}
	record.Stopped = true
	return record.Save(c.runDir())
}

// Start starts one component that does not run, and waits until it is healthy.
func (c *Cluster) Start(ctx context.Context, name string) error {
	component, err := c.Component(name)
	if err != nil {
		return err
	}
	programs, err := c.programs()
	if err != nil {
		return err
	}
	if err := c.ensure(component, programs); err != nil {
		return err
	}
	return c.await(ctx, component, time.Minute)
}

func command(args ...string) error {
	output, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

func (c *Cluster) inNetns(args ...string) error {
	return command(append([]string{"nsenter", "--net=" + c.NetnsPath(), "--"}, args...)...)
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }
