package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Daemon is a program that runs beside the control plane until the lab's end.
type Daemon struct {
	Log string // path

	command *exec.Cmd
	done    chan struct{}
	start   int64 // of its own part of the log, in bytes
}

// StartDaemon starts a program with a log of its own.
func (l *Lab) StartDaemon(name string, command *exec.Cmd) (*Daemon, error) {
	d := &Daemon{Log: filepath.Join(l.logDir(), name+".log"), command: command, done: make(chan struct{})}
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		d.start = info.Size()
	}
	command.Stdout, command.Stderr = log, log
	// A lab that is killed takes its daemons with it.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() { _ = command.Wait(); close(d.done) }()
	l.stops = append(l.stops, d.Stop)
	return d, nil
}

// StopDaemons ends them, and what else must end before the API server, the youngest first.
func (l *Lab) StopDaemons() {
	for _, stop := range slices.Backward(l.stops) {
		stop()
	}
	l.stops = nil
}

// Said tells whether the program has printed a text.
func (d *Daemon) Said(text string) bool {
	log, err := os.ReadFile(d.Log)
	return err == nil && bytes.Contains(log[min(d.start, int64(len(log))):], []byte(text))
}

// LogDir is where logs are kept.
func (l *Lab) LogDir() string { return l.logDir() }

// Stop ends the program by SIGTERM, or by force after ten seconds.
func (d *Daemon) Stop() {
	_ = d.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		_ = d.command.Process.Kill()
		<-d.done
	}
}

// Wait polls a condition that the program brings about.
func (d *Daemon) Wait(ctx context.Context, what string, limit time.Duration, condition func() bool) error {
	for deadline := time.Now().Add(limit); !condition(); {
		select {
		case <-d.done:
			return fmt.Errorf("%s: the program ended; its log is %s", what, d.Log)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; the log is %s", what, ctx.Err(), d.Log)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not in %s; the log is %s", what, limit, d.Log)
		}
	}
	return nil
}

// Assets is the directory of Kubernetes' programs.
func (l *Lab) Assets() string { return l.assets }

// Host is the address that everything in the lab is reached at.
func (l *Lab) Host() string { return l.host }

// SigningKey is the path of the key that signs ServiceAccounts' tokens.
func (l *Lab) SigningKey() string { return filepath.Join(l.Dir, "kube-apiserver", signerKey) }

// CA is the path of the CA of the API server's certificate.
func (l *Lab) CA() (string, error) {
	path := filepath.Join(l.Dir, "ca.crt")
	return path, os.WriteFile(path, l.Config.CAData, 0o600)
}

// User makes a user of the cluster and returns the path of its kubeconfig.
func (l *Lab) User(name string, groups ...string) (string, error) {
	user, err := l.env.ControlPlane.AddUser(envtest.User{Name: name, Groups: groups}, &rest.Config{})
	if err != nil {
		return "", fmt.Errorf("making the user %s: %w", name, err)
	}
	data, err := user.KubeConfig()
	path := filepath.Join(l.Dir, filepath.Base(name)+".kubeconfig")
	return path, errors.Join(err, os.WriteFile(path, data, 0o600))
}
