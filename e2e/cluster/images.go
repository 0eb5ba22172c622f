package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ers.local/cluster/internal/cluster"
	"ers.local/cluster/internal/image"
	"ers.local/cluster/internal/layout"
	"ers.local/cluster/internal/oci"
	"ers.local/cluster/internal/probe"
	"ers.local/cluster/internal/selftest"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string         { return strings.Join(*l, ",") }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

func makeImage(_ context.Context, args []string) error {
	spec := image.Spec{Add: map[string]string{}, Labels: map[string]string{}}
	var out string
	var add, env, arguments, labels, entrypoint list
	rest, err := flags("image", args, 1, 1, func(set *flag.FlagSet) {
		set.StringVar(&spec.Repository, "repository", "", "repository (default localhost/NAME)")
		set.StringVar(&spec.Name, "name", "", "the program's name in the image (default: the file's name)")
		set.StringVar(&spec.Tag, "tag", "", "tag (default: from the content)")
		set.StringVar(&spec.User, "user", image.Nobody, "UID:GID")
		set.StringVar(&out, "o", "", "archive to write (default NAME.tar)")
		set.Var(&entrypoint, "entrypoint", "entrypoint (default: the program); once per word")
		set.Var(&arguments, "arg", "default argument; once per argument")
		set.Var(&env, "env", "KEY=VALUE; may be given several times")
		set.Var(&labels, "label", "KEY=VALUE; may be given several times")
		set.Var(&add, "add", "SOURCE:/PATH puts a file or a folder into the image; may be given several times")
	})
	if err != nil {
		return err
	}
	spec.Binary, spec.Env, spec.Args, spec.Entrypoint = rest[0], env, arguments, entrypoint
	for _, label := range labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return fmt.Errorf("--label %s: want KEY=VALUE", label)
		}
		spec.Labels[key] = value
	}
	for _, each := range add {
		source, target, ok := strings.Cut(each, ":")
		if !ok || !strings.HasPrefix(target, "/") {
			return fmt.Errorf("--add %s: want SOURCE:/PATH/IN/THE/IMAGE", each)
		}
		spec.Add[target] = source
	}
	if out == "" {
		name := spec.Name
		if name == "" {
			name = filepath.Base(spec.Binary)
		}
		out = name + ".tar"
	}
	built, err := image.Build(spec, out)
	if err != nil {
		return err
	}
	fmt.Printf("%s %s\n", built.Reference, built.Path)
	say("%.1f MB: program %.1f, libraries %.1f, files %.1f", float64(built.Bytes)/1e6,
		float64(built.Parts["program"])/1e6, float64(built.Parts["libraries"])/1e6, float64(built.Parts["files"])/1e6)
	return nil
}

func push(ctx context.Context, args []string) error {
	var plain bool
	rest, err := flags("push", args, 2, -1, func(set *flag.FlagSet) {
		set.BoolVar(&plain, "plain-http", false, "the registry has no TLS")
	})
	if err != nil {
		return err
	}
	repository := rest[len(rest)-1]
	if c, err := cluster.Open(); err == nil && (repository == c.Registry() || strings.HasPrefix(repository, c.Registry()+"/")) {
		plain = true
	}
	for _, archive := range rest[:len(rest)-1] {
		pushed, err := (&oci.Pusher{PlainHTTP: plain}).Push(ctx, archive, repository)
		if err != nil {
			return err
		}
		for _, each := range pushed {
			fmt.Printf("%s@%s\n", each.Reference, each.Digest)
			say("sent %.1f MB", float64(each.Sent)/1e6)
		}
	}
	return nil
}

func serveRegistry(ctx context.Context, args []string) error {
	var listen, dir string
	if _, err := flags("registry", args, 0, 0, func(set *flag.FlagSet) {
		set.StringVar(&listen, "listen", "127.0.0.1:5000", "address; loopback or the link of a cluster")
		set.StringVar(&dir, "dir", "", "where to keep images (default: a temporary folder)")
	}); err != nil {
		return err
	}
	address, err := netip.ParseAddrPort(listen)
	if err != nil {
		return fmt.Errorf("--listen %s: want ADDRESS:PORT: %w", listen, err)
	}
	if !address.Addr().IsLoopback() && !layout.Links.Contains(address.Addr()) {
		return fmt.Errorf("--listen %s: this registry asks nobody for a password, so it listens on loopback or on a cluster's link (%s) only", listen, layout.Links)
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "ers-registry-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	registry, err := oci.NewRegistry(dir)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: registry, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Printf("registry on %s, kept in %s\n", listener.Addr(), dir)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func runProbe(ctx context.Context, args []string) error { return probe.Run(ctx, args, os.Stdout) }

func runSelftest(ctx context.Context, args []string) error {
	var quick bool
	if _, err := flags("selftest", args, 0, 0, func(set *flag.FlagSet) {
		set.BoolVar(&quick, "quick", false, "leave out the second cluster beside this one")
	}); err != nil {
		return err
	}
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	if err := c.NeedRoot("selftest"); err != nil {
		return err
	}
	return selftest.Run(ctx, c, quick)
}
