package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// cgroups are the node's own groups, below which the kubelet makes those of the Pods: one
// in each hierarchy of version 1, or one in the unified hierarchy.
type cgroups struct {
	name string // as the kubelet wants it: a path from the hierarchy's root
	dirs []string
}

// prefix of the groups' names; the rest is the process that owns them.
const prefix = "bucket-access-node-"

func newCgroups() (*cgroups, error) {
	// The process's number is that of the namespace: the time sets runs apart.
	c := &cgroups{name: "/" + prefix + strconv.FormatInt(time.Now().UnixNano(), 36)}
	if _, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers")); err == nil {
		return c, c.unified()
	}
	controllers, err := os.ReadDir(cgroupMount)
	if err != nil {
		return c, fmt.Errorf("reading the cgroup hierarchies: %w", err)
	}
	for _, controller := range controllers {
		hierarchy := filepath.Join(cgroupMount, controller.Name())
		// cpu,cpuacct is often one directory with links to it; unified has no controller here.
		if info, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err != nil || info.IsDir() || controller.Name() == "unified" {
			continue
		}
		if err := c.add(filepath.Join(hierarchy, c.name)); err != nil {
			return c, err
		}
	}
	if len(c.dirs) == 0 {
		return c, errors.New("no cgroup hierarchy is mounted below " + cgroupMount)
	}
	// A cpuset without CPUs and memory takes no process.
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(cgroupMount, "cpuset", file))
		if err == nil {
			err = os.WriteFile(filepath.Join(cgroupMount, "cpuset", c.name, file), value, 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	return c, nil
}

// unified makes the one group of cgroup version 2, with every controller handed down.
func (c *cgroups) unified() error {
	available, err := os.ReadFile(filepath.Join(cgroupMount, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if err := c.add(filepath.Join(cgroupMount, c.name)); err != nil {
		return err
	}
	enable := []byte("+" + strings.Join(strings.Fields(string(available)), " +"))
	for _, dir := range []string{cgroupMount, filepath.Join(cgroupMount, c.name)} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), enable, 0o644); err != nil {
			return fmt.Errorf("handing controllers down: %w", err)
		}
	}
	return nil
}

func (c *cgroups) add(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	c.dirs = append(c.dirs, dir)
	return nil
}

// remove kills what runs in the groups and takes them away.
func (c *cgroups) remove() error {
	var err error
	for range 100 { // a killed process needs a moment until its group is empty
		if err = removeGroups(c.dirs); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("removing the node's cgroups: %w", err)
}

func removeGroups(roots []string) error {
	var errs []error
	for _, root := range roots {
		var groups []string
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, group := range slices.Backward(groups) {
			processes, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			for _, field := range strings.Fields(string(processes)) {
				// 0 is a process of another namespace.
				if process, err := strconv.Atoi(field); err == nil && process > 0 {
					_ = syscall.Kill(process, syscall.SIGKILL)
				}
			}
			if err := syscall.Rmdir(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("%s: %w", group, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Sweep removes what a node left that was ended by force: it runs outside of the
// namespaces, in which everything has ended with their first process.
func Sweep() error {
	var left []string
	for _, pattern := range []string{prefix + "*", "*/" + prefix + "*"} {
		found, err := filepath.Glob(filepath.Join(cgroupMount, pattern))
		if err != nil {
			return err
		}
		left = append(left, found...)
	}
	left = slices.DeleteFunc(left, inUse)
	// Mount points that were made for a node; whatever is not empty is the machine's.
	for _, directory := range covered {
		_ = syscall.Rmdir(directory)
	}
	return removeGroups(left)
}

// inUse says whether a process is in a group or below it: that of another node.
func inUse(root string) bool {
	used := false
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "cgroup.procs" {
			processes, _ := os.ReadFile(path)
			used = used || len(processes) > 0
		}
		return nil
	})
	return used
}

// unmountBelow takes away the mounts of Pods' volumes and containers' roots.
func unmountBelow(directory string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	const mountPoint = 4 // proc(5)
	var errs []error
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
		if fields := strings.Fields(line); len(fields) > mountPoint && strings.HasPrefix(fields[mountPoint], directory+"/") {
			if err := unix.Unmount(fields[mountPoint], unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmounting %s: %w", fields[mountPoint], err))
			}
		}
	}
	return errors.Join(errs...)
}
