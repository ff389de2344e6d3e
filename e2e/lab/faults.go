package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// RestartAPIServer ends kube-apiserver by SIGTERM, and by force where it still waits for its
// clients after a while, and starts it again at the same address, with the same keys, users
// and etcd.
func (l *Lab) RestartAPIServer(patience time.Duration) error {
	server := l.env.ControlPlane.GetAPIServer()
	pid, err := processWith("--cert-dir=" + server.CertDir)
	if err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	force := time.AfterFunc(patience, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	defer force.Stop()
	if err := server.Stop(); err != nil {
		return fmt.Errorf("stopping kube-apiserver: %w", err)
	}
	return server.Start()
}

// processWith finds the process that was started with an argument.
func processWith(argument string) (pid int, err error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range commands {
		command, err := os.ReadFile(path)
		if err == nil && bytes.Contains(command, []byte(argument+"\x00")) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("no process was started with %s", argument)
}

// RestartEtcd ends etcd by SIGTERM and starts it again after a while; what it holds stays.
func (l *Lab) RestartEtcd(down time.Duration) error {
	if err := l.env.ControlPlane.Etcd.Stop(); err != nil {
		return fmt.Errorf("stopping etcd: %w", err)
	}
	time.Sleep(down)
	return l.env.ControlPlane.Etcd.Start()
}

// Crash kills the replica, whose endpoint stays until the kubelet would have noticed.
func (r *Replica) Crash(notice time.Duration) {
	r.held.Store(true)
	_ = r.command.Process.Kill()
	<-r.done
	time.Sleep(notice)
	r.removeEndpoint()
}

// Pause stops the replica by SIGSTOP. Its endpoint stays as it is until the kubelet would
// have noticed; then the readiness probe, which is not answered any more, decides.
func (r *Replica) Pause(notice time.Duration) error {
	r.held.Store(true)
	time.AfterFunc(notice, func() { r.held.Store(false) })
	return r.command.Process.Signal(syscall.SIGSTOP)
}

// Resume lets a paused replica go on.
func (r *Replica) Resume() error { return r.command.Process.Signal(syscall.SIGCONT) }

// Usage is what a process holds.
type Usage struct {
	Goroutines, Descriptors int
	Resident                int64 // bytes
}

// Usage asks the process and the kernel.
func (r *Replica) Usage(ctx context.Context) (u Usage, err error) {
	goroutines, err := r.Metric(ctx, "go_goroutines")
	if err != nil {
		return u, err
	}
	u.Goroutines = int(goroutines)
	process := filepath.Join("/proc", strconv.Itoa(r.command.Process.Pid))
	descriptors, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return u, err
	}
	u.Descriptors = len(descriptors)
	status, err := os.ReadFile(filepath.Join(process, "status"))
	if err != nil {
		return u, err
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	u.Resident, err = strconv.ParseInt(kilobytes, 10, 64)
	u.Resident <<= 10
	return u, err
}

// errNoMetric is a metric that a replica does not show.
var errNoMetric = errors.New("no such metric")

// Metric reads one of the replica's metrics, summed over its labels.
func (r *Replica) Metric(ctx context.Context, name string) (sum float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Metrics, http.NoBody)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	err = fmt.Errorf("%s: %w", name, errNoMetric)
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		rest, ours := strings.CutPrefix(lines.Text(), name)
		if !ours || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, parseErr := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if parseErr != nil {
			return 0, parseErr
		}
		sum, err = sum+value, nil
	}
	return sum, err
}

// WebhookKubeconfig writes a kubeconfig of the webhook's for an API server at another
// address, and returns its path.
func (l *Lab) WebhookKubeconfig(name, server string) (string, error) {
	config, err := clientcmd.LoadFromFile(l.webhook)
	if err != nil {
		return "", err
	}
	for _, cluster := range config.Clusters {
		cluster.Server = server
	}
	path := filepath.Join(l.Dir, name)
	return path, clientcmd.WriteToFile(*config, path)
}
