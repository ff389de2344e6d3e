package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// killPod finds the processes by their cgroup, which has the Pod's UID in its path; the
// systemd driver writes it with underscores.
func killPod(uid, name string) error {
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return err
	}
	killed := 0
	for _, file := range groups {
		group, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(group), uid) && !strings.Contains(string(group), strings.ReplaceAll(uid, "-", "_")) {
			continue
		}
		process := filepath.Dir(file)
		if comm, err := os.ReadFile(process + "/comm"); err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		number, err := strconv.Atoi(filepath.Base(process))
		if err := errors.Join(err, syscall.Kill(number, syscall.SIGKILL)); err != nil {
			return fmt.Errorf("killing %s: %w", process, err)
		}
		killed++
	}
	if killed == 0 {
		return fmt.Errorf("no process %s of the Pod %s", name, uid)
	}
	return nil
}
