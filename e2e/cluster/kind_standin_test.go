package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// No Docker engine runs where this was written. So the docker command of these tests is a
// stand-in: this test's own program under that name, first on PATH. It keeps a network and
// a node as files, answers what kind v0.33 asks, refuses what it does not know, and notes
// every command. All the rest is real: kind, the API server that the node's admin.conf
// leads to, the issuer's server, and Account B.

// standInDirectory is the environment variable that names the stand-in's state.
const standInDirectory = "BUCKET_ACCESS_STAND_IN"

// Files of the state.
const (
	stateLog        = "log"      // the commands, one JSON array a line
	stateNetwork    = "network"  // is there while the network is
	stateNode       = "node"     // is there while the node is, with its name
	stateAdmin      = "admin"    // the kubeconfig that kubeadm would have written
	stateEndpoint   = "endpoint" // of the API server: address, tab, port
	stateKubernetes = "version"  // of Kubernetes on the node
	stateKubeadm    = "kubeadm.conf"
	stateImages     = "images"  // SHA-256 of the imported archives, one a line
	stateFails      = "fails"   // commands that contain this fail
	stateHangs      = "hangs"   // commands that contain this hang
	stateHanging    = "hanging" // the process of the one that hangs
)

// standIn is a state, from outside or inside of the stand-in.
type standIn string

// newStandIn puts the stand-in on PATH for a test.
func newStandIn(t *testing.T, kubernetes string) standIn {
	t.Helper()
	s := standIn(t.TempDir())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, s.path("docker")); err != nil {
		t.Fatal(err)
	}
	s.write(stateKubernetes, kubernetes)
	t.Setenv(standInDirectory, string(s))
	t.Setenv("PATH", string(s)+":"+os.Getenv("PATH"))
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	t.Setenv("E2E_KIND_IMAGE", "")
	return s
}

func (s standIn) path(name string) string { return filepath.Join(string(s), name) }

func (s standIn) has(name string) bool { _, err := os.Stat(s.path(name)); return err == nil }

func (s standIn) read(name string) string { data, _ := os.ReadFile(s.path(name)); return string(data) }

func (s standIn) write(name, content string) {
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		panic(err)
	}
}

func (s standIn) appendLine(name, line string) error {
	file, err := os.OpenFile(s.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line + "\n")
	return errors.Join(err, file.Close())
}

// commands are those that contain one of the words, without what kind only asks for.
func (s standIn) commands(t *testing.T, words ...string) (commands []string) {
	t.Helper()
	for line := range strings.Lines(s.read(stateLog)) {
		var args []string
		if err := json.Unmarshal([]byte(line), &args); err != nil {
			t.Fatal(err)
		}
		command := strings.Join(args, " ")
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(command, word) }) {
			commands = append(commands, command)
		}
	}
	return commands
}

// docker is the stand-in's main function.
func (s standIn) docker(args []string) error {
	line, err := json.Marshal(args)
	if err != nil {
		return err
	}
	if err := s.appendLine(stateLog, string(line)); err != nil {
		return err
	}
	command := strings.Join(args, " ")
	if fails := s.read(stateFails); fails != "" && strings.Contains(command, fails) {
		return errors.New("the test wants it to fail")
	}
	if hangs := s.read(stateHangs); hangs != "" && strings.Contains(command, hangs) {
		s.write(stateHanging, strconv.Itoa(os.Getpid()))
		time.Sleep(time.Hour)
	}
	switch args[0] {
	case "network":
		return s.network(args[1], command)
	case "exec":
		args = slices.DeleteFunc(args[1:], func(arg string) bool { return arg == "--privileged" || arg == "-i" })
		if !s.has(stateNode) || args[0] != s.read(stateNode) {
			return fmt.Errorf("no such container: %s", args[0])
		}
		return s.exec(args[1:])
	case "run":
		if !s.has(stateNetwork) || !strings.Contains(command, " --net "+s.read(stateNetwork)+" ") {
			return fmt.Errorf("no such network: %s", command)
		}
		s.write(stateNode, args[slices.Index(args, "--name")+1])
		return nil
	case "rm":
		return os.Remove(s.path(stateNode))
	}
	return s.answer(command)
}

func (s standIn) network(verb, command string) error {
	switch {
	case verb == "ls":
		fmt.Print(s.read(stateNetwork))
	case verb == "create" && !s.has(stateNetwork):
		fields := strings.Fields(command)
		s.write(stateNetwork, fields[len(fields)-1])
	case verb == "rm" && s.has(stateNode):
		return errors.New("the network has active endpoints")
	case verb == "rm":
		_ = os.Remove(s.path(stateNetwork))
	case verb == "inspect":
		fmt.Println(kindSubnet)
	default:
		return fmt.Errorf("the stand-in does not expect: docker %s", command)
	}
	return nil
}

// answers to what is asked for, by a part of the command.
func (s standIn) answer(command string) error {
	if strings.Contains(command, "ps -a --filter label=io.x-k8s.kind.cluster="+kindName) {
		if s.has(stateNode) {
			fmt.Println(s.read(stateNode))
		}
		return nil
	}
	for _, known := range []struct{ part, answer string }{
		{"version --format", "28.2.2"},
		{"info --format {{json .}}", `{"CgroupDriver": "systemd", "CgroupVersion": "2", "MemoryLimit": true, "PidsLimit": true, "CPUShares": true}`},
		{"info --format '{{json .SecurityOptions}}'", `'["name=seccomp,profile=builtin"]'`},
		{"info -f {{.Driver}}", "overlay2"},
		{"info -f {{json .DriverStatus }}", `[["Backing Filesystem","extfs"]]`},
		{"inspect --type=image", "[{}]"},
		{"logs -f", "[  OK  ] Reached target multi-user.target - Multi-User System."},
		{"io.x-k8s.kind.role", "control-plane"},
		{"NetworkSettings.Networks", "203.0.113.2,"},
		{"desktop.docker.io/ports", ""},
		{"NetworkSettings.Ports", s.read(stateEndpoint)},
	} {
		if strings.Contains(command, known.part) {
			fmt.Println(known.answer)
			return nil
		}
	}
	return fmt.Errorf("the stand-in does not expect: docker %s", command)
}

// exec is a command on the node.
func (s standIn) exec(args []string) error {
	files := map[string]string{
		"/kind/version": s.read(stateKubernetes), "/etc/kubernetes/admin.conf": s.read(stateAdmin),
		"/kind/manifests/default-cni.yaml": "# a CNI", "/kind/manifests/default-storage.yaml": "# a storage class",
	}
	command := strings.Join(args, " ")
	switch {
	case args[0] == "cat" && files[args[1]] != "":
		fmt.Print(files[args[1]])
	case args[0] == "mkdir", args[0] == "kubeadm", strings.HasPrefix(command, "kubectl") && strings.HasSuffix(command, "-"):
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case command == "cp /dev/stdin /kind/"+stateKubeadm:
		content, err := io.ReadAll(os.Stdin)
		s.write(stateKubeadm, string(content))
		return err
	case args[0] == "kubectl" && strings.Contains(command, " get nodes "):
		fmt.Println("'True'")
	case command == "containerd config dump":
		fmt.Println("version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'overlayfs'")
	case command == "ctr --namespace=k8s.io images import --all-platforms --digests --snapshotter=overlayfs -":
		sum := sha256.New()
		if _, err := io.Copy(sum, os.Stdin); err != nil {
			return err
		}
		return s.appendLine(stateImages, hex.EncodeToString(sum.Sum(nil)))
	default:
		return fmt.Errorf("the stand-in does not expect on the node: %s", command)
	}
	return nil
}
