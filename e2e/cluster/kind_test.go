package cluster

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// TestKind goes the whole way but for the containers: the real kind, a real API server with
// the arguments of kind.yaml, and a token of it that Account B takes for its role, having
// fetched the keys from the issuer's server on port 443.
func TestKind(t *testing.T) {
	s := newStandIn(t, "v1.37.0")
	ownHost(t)
	s.serve(t)
	c, err := Start(t.Context(), Options{Provider: Kind, LogDir: t.TempDir(), Progress: t.Logf})
	defer func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	compareStrings(t, "commands", s.commands(t, "network ", "run ", "kubeadm init", "images import", "rm "), []string{
		"network ls --filter name=^" + kindName + "$ --format {{.Name}}",
		"network create --driver bridge --subnet 203.0.113.0/24 --gateway 203.0.113.1 " + kindName,
		"network ls --filter=name=^" + kindName + "$ --format={{.ID}}", // kind's own
		"run --name " + kindName + "-control-plane ",
		"exec --privileged " + kindName + "-control-plane kubeadm init ",
		"exec --privileged -i " + kindName + "-control-plane ctr ", // webhook, reader and app
		"exec --privileged -i " + kindName + "-control-plane ctr ",
		"exec --privileged -i " + kindName + "-control-plane ctr ",
	})
	compareStrings(t, "archives", strings.Fields(s.read(stateImages)), archiveSums(t))
	checkDocuments(t, c)

	identity, err := assume(t, c, NamespacePrefix+"kind")
	if err != nil || !strings.HasPrefix(aws.ToString(identity.AssumedRoleUser.Arn), "arn:aws:sts::"+lab.AccountBID+":assumed-role/e2e-reader/") {
		t.Errorf("a trusted ServiceAccount got %+v, %v", identity, err)
	}
	if _, err := assume(t, c, "elsewhere"); err == nil {
		t.Error("a ServiceAccount that the role does not trust got credentials")
	}

	directory := c.Dir
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	s.wantNothingLeft(t, directory)
	compareStrings(t, "last commands", s.commands(t, " rm ", "rm -f"), []string{
		"rm -f -v " + kindName + "-control-plane", "network rm --force " + kindName,
	})
}

// TestKindConfiguration reads what kind writes for kubeadm, in the version before lists of
// extraArgs and in the one with them.
func TestKindConfiguration(t *testing.T) {
	type argument struct{ Name, Value string }
	want := []argument{
		{"service-account-issuer", "https://" + kindHost}, {"service-account-jwks-uri", "https://" + kindHost + "/openid/v1/jwks"},
	}
	for kubernetes, version := range map[string]string{"v1.35.4": "kubeadm.k8s.io/v1beta3", "v1.37.0": "kubeadm.k8s.io/v1beta4"} {
		t.Run(kubernetes, func(t *testing.T) {
			s := newStandIn(t, kubernetes)
			ownHost(t)
			t.Setenv("E2E_KIND_IMAGE", "kindest/node:"+kubernetes)
			s.write(stateFails, "kubeadm init")
			startToFail(t, "create cluster", "kubeadm init")
			if run := s.commands(t, "run "); len(run) != 1 || !strings.HasSuffix(run[0], " kindest/node:"+kubernetes) {
				t.Errorf("the node is started by %q", run)
			}
			for _, document := range strings.Split(s.read(stateKubeadm), "\n---\n") {
				var configuration struct {
					APIVersion, Kind string
					APIServer        struct{ ExtraArgs any }
				}
				if err := yaml.Unmarshal([]byte(document), &configuration); err != nil {
					t.Fatal(err)
				}
				if configuration.Kind != "ClusterConfiguration" {
					continue
				}
				var got []argument
				switch args := configuration.APIServer.ExtraArgs.(type) {
				case map[string]any:
					for name, value := range args {
						got = append(got, argument{name, fmt.Sprint(value)})
					}
				case []any:
					for _, arg := range args {
						pair := arg.(map[string]any)
						got = append(got, argument{fmt.Sprint(pair["name"]), fmt.Sprint(pair["value"])})
					}
				}
				got = slices.DeleteFunc(got, func(a argument) bool { return !strings.HasPrefix(a.Name, "service-account-") })
				slices.SortFunc(got, func(a, b argument) int { return strings.Compare(a.Name, b.Name) })
				if configuration.APIVersion != version || !slices.Equal(got, want) {
					t.Errorf("%s: the API server's arguments are %v, want %v of %s", configuration.APIVersion, got, want, version)
				}
				return
			}
			t.Errorf("no ClusterConfiguration in\n%s", s.read(stateKubeadm))
		})
	}
}

// TestKindFailure: whatever fails is said, and what was made before is taken away.
func TestKindFailure(t *testing.T) {
	for name, test := range map[string]struct {
		fails string
		want  []string // of the error
		left  []string // commands that take away
	}{
		"no engine": {"version --format", []string{"PROVIDER=kind needs a running Docker engine: ", "the test wants it to fail"}, nil},
		"network":   {"network create", []string{"docker network create"}, []string{"network rm --force " + kindName}},
		"container": {"run --name", []string{"kind create cluster", "the test wants it to fail"}, []string{"network rm --force " + kindName}},
		// kind itself deletes the node of a cluster that it could not make.
		"kubeadm": {"kubeadm init", []string{"kind create cluster"}, []string{"rm -f -v " + kindName + "-control-plane", "network rm --force " + kindName}},
		"images": {"images import", []string{"kind load image-archive", "app.tar"},
			[]string{"rm -f -v " + kindName + "-control-plane", "network rm --force " + kindName}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t, "v1.37.0")
			ownHost(t)
			s.write(stateAdmin, adminOfNobody)
			s.write(stateEndpoint, "127.0.0.1\t1")
			s.write(stateFails, test.fails)
			startToFail(t, test.want...)
			s.wantNothingLeft(t)
			compareStrings(t, "commands", s.commands(t, " rm ", "rm -f"), test.left)
		})
	}
	t.Run("no docker", func(t *testing.T) {
		newStandIn(t, "")
		t.Setenv("PATH", t.TempDir())
		startToFail(t, "PROVIDER=kind needs a running Docker engine: ", "executable file not found")
	})
	t.Run("an engine in a virtual machine", func(t *testing.T) { // which has the gateway's address there
		s := newStandIn(t, "v1.37.0")
		startToFail(t, "PROVIDER=kind needs port 443 of the gateway of Docker's network on this machine", "cannot assign requested address")
		s.wantNothingLeft(t)
	})
	t.Run("behind a proxy", func(t *testing.T) {
		s := newStandIn(t, "v1.37.0")
		ownHost(t)
		t.Setenv("HTTPS_PROXY", "http://proxy.test:3128")
		t.Setenv("NO_PROXY", "example.org")
		s.write(stateFails, "kubeadm init")
		startToFail(t, "create cluster", "kubeadm init")
		run := s.commands(t, "run --name")
		for _, part := range []string{" HTTPS_PROXY=http://proxy.test:3128 ", " NO_PROXY=203.0.113.0/24,example.org,203.0.113.1,"} {
			if len(run) != 1 || !strings.Contains(run[0], part) {
				t.Errorf("the node is started by %q, want a part of it %q", run, part)
			}
		}
	})
	t.Run("another run", func(t *testing.T) {
		s := newStandIn(t, "v1.37.0")
		s.write(stateNetwork, kindName)
		s.write(stateNode, kindName+"-control-plane")
		startToFail(t, "docker has a network "+kindName, "kind delete cluster --name "+kindName+" && docker network rm "+kindName)
		if !s.has(stateNetwork) || !s.has(stateNode) {
			t.Error("what belongs to another run was taken away")
		}
	})
}

// TestKindInterrupt: a signal deletes the cluster before it ends the process.
func TestKindInterrupt(t *testing.T) {
	ownHost(t)
	for name, test := range map[string]struct {
		mode, hangs string
		signal      syscall.Signal
		killed      bool // by the signal
	}{
		"while kind works":         {childPlain, "kubeadm init", unix.SIGINT, true},
		"when the cluster is up":   {childPlain, "", unix.SIGTERM, true},
		"with a caller that stops": {childListening, "", unix.SIGINT, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t, "v1.37.0")
			s.serve(t)
			s.write(stateHangs, test.hangs)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv(childMode, test.mode)
			t.Setenv("TMPDIR", t.TempDir())
			var said bytes.Buffer
			child := exec.Command(self)
			child.Stdout, child.Stderr = &said, &said
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer child.Process.Kill()
			reached := func() bool {
				if test.hangs != "" {
					return s.read(stateHanging) != ""
				}
				return strings.Count(s.read(stateImages), "\n") == len(archiveSums(t)) && served()
			}
			for deadline := time.Now().Add(30 * time.Second); !reached(); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the cluster did not come that far in 30 s:\n" + said.String())
				}
			}
			if err := child.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			err = child.Wait()
			ended, ok := child.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || ended.Signaled() != test.killed || test.killed && ended.Signal() != test.signal || !test.killed && err != nil {
				t.Errorf("it ended by %v:\n%s", child.ProcessState, said.String())
			}
			s.wantNothingLeft(t)
			// Nobody here waits for what kind has left, so a dead one is a zombie.
			status, err := os.ReadFile("/proc/" + s.read(stateHanging) + "/status")
			if test.hangs != "" && err == nil && !bytes.Contains(status, []byte("\nState:\tZ")) {
				t.Errorf("docker still runs:\n%s", status)
			}
			if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
				t.Errorf("it left %v:\n%s", left, said.String())
			}
		})
	}
}

// served says whether the issuer's documents are.
func served() bool {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := client.Get("https://" + kindHost + documents[0])
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// adminOfNobody is a kubeconfig as kubeadm writes them.
const adminOfNobody = `{kind: Config, apiVersion: v1, current-context: a, clusters: [{name: a, cluster: {server: "https://a:6443"}}],
  users: [{name: a, user: {}}], contexts: [{name: a, context: {cluster: a, user: a}}]}`

// startToFail starts a cluster of kind and stops it; the error must have every part.
func startToFail(t *testing.T, parts ...string) {
	t.Helper()
	c, err := Start(t.Context(), Options{Provider: Kind, WithoutBucket: true})
	if err == nil {
		t.Error("the cluster was started")
	}
	for _, part := range parts {
		if err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %v\nwant a part of it %q", err, part)
		}
	}
	if err := c.Stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

// wantNothingLeft: no node, no network, nobody on port 443, and no directory.
func (s standIn) wantNothingLeft(t *testing.T, directories ...string) {
	t.Helper()
	for _, name := range []string{stateNode, stateNetwork} {
		if s.has(name) {
			t.Errorf("the %s is left", name)
		}
	}
	if connection, err := net.Dial("tcp", kindHost+":443"); err == nil {
		connection.Close()
		t.Error("port 443 is still served")
	}
	for _, directory := range directories {
		if _, err := os.Stat(directory); err == nil {
			t.Errorf("%s is left", directory)
		}
	}
}

// compareStrings wants each line to begin as expected.
func compareStrings(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// archiveSums are those of the archives that the nodes should have.
func archiveSums(t *testing.T) (sums []string) {
	t.Helper()
	root, err := lab.Repository()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app", "bucket-access-reader", "bucket-access-webhook"} {
		content, err := os.ReadFile(filepath.Join(root, "out", "node-images", name+".tar"))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		sums = append(sums, hex.EncodeToString(sum[:]))
	}
	return sums
}

// ownHost gives this machine the gateway's address, as Docker's network would.
func ownHost(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq("lo:kind")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		request.SetUint16(0) // not up: so an alias ends
		if err := errors.Join(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request), unix.Close(fd)); err != nil {
			t.Error(err)
		}
	})
	for _, set := range []struct {
		request uint
		address net.IP
	}{{unix.SIOCSIFADDR, net.ParseIP(kindHost)}, {unix.SIOCSIFNETMASK, net.IPv4bcast}} {
		if err := errors.Join(request.SetInet4Addr(set.address.To4()), unix.IoctlIfreq(fd, set.request, request)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkDocuments compares what Account B fetches with what the API server says, which must
// name the issuer.
func checkDocuments(t *testing.T, c *Cluster) {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(filepath.Dir(c.Bucket.Account.Data), "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	for _, path := range documents {
		stdout, stderr, err := c.Kubectl(t.Context(), "", "get", "--raw", path)
		if err != nil {
			t.Fatal(stderr)
		}
		response, err := client.Get("https://" + kindHost + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(body) != stdout {
			t.Errorf("%s is served as\n%s\nthe API server says\n%s", path, body, stdout)
		}
		var document struct {
			Issuer string
			URI    string `json:"jwks_uri"`
			Keys   []any
		}
		if err := json.Unmarshal(body, &document); err != nil {
			t.Fatal(err)
		}
		if path == documents[0] && (document.Issuer != c.Issuer || document.URI != c.Issuer+documents[1]) || path == documents[1] && len(document.Keys) == 0 {
			t.Errorf("%s of %s is %s", path, c.Issuer, body)
		}
	}
}

// assume exchanges a token of a ServiceAccount for credentials of the bucket's role.
func assume(t *testing.T, c *Cluster, namespace string) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "reader"}}
	parsed, errs := policy.Parse("e2e", c.Bucket.Document(Everyone))
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{parsed.Audience}}}
	if err := errors.Join(
		c.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}),
		c.Client.Create(t.Context(), account),
		c.Client.SubResource("token").Create(t.Context(), account, request),
	); err != nil {
		t.Fatal(err)
	}
	client := sts.New(sts.Options{Region: lab.AccountBRegion, BaseEndpoint: &c.Bucket.STS, Credentials: aws.AnonymousCredentials{}})
	return client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &c.Bucket.RoleARN, RoleSessionName: aws.String("kind"), WebIdentityToken: &request.Status.Token,
	})
}

// apiServer is started once: the administrator's kubeconfig, and address, tab, port.
var apiServer = sync.OnceValues(func() (kubeconfig, endpoint string) {
	// It ends with the process namespace.
	var cluster struct{ KubeadmConfigPatches []string }
	var patch struct {
		APIServer struct{ ExtraArgs map[string]string }
	}
	if err := errors.Join(yaml.Unmarshal([]byte(kindConfig), &cluster), yaml.Unmarshal([]byte(cluster.KubeadmConfigPatches[0]), &patch)); err != nil {
		panic(err)
	}
	root, err := lab.Repository()
	if err != nil {
		panic(err)
	}
	env := &envtest.Environment{BinaryAssetsDirectory: filepath.Join(root, "bin", "kube"), ControlPlaneStartTimeout: time.Minute}
	arguments := env.ControlPlane.GetAPIServer().Configure()
	arguments.Set("advertise-address", "203.0.113.2") // the node's; a loopback address is refused
	for name, value := range patch.APIServer.ExtraArgs {
		arguments.Set(name, value)
	}
	config, err := env.Start()
	if err != nil {
		panic(err)
	}
	user, err := env.ControlPlane.AddUser(envtest.User{Name: "administrator", Groups: []string{"system:masters"}}, config)
	if err != nil {
		panic(err)
	}
	data, err := user.KubeConfig()
	if err != nil {
		panic(err)
	}
	return string(data), strings.Replace(strings.TrimPrefix(config.Host, "https://"), ":", "\t", 1)
})

// serve has the stand-in's node lead to the API server.
func (s standIn) serve(t *testing.T) {
	t.Helper()
	kubeconfig, endpoint := apiServer()
	s.write(stateAdmin, kubeconfig)
	s.write(stateEndpoint, endpoint)
}
