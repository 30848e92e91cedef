package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// circumstances are what a figure depends on besides the code.
type circumstances struct {
	Commit   string            `json:"commit"`
	Go       string            `json:"go"`
	System   string            `json:"system"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   string            `json:"memory"`
	Load     string            `json:"load"` // when the run began
	Versions map[string]string `json:"versions"`
}

func look() circumstances {
	c := circumstances{
		Commit:   commit(),
		Go:       runtime.Version(),
		System:   runtime.GOOS + "/" + runtime.GOARCH,
		CPU:      valueOf("/proc/cpuinfo", "model name"),
		Cores:    runtime.GOMAXPROCS(0),
		Memory:   valueOf("/proc/meminfo", "MemTotal"),
		Versions: map[string]string{},
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		c.System += ", Linux " + strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		c.Load, _, _ = strings.Cut(string(b), " ")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			c.Versions[m.Path] = m.Version
		}
	}
	return c
}

// commit is what the checkout is at, with a plus sign if it was changed.
func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	id := strings.TrimSpace(string(out))
	if changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no", "--", "*.go").Output(); err != nil || len(changed) > 0 {
		id += "+"
	}
	return id
}

// valueOf reads "name: value" from a file of the Linux kernel.
func valueOf(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// key tells runs apart.
func (c circumstances) key() string {
	return fmt.Sprintf("%s %s %s %s x%d", c.Commit, c.Go, c.System, c.CPU, c.Cores)
}
