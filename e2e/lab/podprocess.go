package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// PodProcess is a container of a Pod as a process: exactly the variables and files that
// the container would have, and its user. There is no kubelet yet, so the lab does what
// one does: it asks for the token by the TokenRequest API, bound to the Pod.
type PodProcess struct {
	Pod       *corev1.Pod
	Container string
	// Edit changes what is started, for a set-up that is broken on purpose; may be nil.
	Edit func(*PodStart)
	// Extra arguments, which count after the container's own.
	Extra []string
	Log   string // path; empty is the lab's own directory

	Command *exec.Cmd
	lab     *Lab
	token   string // path outside
	volume  *corev1.ServiceAccountTokenProjection
	done    chan struct{}
}

// PodStart is what a container's process is started with.
type PodStart struct {
	Command []string
	Env     []string          // NAME=value
	Mounts  map[string]string // path in the container to directory outside
	User    int64
	// Token is put in place of the Pod's own token; nil leaves that.
	Token *string `json:"-"`
}

// SetEnv sets or, with an empty value, removes a variable.
func (s *PodStart) SetEnv(name, value string) {
	s.Env = slices.DeleteFunc(s.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	if value != "" {
		s.Env = append(s.Env, name+"="+value)
	}
}

// StartProcess starts p, running binary (below bin/) in place of its image.
func (l *Lab) StartProcess(ctx context.Context, p *PodProcess, binary string) error {
	p.lab, p.done = l, make(chan struct{})
	container := find(p.Pod, p.Container)
	if container == nil {
		return fmt.Errorf("the Pod %s has no container %s", p.Pod.Name, p.Container)
	}
	start := PodStart{Mounts: map[string]string{}, User: 65532}
	if security := container.SecurityContext; security != nil && security.RunAsUser != nil {
		start.User = *security.RunAsUser
	}
	for _, variable := range container.Env {
		start.Env = append(start.Env, variable.Name+"="+resolve(p.Pod, variable))
	}
	if err := p.mountToken(ctx, container, &start); err != nil {
		return err
	}
	const inside = "/run/bin"
	start.Mounts[inside] = filepath.Join(l.Repository, "bin")
	start.Command = append([]string{inside + "/" + binary}, container.Args...)
	start.Command = append(start.Command, p.Extra...)
	if p.Edit != nil {
		p.Edit(&start)
	}
	if start.Token != nil {
		if err := p.WriteToken(*start.Token); err != nil {
			return err
		}
	}
	return p.run(start)
}

func (p *PodProcess) run(start PodStart) error {
	text, err := json.Marshal(start)
	if err != nil {
		return err
	}
	if p.Log == "" {
		p.Log = filepath.Join(p.lab.logDir(), p.Pod.Namespace+"-"+p.Pod.Name+".log")
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.Command = exec.Command("/proc/self/exe")
	p.Command.Env = []string{envPodStart + "=" + string(text)}
	p.Command.Stdout, p.Command.Stderr = log, log
	p.Command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := p.Command.Start(); err != nil {
		return err
	}
	go func() { _ = p.Command.Wait(); close(p.done) }()
	p.lab.mutex.Lock()
	defer p.lab.mutex.Unlock()
	p.lab.processes = append(p.lab.processes, p)
	return nil
}

// mountToken makes the directory of the projected token and writes the first one.
func (p *PodProcess) mountToken(ctx context.Context, container *corev1.Container, start *PodStart) error {
	for _, volume := range p.Pod.Spec.Volumes {
		if volume.Projected == nil || volume.Name != "aws-iam-token" {
			continue
		}
		directory, err := os.MkdirTemp(p.lab.Dir, "token-")
		if err != nil {
			return err
		}
		if err := os.Chmod(directory, 0o755); err != nil {
			return err
		}
		p.volume = volume.Projected.Sources[0].ServiceAccountToken
		p.token = filepath.Join(directory, p.volume.Path)
		for _, mount := range container.VolumeMounts {
			if mount.Name == volume.Name {
				start.Mounts[mount.MountPath] = directory
			}
		}
		return p.ReplaceToken(ctx)
	}
	return nil
}

// ReplaceToken asks for a new token and puts it in place of the old one, as a kubelet
// does at 80 % of its life: in one step.
func (p *PodProcess) ReplaceToken(ctx context.Context) error {
	token, err := p.lab.Token(ctx, p.Pod, p.volume.Audience, *p.volume.ExpirationSeconds)
	if err != nil {
		return err
	}
	return p.WriteToken(token)
}

// WriteToken puts any text where the token is.
func (p *PodProcess) WriteToken(token string) error {
	if err := os.WriteFile(p.token+".new", []byte(token), 0o644); err != nil {
		return err
	}
	return os.Rename(p.token+".new", p.token)
}

// Token asks the API server for a token of the Pod's ServiceAccount, bound to the Pod.
func (l *Lab) Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, error) {
	clients, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return "", err
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	answer, err := clients.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("a token for %s/%s: %w", pod.Namespace, pod.Spec.ServiceAccountName, err)
	}
	return answer.Status.Token, nil
}

// Stop ends the process by SIGTERM and waits for it.
func (p *PodProcess) Stop() {
	_ = p.Command.Process.Signal(syscall.SIGTERM)
	<-p.done
}

// PeakMemory is the largest resident memory that the process has had, in bytes. Not by
// getrusage: that counts what the process was before it became the Pod's, too.
func (p *PodProcess) PeakMemory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Command.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, line, found := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(line)
	if !found || len(fields) < 2 || fields[1] != "kB" {
		return 0, errors.New("no VmHWM in kB in /proc/PID/status")
	}
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	return kilobytes << 10, err
}

// Done is closed when the process has ended.
func (p *PodProcess) Done() <-chan struct{} { return p.done }

func find(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// resolve is the value of a variable as a kubelet makes it, for the sources that are injected.
func resolve(pod *corev1.Pod, variable corev1.EnvVar) string {
	if variable.ValueFrom == nil || variable.ValueFrom.FieldRef == nil {
		return variable.Value
	}
	return map[string]string{
		"metadata.name": pod.Name, "metadata.uid": string(pod.UID), "metadata.namespace": pod.Namespace,
		"spec.serviceAccountName": pod.Spec.ServiceAccountName,
	}[variable.ValueFrom.FieldRef.FieldPath]
}

// becomePod makes the process the container's: its files in place, its user, nothing
// else in its environment. It returns only when that fails.
func becomePod(text string) error {
	var start PodStart
	if err := json.Unmarshal([]byte(text), &start); err != nil {
		return err
	}
	sources := map[string]int{} // opened before /run is covered
	for _, source := range start.Mounts {
		fd, err := unix.Open(source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		sources[source] = fd
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755")); err != nil {
		return err
	}
	for path, source := range start.Mounts {
		path = strings.Replace(path, "/var/run/", "/run/", 1)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", sources[source]), path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", path, err)
		}
	}
	// A user that made its namespaces itself has one user in them, and no other to become.
	if mapped, err := os.ReadFile("/proc/self/uid_map"); err == nil && !strings.HasSuffix(strings.TrimSpace(string(mapped)), " 1") {
		user := int(start.User)
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(user), syscall.Setuid(user)); err != nil {
			return err
		}
	}
	return syscall.Exec(start.Command[0], start.Command, start.Env)
}
