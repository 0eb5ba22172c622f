package image

import (
	"debug/elf"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strings"
)

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Closure is the dynamic loader and every shared library that the program needs, by the paths under which the loader looks for them.
// A static program needs none.
func Closure(binary string) ([]string, error) {
	program, err := elf.Open(binary)
	if err != nil {
		return nil, fmt.Errorf("%s is no ELF program: %w", binary, err)
	}
	defer program.Close()
	if want, known := machines[runtime.GOARCH]; known && program.Machine != want {
		return nil, fmt.Errorf("%s is built for %s, this machine runs %s", binary, program.Machine, want)
	}
	needed, err := program.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", binary, err)
	}
	interpreter := false
	for _, segment := range program.Progs {
		interpreter = interpreter || segment.Type == elf.PT_INTERP
	}
	if !interpreter && len(needed) == 0 {
		return nil, nil
	}
	absolute, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	output, err := exec.Command("ldd", absolute).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", binary, err, strings.TrimSpace(string(output)))
	}
	return parseLdd(string(output))
}

var lddLine = regexp.MustCompile(`^\s*(?:(\S+) => )?(/\S+|not found)(?: \(0x[0-9a-f]+\))?$`)

func parseLdd(output string) ([]string, error) {
	seen := map[string]bool{}
	var out []string
	for _, line := range strings.Split(output, "\n") {
		match := lddLine.FindStringSubmatch(line)
		if match == nil { // the kernel's own object has no file
			continue
		}
		if match[2] == "not found" {
			return nil, fmt.Errorf("the shared library %s is not installed on this machine", match[1])
		}
		// `/lib/ld.so => /lib/ld.so`: the loader is looked for under the left name.
		for _, path := range []string{match[1], match[2]} {
			if strings.HasPrefix(path, "/") && !seen[path] {
				seen[path] = true
				out = append(out, path)
			}
		}
	}
	sort.Strings(out)
	return out, nil
}

var validRepository = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)

// CheckRepository refuses what no registry accepts.
func CheckRepository(repository string) error {
	if len(repository) > 200 || !validRepository.MatchString(repository) {
		return fmt.Errorf("%q is no image repository: want HOST[:PORT]/name in lower case, for example localhost/ers-agent", repository)
	}
	return nil
}
