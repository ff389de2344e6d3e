package lab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is what a process has used so far in user and kernel mode, by the kernel's clock of 100
// ticks a second.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name, which may hold anything
	fields := strings.Fields(rest)
	const utime, stime = 11, 12 // proc(5): fields 14 and 15
	if len(fields) <= stime {
		return 0, fmt.Errorf("lab: process %d has a stat of %d fields", pid, len(fields))
	}
	user, errUser := strconv.Atoi(fields[utime])
	kernel, errKernel := strconv.Atoi(fields[stime])
	return time.Duration(user+kernel) * 10 * time.Millisecond, errors.Join(errUser, errKernel)
}

// Memory is a size of a process in bytes, by its name in /proc/PID/status: VmRSS, VmHWM.
func Memory(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			kibi, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kibi << 10, err
		}
	}
	return 0, fmt.Errorf("lab: process %d has no %s", pid, name)
}
