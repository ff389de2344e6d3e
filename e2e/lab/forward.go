package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

var forwarded = regexp.MustCompile(`from (127\.0\.0\.1:\d+)`)

// Forward makes a port of a Pod, which may listen on its loopback only, reachable at an
// address here, by kubectl port-forward.
func (l *Lab) Forward(ctx context.Context, namespace, pod, port string) (address string, stop func(), err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	command := exec.CommandContext(ctx, filepath.Join(l.assets, "kubectl"), "-n", namespace, "port-forward", "pod/"+pod, ":"+port)
	command.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	command.Stderr = &stderr
	stop = func() { cancel(); _ = command.Wait() }
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		cancel()
		return "", func() {}, err
	}
	first, err := bufio.NewReader(stdout).ReadString('\n')
	match := forwarded.FindStringSubmatch(first)
	if match == nil {
		stop()
		return "", func() {}, fmt.Errorf("kubectl port-forward pod/%s: %q, %w: %s", pod, first, err, stderr.String())
	}
	return match[1], stop, nil
}
