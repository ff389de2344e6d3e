package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Replica is one process of the webhook. Beside it runs what a kubelet and the
// endpoints controller do in a cluster: its readiness is put into an EndpointSlice
// of the Service.
type Replica struct {
	Name    string
	Metrics string // URL of /metrics
	Log     string // path

	lab     *Lab
	command *exec.Cmd
	port    int
	health  string
	done    chan struct{} // the process has ended
	stop    context.CancelFunc
	once    sync.Once
	held    atomic.Bool // the kubelet has not noticed yet what became of the replica
}

// StartReplica starts a replica and waits until the API server calls it.
func (l *Lab) StartReplica(ctx context.Context, name string, flags ...string) (*Replica, error) {
	ports, err := freePorts(l.host, 3)
	if err != nil {
		return nil, err
	}
	address := func(i int) string { return net.JoinHostPort(l.host, strconv.Itoa(ports[i])) }
	r := &Replica{
		Name: name, lab: l, port: ports[0], health: "http://" + address(2), Metrics: "http://" + address(1) + "/metrics",
		Log: filepath.Join(l.logDir(), name+".log"), done: make(chan struct{}),
	}
	log, err := os.OpenFile(r.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	installed, err := l.flags(ctx)
	if err != nil {
		return nil, err
	}
	// What the machine and the tests' patience need comes after, and counts.
	arguments := slices.Concat(installed, []string{
		"--kubeconfig=" + l.webhook, "--namespace=" + Namespace, "--host=" + l.host,
		"--port=" + strconv.Itoa(ports[0]), "--metrics-bind-address=" + address(1), "--health-probe-bind-address=" + address(2),
		"--reader-image=registry.example.com/bucket-access-reader:v1", "--shutdown-delay=2s", "--log-level=debug",
		"--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s", "--leader-election-retry-period=500ms",
	}, l.options.Flags, flags)
	r.command = exec.Command(filepath.Join(l.Repository, "bin", Name), arguments...)
	r.command.Stdout, r.command.Stderr = log, log
	// A lab that is killed takes its replicas with it.
	r.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.command.Start(); err != nil {
		return nil, fmt.Errorf("starting a replica (built with make build?): %w", err)
	}
	go func() { _ = r.command.Wait(); _ = log.Close(); close(r.done) }()
	watchCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	go r.keepEndpoint(watchCtx)
	l.replicas = append(l.replicas, r)
	if err := r.WaitReady(ctx); err != nil {
		r.Kill()
		return nil, err
	}
	return r, nil
}

func (l *Lab) logDir() string {
	if l.options.LogDir != "" {
		return l.options.LogDir
	}
	return l.Dir
}

// Ready asks the replica itself.
func (r *Replica) Ready() bool {
	client := http.Client{Timeout: time.Second}
	response, err := client.Get(r.health + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// WaitReady waits until the replica is ready and its endpoint says so.
func (r *Replica) WaitReady(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		slice := &discoveryv1.EndpointSlice{}
		slice.Namespace, slice.Name = Namespace, r.Name
		err := r.lab.Client.Get(ctx, clientKey(slice), slice)
		if err == nil && len(slice.Endpoints) == 1 && ptr.Deref(slice.Endpoints[0].Conditions.Ready, false) {
			time.Sleep(200 * time.Millisecond) // the API server's own watch
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("replica %s ended; its log is %s", r.Name, r.Log)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("replica %s did not become ready in 30 s; its log is %s", r.Name, r.Log)
}

// keepEndpoint mirrors readiness into the EndpointSlice; a replica that has ended
// loses its endpoint.
func (r *Replica) keepEndpoint(ctx context.Context) {
	known := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.done:
			if !r.held.Load() {
				_ = r.deleteSlice(ctx)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
		if ready := r.Ready(); ready != known && !r.held.Load() {
			slice := r.slice(ready)
			err := r.lab.Client.Create(ctx, slice)
			if err != nil {
				existing := r.slice(false)
				if r.lab.Client.Get(ctx, clientKey(existing), existing) == nil {
					existing.Endpoints, existing.Ports = slice.Endpoints, slice.Ports
					err = r.lab.Client.Update(ctx, existing)
				}
			}
			if err == nil {
				err = r.lab.mirrorEndpoints(ctx)
			}
			if err == nil {
				known = ready
			}
		}
	}
}

func (r *Replica) slice(ready bool) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: r.Name, Labels: map[string]string{discoveryv1.LabelServiceName: Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{
			Name: ptr.To("webhook"), Port: ptr.To(int32(r.port)), Protocol: ptr.To(corev1.ProtocolTCP),
		}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{r.lab.host}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
}

// Terminate ends the replica as Kubernetes does, by SIGTERM, and waits for its end.
func (r *Replica) Terminate() error {
	if err := r.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		r.Kill()
		return fmt.Errorf("replica %s did not end in a minute; its log is %s", r.Name, r.Log)
	}
	r.removeEndpoint()
	return nil
}

// Kill ends the replica at once and takes its endpoint away.
func (r *Replica) Kill() {
	_ = r.command.Process.Kill()
	<-r.done
	r.removeEndpoint()
}

// removeEndpoint waits for keepEndpoint's own delete to have happened.
func (r *Replica) removeEndpoint() {
	r.once.Do(func() {
		r.stop()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = r.deleteSlice(ctx)
	})
}

func (r *Replica) deleteSlice(ctx context.Context) error {
	return errors.Join(r.lab.Client.Delete(ctx, r.slice(false)), r.lab.mirrorEndpoints(ctx))
}

// freePorts finds ports that nobody listens on now.
func freePorts(host string, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		address, _ := listener.Addr().(*net.TCPAddr)
		ports[i] = address.Port
	}
	return ports, nil
}

func clientKey(object client.Object) client.ObjectKey { return client.ObjectKeyFromObject(object) }

// PID is the process's.
func (r *Replica) PID() int { return r.command.Process.Pid }

// Replicas are those that were started and not ended.
func (l *Lab) Replicas() []*Replica {
	var alive []*Replica
	for _, r := range l.replicas {
		select {
		case <-r.done:
		default:
			alive = append(alive, r)
		}
	}
	return alive
}

// Address is where the replica serves, host:port.
func (r *Replica) Address() string { return net.JoinHostPort(r.lab.host, strconv.Itoa(r.port)) }
