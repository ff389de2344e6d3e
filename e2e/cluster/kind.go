package cluster

import (
	"bytes"
	"context"
	_ "embed" // for the configuration
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// What kind makes has one name, and Docker's network for it documentation addresses (RFC
// 5737): Account B fetches an issuer's keys from no private address. kindHost is the
// machine's own end of that network, which Pods reach too; kind.yaml names it.
const (
	kindName   = "bucket-access-e2e"
	kindSubnet = "203.0.113.0/24"
	kindHost   = "203.0.113.1"
)

// kindConfig is the cluster's configuration.
//
//go:embed kind.yaml
var kindConfig string

// kind is a cluster of kind in the making, or made. Its parts end in reverse order.
type kind struct {
	cluster    *Cluster
	options    Options
	program    string
	kubeconfig string
	archives   []string
	issuer     *issuer

	started chan struct{} // closed when nothing more is made
	mutex   sync.Mutex    // of stop: an interrupt and the caller may both want it
	stops   []func() error
}

// startKind makes a cluster in Docker containers, with Account B beside them on this
// machine.
func (c *Cluster) startKind(ctx context.Context, options Options) (err error) {
	k := &kind{cluster: c, options: options, started: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.atEnd(k.stop)
	k.stopOnInterrupt(cancel)
	defer close(k.started)
	steps := []func(context.Context) error{k.prepare, k.checkDocker, k.createNetwork, k.listen, k.create, k.loadImages, k.connect, c.ownBucket}
	if options.WithoutBucket {
		steps = steps[:len(steps)-1]
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stop takes everything away, once, the youngest first.
func (k *kind) stop() error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.stopLocked()
}

func (k *kind) stopLocked() error {
	var errs []error
	for _, stop := range slices.Backward(k.stops) {
		errs = append(errs, stop())
	}
	k.stops = nil
	return errors.Join(errs...)
}

func (k *kind) atEnd(stop func() error) { k.stops = append(k.stops, stop) }

// stopOnInterrupt deletes the cluster before a signal ends the process, which Docker's
// containers would outlive. Then the signal is sent again, and goes as it would have gone:
// it ends the process, unless the caller listens too.
func (k *kind) stopOnInterrupt(cancel func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	k.atEnd(func() error { signal.Stop(signals); close(ended); return nil })
	go func() {
		var caught os.Signal
		select {
		case caught = <-signals:
		case <-ended:
			return
		}
		// A caller that stops the cluster, too, waits until the signal is sent again; or it was
		// first, and ends as it wants to.
		k.mutex.Lock()
		defer k.mutex.Unlock()
		cancel()
		<-k.started
		if k.stops == nil {
			return
		}
		k.options.Progress("%s: deleting the cluster", caught)
		if err := k.stopLocked(); err != nil {
			k.options.Progress("%v", err)
		}
		if number, ok := caught.(syscall.Signal); ok {
			runtime.LockOSThread() // which gets the signal before it goes on
			_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), number)
		}
	}()
}

// prepare finds what the cluster is made of.
func (k *kind) prepare(context.Context) error {
	root, err := lab.Repository()
	if err != nil {
		return err
	}
	if k.archives, err = k.cluster.archives(); err != nil {
		return err
	}
	k.program = filepath.Join(root, "bin", "kind")
	if _, err := os.Stat(k.program); err != nil {
		return fmt.Errorf("no kind (make kind builds it): %w", err)
	}
	directory, err := os.MkdirTemp("", "kind-")
	if err != nil {
		return err
	}
	k.atEnd(func() error { return os.RemoveAll(directory) })
	k.kubeconfig = filepath.Join(directory, "kubeconfig")
	return bypassProxy()
}

// bypassProxy has this process, kind and kind's nodes reach kindHost themselves: no proxy
// leads there.
func bypassProxy() error {
	names := []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"}
	if !slices.ContainsFunc(names, func(name string) bool { return os.Getenv(name) != "" }) {
		return nil // kind takes NO_PROXY alone for a proxy
	}
	var errs []error
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		errs = append(errs, os.Setenv(name, strings.TrimPrefix(os.Getenv(name)+","+kindHost, ",")))
	}
	return errors.Join(errs...)
}

// checkDocker says plainly what is missing.
func (k *kind) checkDocker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := k.run(ctx, "", "docker", "version", "--format", "{{.Server.Version}}"); err != nil {
		return fmt.Errorf("PROVIDER=kind needs a running Docker engine: %w", err)
	}
	return nil
}

// createNetwork makes Docker's network, which is the sign, too, that this machine has such
// a cluster: there is one at a time, as there is one port 443 of kindHost.
func (k *kind) createNetwork(ctx context.Context) error {
	found, err := k.run(ctx, "", "docker", "network", "ls", "--filter", "name=^"+kindName+"$", "--format", "{{.Name}}")
	if err != nil {
		return err
	}
	if strings.TrimSpace(found) != "" {
		return fmt.Errorf("docker has a network %[1]s: another run has it, or one that was killed left it; "+
			"remove it by: %[2]s delete cluster --name %[1]s && docker network rm %[1]s", kindName, k.program)
	}
	// Registered before it is made: a command that is ended may have done its work.
	k.atEnd(func() error { return k.clean("docker", "network", "rm", "--force", kindName) })
	k.options.Progress("creating Docker's network %s, %s", kindName, kindSubnet)
	_, err = k.run(ctx, "", "docker", "network", "create", "--driver", "bridge", "--subnet", kindSubnet, "--gateway", kindHost, kindName)
	return err
}

// listen takes the issuer's address before minutes are spent on a cluster.
func (k *kind) listen(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(kindHost, "443"))
	if err != nil {
		return fmt.Errorf("PROVIDER=kind needs port 443 of the gateway of Docker's network on this machine "+
			"(root, or sysctl net.ipv4.ip_unprivileged_port_start=443; an engine in a virtual machine has it elsewhere): %w", err)
	}
	k.atEnd(func() error {
		if k.issuer == nil {
			return listener.Close()
		}
		return k.issuer.close()
	})
	k.issuer, err = newIssuer(listener)
	return err
}

// create has kind make the cluster. E2E_KIND_IMAGE is a node image other than kind's own.
func (k *kind) create(ctx context.Context) error {
	k.options.Progress("creating the cluster by kind; its node image is pulled once")
	k.atEnd(func() error {
		return k.clean(k.program, "delete", "cluster", "--name", kindName, "--kubeconfig", k.kubeconfig)
	})
	args := []string{"create", "cluster", "--name", kindName, "--config", "-", "--kubeconfig", k.kubeconfig, "--wait", "120s"}
	if image := os.Getenv("E2E_KIND_IMAGE"); image != "" {
		args = append(args, "--image", image)
	}
	_, err := k.run(ctx, kindConfig, k.program, args...)
	return err
}

// loadImages gives the cluster's nodes the images that make node-images has packed. Not
// pause: kind's nodes have their own, and would lose it to one of the same name.
func (k *kind) loadImages(ctx context.Context) error {
	k.options.Progress("loading the images")
	archives := slices.DeleteFunc(slices.Clone(k.archives), func(path string) bool { return filepath.Base(path) == "pause.tar" })
	_, err := k.run(ctx, "", k.program, append([]string{"load", "image-archive", "--name", kindName}, archives...)...)
	return err
}

// connect makes a lab of the cluster, and its issuer's documents public.
func (k *kind) connect(ctx context.Context) (err error) {
	k.cluster.Lab, err = lab.Connect(ctx, k.kubeconfig, lab.Options{
		LogDir: k.options.LogDir, Progress: k.options.Progress, Host: kindHost, Issuer: k.issuer.url, IssuerCA: k.issuer.ca,
	})
	if err != nil {
		return err
	}
	k.atEnd(k.cluster.Lab.Stop)
	return k.issuer.publish(ctx, k.cluster.Config)
}

// run runs a program with input and returns what it prints; an error has all that it said.
func (k *kind) run(ctx context.Context, input, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, program, args...)
	// kind takes the first engine that it finds, and a network of its own, unless it is told.
	command.Env = append(os.Environ(), "KIND_EXPERIMENTAL_PROVIDER=docker", "KIND_EXPERIMENTAL_DOCKER_NETWORK="+kindName)
	command.Stdin = strings.NewReader(input)
	command.Stdout, command.Stderr = &stdout, &stderr
	// A terminal's Ctrl-C is for this process alone, which then ends the group: kind, and
	// the docker commands that it runs.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	if err := command.Run(); err != nil {
		said := strings.TrimSpace(stdout.String() + stderr.String())
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, said)
	}
	return stdout.String(), nil
}

// clean runs a command of the end, whatever has ended the rest.
func (k *kind) clean(program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := k.run(ctx, "", program, args...)
	return err
}
