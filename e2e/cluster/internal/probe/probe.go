// Package probe is what the self-test runs inside pods: this same program, because no image with a shell is at hand.
package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const usage = "usage: ers-cluster _probe serve ADDRESS TEXT | lookup NAME | get URL | unreachable ADDRESS | write FILE TEXT | copy FROM TO | read FILE... | sleep"

// Run does one thing and says what came of it.
func Run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	switch rest := args[1:]; {
	case args[0] == "serve" && len(rest) == 2:
		server := &http.Server{Addr: rest[0], ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, rest[1])
		})}
		go func() { <-ctx.Done(); _ = server.Close() }()
		return server.ListenAndServe()
	case args[0] == "sleep":
		<-ctx.Done()
		return nil
	case args[0] == "lookup" && len(rest) == 1:
		addresses, err := net.DefaultResolver.LookupHost(ctx, rest[0])
		fmt.Fprintln(out, strings.Join(addresses, " "))
		return err
	case args[0] == "get" && len(rest) == 1:
		client := http.Client{Timeout: 5 * time.Second}
		response, err := client.Get(rest[0])
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(out, io.LimitReader(response.Body, 1<<20))
		return err
	case args[0] == "unreachable" && len(rest) == 1:
		conn, err := net.DialTimeout("tcp", rest[0], 2*time.Second)
		if err != nil {
			fmt.Fprintln(out, "unreachable:", err)
			return nil
		}
		conn.Close()
		return fmt.Errorf("%s was reached", rest[0])
	case args[0] == "write" && len(rest) == 2:
		if err := os.WriteFile(rest[0], []byte(rest[1]), 0o640); err != nil {
			return err
		}
		fmt.Fprintf(out, "written by uid %d gid %d\n", os.Getuid(), os.Getgid())
		return nil
	case args[0] == "copy" && len(rest) == 2:
		data, err := os.ReadFile(rest[0])
		if err != nil {
			return err
		}
		return os.WriteFile(rest[1], data, 0o640)
	case args[0] == "read" && len(rest) > 0:
		for _, path := range rest {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			first, _, _ := strings.Cut(string(data), "\n")
			fmt.Fprintf(out, "%s: %s\n", path, first)
		}
		return nil
	}
	return fmt.Errorf("%s", usage)
}
