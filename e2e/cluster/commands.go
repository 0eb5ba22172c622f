package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ers.local/cluster/internal/build"
	"ers.local/cluster/internal/cluster"
	"ers.local/cluster/internal/kube"
	"ers.local/cluster/internal/netpolicy"
	"ers.local/cluster/internal/proc"
	"ers.local/cluster/internal/provision"
)

// changing opens the cluster for a command that changes it: as root, one at a time.
func changing(command string) (*cluster.Cluster, error) {
	open := cluster.Open
	if command == "down" {
		open = cluster.OpenDamaged
	}
	c, err := open()
	if err != nil {
		return nil, err
	}
	if err := c.NeedRoot(command); err != nil {
		return nil, err
	}
	return c, c.Lock()
}

func up(ctx context.Context, args []string) error {
	var simulated int
	var registry bool
	_, err := flags("up", args, 0, 0, func(set *flag.FlagSet) {
		set.IntVar(&simulated, "simulated-nodes", -1, "how many simulated nodes (kwok); kept until the next up says otherwise")
		set.BoolVar(&registry, "registry", false, "run an image registry on the cluster's link, reachable from the node and from the host")
	})
	if err != nil {
		return err
	}
	if simulated < -1 || simulated > 9999 {
		return fmt.Errorf("--simulated-nodes %d: want 0 to 9999", simulated)
	}
	c, err := changing("up")
	if err != nil {
		return err
	}
	c.Simulated, c.WithRegistry = simulated, registry
	if err := c.Up(ctx); err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s\n", c.Kubeconfig())
	if c.WithRegistry {
		fmt.Printf("image registry (plain HTTP): %s\n", c.Registry())
	}
	return nil
}

func down(_ context.Context, args []string) error {
	var keep bool
	if _, err := flags("down", args, 0, 0, func(set *flag.FlagSet) { set.BoolVar(&keep, "keep-logs", false, "keep the folder log") }); err != nil {
		return err
	}
	c, err := changing("down")
	if err != nil {
		return err
	}
	if err := c.Down(keep); err != nil {
		return err
	}
	c.Unlock()
	c.Say("cluster %q is gone", c.Name)
	return nil
}

func status(ctx context.Context, args []string) error {
	if _, err := flags("status", args, 0, 0, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	if err := c.NeedRoot("status"); err != nil {
		return err
	}
	lines, healthy := c.Status(ctx)
	fmt.Printf("%-28s %-12s %8s %10s %9s  %s\n", "COMPONENT", "STATE", "PID", "UPTIME", "RSS", "")
	for _, line := range lines {
		pid, uptime, rss := "", "", ""
		if line.PID > 0 {
			pid, uptime, rss = fmt.Sprint(line.PID), line.Uptime.String(), fmt.Sprintf("%d MB", line.RSS>>20)
		}
		fmt.Printf("%-28s %-12s %8s %10s %9s  %s\n", line.Name, line.State, pid, uptime, rss, strings.TrimSpace(line.Detail))
	}
	anonymous, total := proc.CgroupMemory(c.Cgroup())
	fmt.Printf("\nall processes and pods: %d MB of anonymous memory, %d MB with page cache\nAPI server %s, services %s, pods %s, state %s\n",
		anonymous>>20, total>>20, c.Server(), c.Services(), c.Pods(), c.State)
	if !healthy {
		fmt.Fprintf(os.Stderr, "ers-cluster: the cluster %q is not healthy; `ers-cluster up` brings it back\n", c.Name)
		return exitCode(1)
	}
	return nil
}

func kubeconfig(_ context.Context, args []string) error {
	if _, err := flags("kubeconfig", args, 0, 0, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Kubeconfig()); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the cluster %q is not there: run ers-cluster up", c.Name)
	}
	fmt.Println(c.Kubeconfig())
	return nil
}

func kubectl(_ context.Context, args []string) error {
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	program, err := build.Kubernetes(say)
	if err != nil {
		return err
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	return syscall.Exec(program, append([]string{"kubectl", "--kubeconfig", c.Kubeconfig()}, args...), os.Environ())
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func loadImage(_ context.Context, args []string) error {
	archives, err := flags("load-image", args, 1, -1, func(*flag.FlagSet) {})
	if err != nil {
		return err
	}
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	if err := c.NeedRoot("load-image"); err != nil {
		return err
	}
	for _, archive := range archives {
		began := time.Now()
		if err := c.LoadImage(archive); err != nil {
			return err
		}
		fmt.Printf("loaded %s in %.1f s\n", archive, time.Since(began).Seconds())
	}
	return nil
}

func logs(_ context.Context, args []string) error {
	var follow bool
	var lines int
	rest, err := flags("logs", args, 1, 1, func(set *flag.FlagSet) {
		set.BoolVar(&follow, "f", false, "follow")
		set.IntVar(&lines, "n", 200, "how many of the last lines")
	})
	if err != nil {
		return err
	}
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	path := c.File("log", "audit.log")
	if rest[0] != "audit" {
		component, err := c.Component(rest[0])
		if err != nil {
			return fmt.Errorf("%w, audit", err)
		}
		path = c.File("log", component.Name+".log")
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("no log yet: %w", err)
	}
	command := []string{"tail", "-n", fmt.Sprint(lines), path}
	if follow {
		command = []string{"tail", "-n", fmt.Sprint(lines), "-F", path}
	}
	program, err := exec.LookPath("tail")
	if err != nil {
		return err
	}
	return syscall.Exec(program, command, os.Environ())
}

func stop(_ context.Context, args []string) error {
	var now bool
	rest, err := flags("stop", args, 1, 1, func(set *flag.FlagSet) { set.BoolVar(&now, "now", false, "kill -9") })
	if err != nil {
		return err
	}
	c, err := changing("stop")
	if err != nil {
		return err
	}
	patience := 5 * time.Second
	if now {
		patience = 0
	}
	if err := c.Stop(rest[0], patience); err != nil {
		return err
	}
	c.Say("%s is stopped", rest[0])
	return nil
}

func start(ctx context.Context, args []string) error {
	rest, err := flags("start", args, 1, 1, func(*flag.FlagSet) {})
	if err != nil {
		return err
	}
	c, err := changing("start")
	if err != nil {
		return err
	}
	if err := c.Start(ctx, rest[0]); err != nil {
		return err
	}
	c.Say("%s is healthy", rest[0])
	return nil
}

func prepare(context.Context, []string) error { return build.Prepare(say) }

func buildAll(_ context.Context, args []string) error {
	if _, err := flags("build", args, 0, 0, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	paths, err := cluster.Build(say)
	for _, path := range paths {
		fmt.Println(path)
	}
	return err
}

func tools(_ context.Context, args []string) error {
	if _, err := flags("tools", args, 0, 0, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	program, err := build.Kubernetes(say)
	if err != nil {
		return err
	}
	fmt.Println(filepath.Join(filepath.Dir(program), "kubectl"))
	if program, err = build.Helm(say); err != nil {
		return err
	}
	fmt.Println(filepath.Join(filepath.Dir(program), "helm"))
	return nil
}

func join(args []string) error {
	if len(args) < 3 || args[1] != "--" {
		return errors.New("usage: ers-cluster _join CGROUP -- COMMAND...")
	}
	return proc.Join(args[0], args[2:])
}

type controller interface {
	http.Handler
	Run(ctx context.Context) error
}

type settings struct{ server, pki, node, host, volumes, health string }

// serveNode runs one of this tool's own controllers: a client with its own certificate, and a health endpoint.
func serveNode(ctx context.Context, name string, args []string, build func(client *kube.Client, s settings) controller) error {
	var s settings
	if _, err := flags("_"+name, args, 0, 0, func(set *flag.FlagSet) {
		set.StringVar(&s.server, "server", "", "")
		set.StringVar(&s.pki, "pki", "", "")
		set.StringVar(&s.node, "node", "", "")
		set.StringVar(&s.host, "host", "", "")
		set.StringVar(&s.volumes, "volumes", "", "")
		set.StringVar(&s.health, "health", "", "")
	}); err != nil {
		return err
	}
	client, err := kube.New(s.server, s.pki, name)
	if err != nil {
		return err
	}
	c := build(client, s)
	go func() {
		log.Fatal((&http.Server{Addr: s.health, Handler: c, ReadHeaderTimeout: 5 * time.Second}).ListenAndServe())
	}()
	return c.Run(ctx)
}

func provisioner(ctx context.Context, args []string) error {
	return serveNode(ctx, "provisioner", args, func(client *kube.Client, s settings) controller {
		return &provision.Provisioner{Client: client, Node: s.node, Dir: s.volumes}
	})
}

func policies(ctx context.Context, args []string) error {
	return serveNode(ctx, "policies", args, func(client *kube.Client, s settings) controller {
		return &netpolicy.Applier{Client: client, Node: s.node, Host: s.host}
	})
}
