package node

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const envRun = "BUCKET_ACCESS_NODE_RUN"

// TestMain is the tests, or, told so, a program that starts a node and waits.
func TestMain(m *testing.M) {
	if os.Getenv(envRun) == "" {
		os.Exit(m.Run())
	}
	if code, again := lab.Isolate(0, Sweep); again {
		os.Exit(code)
	}
	if err := hold(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// hold runs a node until SIGTERM. On SIGINT it ends as programs do that know of none.
func hold() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, err := lab.Start(ctx, lab.Options{Manifests: lab.None, Nodes: true})
	if err != nil {
		return err
	}
	defer func() { _ = l.Stop() }()
	root, err := lab.Repository()
	if err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(root, "out", "node-images", "pause.tar"))
	if err != nil || len(images) == 0 {
		return fmt.Errorf("no images (make node-images packs them): %w", err)
	}
	n, err := Start(ctx, l, Options{Images: images})
	defer func() { _ = n.Stop() }()
	if err != nil {
		return err
	}
	// A Pod, so that there are containers, mounts and addresses to leave behind.
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: left, namespace: default}\nspec: {containers: [{name: app, image: " + PauseImage + "}]}\n"
	if _, said, err := l.Kubectl(ctx, pod, "create", "-f", "-"); err != nil {
		return fmt.Errorf("creating a Pod: %s", said)
	}
	if _, said, err := l.Kubectl(ctx, "", "wait", "pod/left", "--for=condition=Ready", "--timeout=60s"); err != nil {
		return fmt.Errorf("waiting for the Pod: %s", said)
	}
	fmt.Println("up")
	<-ctx.Done()
	return nil
}

// machine is what a node could leave behind or change: what is not of its namespaces.
func machine(t *testing.T, temporary string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, file := range []string{"/proc/net/route", "/proc/net/fib_trie", "/proc/sys/net/ipv4/ip_forward", "/proc/self/mountinfo"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[file] = string(text)
	}
	links, err := filepath.Glob("/sys/class/net/*")
	if err != nil {
		t.Fatal(err)
	}
	found["links"] = strings.Join(links, "\n")
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		if rules, err := exec.Command(program).Output(); err == nil {
			lines := slices.DeleteFunc(strings.Split(string(rules), "\n"), func(line string) bool { return strings.HasPrefix(line, "#") })
			found[program] = strings.Join(lines, "\n")
		}
	}
	for name, pattern := range map[string]string{
		"cgroups": cgroupMount + "/*/" + prefix + "*", "cgroups of version 2": cgroupMount + "/" + prefix + "*", "temporary files": temporary + "/*",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = strings.Join(paths, "\n")
	}
	for _, directory := range covered {
		_, err := os.Stat(directory)
		found[directory] = fmt.Sprint(err == nil)
	}
	return found
}

// start runs the program and waits until its node has a Pod.
func start(t *testing.T, temporary string) *exec.Cmd {
	t.Helper()
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), envRun+"=1", "TMPDIR="+temporary)
	command.Stderr = os.Stderr
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	if said, err := bufio.NewReader(stdout).ReadString('\n'); said != "up\n" {
		t.Fatalf("the node is not up: %q, %v", said, err)
	}
	return command
}

// TestANodeLeavesNothing ends a node with a Pod on it in each way, and looks at the machine.
func TestANodeLeavesNothing(t *testing.T) {
	if programs, why := Missing(); why != "" || len(programs) > 0 {
		t.Fatalf("%s: missing %q; make node-packages installs Debian's", why, programs)
	}
	temporary := t.TempDir()
	before := machine(t, temporary)
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(end.String(), func(t *testing.T) {
			started := time.Now()
			command := start(t, temporary)
			t.Logf("a Pod was ready after %.1f s", time.Since(started).Seconds())
			during := machine(t, temporary)
			for _, same := range []string{"links", "/proc/net/route", "/proc/net/fib_trie", "/proc/sys/net/ipv4/ip_forward", "iptables-save", "/proc/self/mountinfo"} {
				if during[same] != before[same] {
					t.Errorf("while it runs, %s changes from\n%s\nto\n%s", same, before[same], during[same])
				}
			}
			if during["cgroups"]+during["cgroups of version 2"] == "" || during["temporary files"] == "" {
				t.Error("it has neither cgroups nor files: this test would not see what is left")
			}
			if err := command.Process.Signal(end); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait()
			wantSame(t, before, machine(t, temporary))
		})
	}
	t.Run("killed, and the next one cleans up", func(t *testing.T) {
		killed := start(t, temporary)
		_ = killed.Process.Kill()
		_ = killed.Wait()
		next := start(t, temporary)
		_ = next.Process.Signal(syscall.SIGTERM)
		_ = next.Wait()
		after := machine(t, temporary)
		after["temporary files"] = before["temporary files"] // nobody knows whether they are still wanted
		wantSame(t, before, after)
	})
}

func wantSame(t *testing.T, before, after map[string]string) {
	t.Helper()
	for what, was := range before {
		if after[what] != was {
			t.Errorf("%s was\n%s\nand is\n%s", what, was, after[what])
		}
	}
}
