package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Environment variables by which the program tells itself, started anew, what it is.
const (
	envInside   = "BUCKET_ACCESS_LAB_INSIDE"
	envOutside  = "BUCKET_ACCESS_LAB_OUTSIDE"
	envPodStart = "BUCKET_ACCESS_LAB_POD"
)

// Isolate runs the program anew in network, process and mount namespaces of its own
// and returns its exit code; inside of them it returns at once, with again false. So
// the labs use any address and port, the machine's own network stays untouched, and
// whatever ends the program ends everything that it started. Call it first in main.
//
// outside is the number of listeners on the machine's loopback that the program
// inside gets, by Outside. Temporary files are removed when everything has ended,
// however it ended, and then after is called: for what namespaces do not hold.
func Isolate(outside int, after ...func() error) (code int, again bool) {
	if pod := os.Getenv(envPodStart); pod != "" {
		fmt.Fprintln(os.Stderr, "lab: starting a Pod's process:", becomePod(pod))
		return 1, true
	}
	if os.Getenv(envInside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "lab: furnishing the namespaces:", err)
			return 1, true
		}
		return 0, false
	}
	code, err := isolatedAndCleaned(outside, after)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return max(code, 1), true
	}
	return code, true
}

func isolatedAndCleaned(outside int, after []func() error) (code int, err error) {
	temporary, err := os.MkdirTemp("", "bucket-access-")
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(temporary))
		for _, clean := range after {
			err = errors.Join(err, clean())
		}
	}()
	if code, err = isolated(outside, temporary); err != nil {
		return code, fmt.Errorf("making network, process and mount namespaces (root, or unprivileged user namespaces, is needed): %w", err)
	}
	return code, nil
}

func isolated(outside int, temporary string) (int, error) {
	// The kernel sends Pdeathsig when the thread that started the child ends.
	runtime.LockOSThread()
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		command.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	command.Env = append(withoutProxies(os.Environ()), envInside+"=1", "TMPDIR="+temporary)
	var addresses []string
	for range outside {
		listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return 0, err
		}
		file, err := listener.File()
		if err != nil {
			return 0, err
		}
		addresses = append(addresses, listener.Addr().String())
		command.ExtraFiles = append(command.ExtraFiles, file)
	}
	command.Env = append(command.Env, envOutside+"="+strings.Join(addresses, ","))
	if err := command.Start(); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			_ = command.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := command.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return command.ProcessState.ExitCode(), nil
}

// withoutProxies: no proxy leads into the namespaces, and whatever runs there would ask one.
func withoutProxies(environment []string) []string {
	return slices.DeleteFunc(environment, func(variable string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(variable), "=")
		return strings.HasSuffix(name, "_PROXY")
	})
}

// furnish brings up the loopback interface and shows the processes of the namespace in
// /proc.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return withInterface("lo", func(fd int, request *unix.Ifreq) error {
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
			return err
		}
		request.SetUint16(request.Uint16() | unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
	})
}

func withInterface(name string, do func(fd int, request *unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	return do(fd, request)
}

// Outside returns the n-th listener on the machine's own loopback, and its address.
func Outside(n int) (net.Listener, string, error) {
	addresses := strings.Split(os.Getenv(envOutside), ",")
	if n >= len(addresses) || addresses[n] == "" {
		return nil, "", errors.New("lab: Isolate was not asked for that many listeners")
	}
	const firstExtraFile = 3
	file := os.NewFile(uintptr(firstExtraFile+n), addresses[n])
	defer file.Close()
	listener, err := net.FileListener(file)
	return listener, addresses[n], err
}

var (
	addressesTaken int
	addressesMutex sync.Mutex
)

// newAddress puts a documentation address (RFC 5737) on the loopback interface: the
// API server takes no loopback address for an endpoint, and an IAM that verifies
// tokens fetches from no loopback or private one.
func newAddress() (string, error) {
	if os.Getenv(envInside) == "" {
		return "", errors.New("call lab.Isolate first in main")
	}
	// One after the other: an address has the mask of its class until it has its own, and
	// an address beside it that came meanwhile goes when the mask changes, as its secondary.
	addressesMutex.Lock()
	defer addressesMutex.Unlock()
	addressesTaken++
	n := addressesTaken
	ip := net.IPv4(203, 0, 113, byte(9+n)).To4()
	err := withInterface(fmt.Sprintf("lo:%d", n), func(fd int, request *unix.Ifreq) error {
		if err := request.SetInet4Addr(ip); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request); err != nil {
			return err
		}
		if err := request.SetInet4Addr([]byte{255, 255, 255, 255}); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, request)
	})
	return ip.String(), err
}
