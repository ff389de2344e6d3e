package lab

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// StartCertManager runs cert-manager's own controllers and cainjector, and returns when
// its CRDs are installed and its caches are full. Stop of the lab ends it, too.
func (l *Lab) StartCertManager(ctx context.Context) (stop func(), err error) {
	l.options.Progress("starting cert-manager")
	bin := filepath.Join(l.Repository, "bin")
	daemon, err := l.StartDaemon("cert-manager", exec.Command(filepath.Join(bin, "cert-manager"), // built with make cert-manager
		"--kubeconfig="+l.Kubeconfig, "--crds="+filepath.Join(bin, "cert-manager-crds")))
	if err != nil {
		return nil, err
	}
	err = daemon.Wait(ctx, "cert-manager runs", time.Minute, func() bool { return daemon.Said("cert-manager is running") })
	if err != nil {
		daemon.Stop()
		return nil, err
	}
	return daemon.Stop, nil
}

// MountSecret puts a Secret's keys into dir as files and follows it, as a kubelet does for
// a volume: it waits for the Secret, a change appears at once as a whole, and files stay
// when the Secret goes. A change comes delay later than cert-manager makes it: a kubelet
// takes seconds to a minute and more, and what is in time for none is in time for any.
func (l *Lab) MountSecret(ctx context.Context, namespace, name, dir string, delay time.Duration) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	mount := secretMount{lab: l, key: client.ObjectKey{Namespace: namespace, Name: name}, dir: dir}
	var err error
	for mount.mounted == nil {
		if err = mount.sync(ctx, 0); err != nil && !pause(ctx, mountPeriod) {
			return errors.Join(ctx.Err(), err)
		}
	}
	followCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(followCtx, mountPeriod) {
			_ = mount.sync(followCtx, delay) // tried again, as a kubelet does
		}
	}()
	l.stops = append(l.stops, func() { cancel(); <-done })
	return nil
}

const mountPeriod = 100 * time.Millisecond

type secretMount struct {
	lab     *Lab
	key     client.ObjectKey
	dir     string
	mounted map[string][]byte
}

// sync brings the files up to date, delay after it sees that they are not.
func (m *secretMount) sync(ctx context.Context, delay time.Duration) error {
	var secret corev1.Secret
	// To the end: client-go logs what is cut off as an error.
	if err := m.lab.Client.Get(context.WithoutCancel(ctx), m.key, &secret); err != nil {
		return err
	}
	if m.mounted != nil && maps.EqualFunc(m.mounted, secret.Data, bytes.Equal) {
		return nil
	}
	if delay > 0 {
		pause(ctx, delay)
		return m.sync(ctx, 0)
	}
	if err := m.write(secret.Data); err != nil {
		return err
	}
	m.mounted = secret.Data
	return nil
}

// pause says whether ctx is still alive after a while.
func pause(ctx context.Context, while time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(while):
		return true
	}
}

// write does what a kubelet's AtomicWriter does: a directory of its own for each state of
// the Secret, to which the link ..data is turned at once. Each file is a link through it.
func (m *secretMount) write(data map[string][]byte) error {
	fresh, err := os.MkdirTemp(m.dir, "..")
	if err != nil {
		return err
	}
	for name, content := range data {
		if err := os.WriteFile(filepath.Join(fresh, name), content, 0o400); err != nil {
			return err
		}
	}
	current := filepath.Join(m.dir, "..data")
	former, _ := os.Readlink(current)
	if err := os.Symlink(filepath.Base(fresh), current+"_tmp"); err != nil {
		return err
	}
	if err := os.Rename(current+"_tmp", current); err != nil {
		return err
	}
	for name := range data {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if former == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(m.dir, former))
}
