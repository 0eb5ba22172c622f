// ers-cluster: a real Kubernetes cluster on one Linux machine, without Docker, in namespaces of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"ers.local/cluster/internal/proc"
)

type subcommand struct {
	name, arguments, help string
	run                   func(ctx context.Context, args []string) error
}

func subcommands() []subcommand {
	return []subcommand{
		{"up", "[--simulated-nodes N] [--registry]", "start the cluster, or bring a damaged one back; does nothing when all is well", up},
		{"down", "[--keep-logs]", "end the cluster and remove every trace", down},
		{"status", "", "show every component; exit 1 when something is not well", status},
		{"kubeconfig", "", "print the path of the administrator's kubeconfig", kubeconfig},
		{"kubectl", "[--] ARG...", "run kubectl against the cluster", kubectl},
		{"load-image", "TAR...", "unpack image archives on the node", loadImage},
		{"image", "[flags] BINARY", "make an image archive from a program", makeImage},
		{"push", "[--plain-http] TAR... REPOSITORY", "push image archives to a registry, as REPOSITORY/NAME:TAG", push},
		{"registry", "[--listen ADDRESS] [--dir DIR]", "serve a small image registry until interrupted", serveRegistry},
		{"logs", "[-f] [-n LINES] COMPONENT", "print a component's log", logs},
		{"stop", "[--now] COMPONENT", "end one component, for fault tests (--now: kill -9)", stop},
		{"start", "COMPONENT", "start it again", start},
		{"prepare", "", "install the Debian packages that are missing", prepare},
		{"build", "", "build the cluster's programs and images into the cache", buildAll},
		{"tools", "", "build kubectl and helm into the cache and print where they are", tools},
		{"selftest", "[--quick]", "prove on the running cluster that it does what it says", runSelftest},
	}
}

func init() {
	if len(os.Args) > 1 && os.Args[1] == "_join" {
		proc.Pin()
	}
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	cancel()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if exit := new(exitCode); errors.As(err, exit) {
		os.Exit(int(*exit))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "ers-cluster: %v\n", err)
		os.Exit(1)
	}
}

// exitCode ends the program without a further word.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		usage()
		return exitCode(2)
	}
	switch args[0] {
	case "_join":
		return join(args[1:])
	case "_provisioner":
		return provisioner(ctx, args[1:])
	case "_policies":
		return policies(ctx, args[1:])
	case "_probe":
		return runProbe(ctx, args[1:])
	case "help", "-h", "--help":
		usage()
		return nil
	}
	for _, command := range subcommands() {
		if command.name == args[0] {
			return command.run(ctx, args[1:])
		}
	}
	usage()
	return fmt.Errorf("there is no command %q", args[0])
}

func usage() {
	fmt.Fprint(os.Stderr, "usage: ers-cluster COMMAND\n\n")
	for _, command := range subcommands() {
		fmt.Fprintf(os.Stderr, "  %-46s %s\n", strings.TrimSpace(command.name+" "+command.arguments), command.help)
	}
	fmt.Fprint(os.Stderr, `
  ERS_CLUSTER        the cluster's name (default ers); several run side by side
  ERS_CLUSTER_STATE  its state folder (default $XDG_STATE_HOME/ers-cluster/NAME or /var/lib/ers-cluster/NAME)
  XDG_CACHE_HOME     built programs are kept in its folder ers/bin (default ~/.cache)
`)
}

// flags parses args and hands back what is left; want is how many are allowed (most < 0: any number).
func flags(name string, args []string, least, most int, define func(*flag.FlagSet)) ([]string, error) {
	set := flag.NewFlagSet("ers-cluster "+name, flag.ContinueOnError)
	define(set)
	if err := set.Parse(args); err != nil {
		return nil, flag.ErrHelp
	}
	if set.NArg() < least || (most >= 0 && set.NArg() > most) {
		for _, command := range subcommands() {
			if command.name == name {
				return nil, fmt.Errorf("usage: ers-cluster %s %s", name, command.arguments)
			}
		}
	}
	return set.Args(), nil
}
