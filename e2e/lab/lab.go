package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// None is the choice to install nothing: what is installed is the test's own business.
const None = "none"

// Names that manifests/ fix.
const (
	Namespace = "bucket-access-system"
	Name      = "bucket-access-webhook"
)

// Options of a lab.
type Options struct {
	// Manifests is the kustomization to install, below manifests/; empty is default, or
	// older-kubernetes where the API server is older than 1.36; None installs nothing.
	Manifests string
	// Progress is told what takes time; nil is silence.
	Progress func(format string, args ...any)
	// Flags are added to every replica's.
	Flags []string
	// Nodes lets kubelets join.
	Nodes bool
	// LogDir keeps the replicas' logs; empty is the lab's own directory.
	LogDir string

	// Of a cluster that Connect leads to: the address of this machine's that its Pods reach
	// Account B at, and its issuer's URL with the CA of the issuer's certificate, PEM. Account
	// B needs them; Start has its own.
	Host, Issuer string
	IssuerCA     []byte
}

// Lab is a running control plane with the webhook's objects installed.
type Lab struct {
	Config     *rest.Config
	Client     client.Client
	Kubeconfig string // path, of the cluster's administrator
	Dir        string
	Repository string
	Issuer     string           // URL of the cluster's token issuer
	Version    *version.Version // of the API server

	options   Options
	env       *envtest.Environment
	assets    string
	host      string
	webhook   string // path of the webhook's kubeconfig
	replicas  []*Replica
	accountB  *AccountB
	stops     []func()   // of what must end before the API server
	mutex     sync.Mutex // of processes
	endpoints sync.Mutex // of the Service's Endpoints
	processes []*PodProcess
}

// Start brings up etcd and kube-apiserver and installs the webhook, without any
// replica of it. End it with Stop, also after an error of a later step.
func Start(ctx context.Context, options Options) (_ *Lab, err error) {
	l, err := prepare(options)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(l.assets, "kube-apiserver")); err != nil {
		return nil, fmt.Errorf("no kube-apiserver in %s; build it with: make kube", l.assets)
	}
	if l.host, err = newAddress(); err != nil {
		return nil, err
	}
	if l.Dir, err = os.MkdirTemp("", "lab-"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.logDir(), 0o755); err != nil {
		return nil, fmt.Errorf("LogDir: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Stop())
		}
	}()
	for _, step := range []func(context.Context) error{l.startControlPlane, l.askVersion, l.writeKubeconfig, l.install} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// prepare finds the repository and the programs.
func prepare(options Options) (l *Lab, err error) {
	if options.Progress == nil {
		options.Progress = func(string, ...any) {}
	}
	log.SetLogger(logr.Discard())
	l = &Lab{options: options}
	if l.Repository, err = Repository(); err != nil {
		return nil, err
	}
	if l.assets = os.Getenv("KUBEBUILDER_ASSETS"); l.assets == "" {
		l.assets = filepath.Join(l.Repository, "bin", "kube")
	}
	return l, nil
}

// Stop ends the processes, Account B, the replicas, cert-manager and the control plane and removes the lab's directory.
func (l *Lab) Stop() error {
	var errs []error
	for _, process := range l.processes {
		_ = process.Command.Process.Kill()
		<-process.done
	}
	for _, replica := range l.replicas {
		replica.Kill()
	}
	if l.accountB != nil {
		l.accountB.stop()
	}
	l.StopDaemons()
	if l.env != nil {
		errs = append(errs, l.env.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(l.Dir))...)
}

// startControlPlane runs etcd and kube-apiserver. envtest turns the ServiceAccount
// admission plugin off; a cluster has it on. Aggregator routing makes the API server
// call the endpoints of a Service itself, as there is no kube-proxy.
func (l *Lab) startControlPlane(context.Context) error {
	l.options.Progress("starting etcd and kube-apiserver")
	l.env = &envtest.Environment{
		BinaryAssetsDirectory: l.assets, ControlPlaneStartTimeout: time.Minute, ControlPlaneStopTimeout: time.Minute,
	}
	// A directory of ours outlives a restart; envtest would remove its own.
	l.env.ControlPlane.Etcd = &envtest.Etcd{DataDir: filepath.Join(l.Dir, "etcd")}
	arguments := l.env.ControlPlane.GetAPIServer().Configure()
	arguments.Disable("disable-admission-plugins")
	arguments.Set("enable-aggregator-routing", "true")
	// The issuer of its tokens is the API server itself, at an address and port from
	// which an AWS account can fetch its keys.
	server := l.env.ControlPlane.GetAPIServer()
	server.Address, server.Port = l.host, "443"
	server.CertDir = filepath.Join(l.Dir, "kube-apiserver")
	if err := os.Mkdir(server.CertDir, 0o700); err != nil {
		return err
	}
	ca, err := writeServingPair(server.CertDir, l.host)
	if err != nil {
		return err
	}
	server.CA = ca
	l.Issuer = "https://" + l.host
	arguments.Set("advertise-address", l.host)
	arguments.Set("service-account-issuer", l.Issuer)
	arguments.Set("audit-log-path", filepath.Join(l.Dir, "audit.log"))
	arguments.Set("audit-policy-file", filepath.Join(l.Dir, "audit.yaml"))
	policy := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n" +
		// What the webhook itself asks for, and whether it may.
		"- {level: Metadata, users: ['system:serviceaccount:" + Namespace + ":" + Name + "']}\n" +
		"- {level: Metadata, verbs: [create, update, patch], resources: [{group: '', resources: [pods, serviceaccounts]}]}\n- {level: None}\n"
	if err := os.WriteFile(filepath.Join(l.Dir, "audit.yaml"), []byte(policy), 0o600); err != nil {
		return err
	}
	if l.options.Nodes {
		arguments.Set("authorization-mode", "Node", "RBAC")
		arguments.Set("kubelet-preferred-address-types", "InternalIP")
	}
	config, err := l.env.Start()
	if err != nil {
		return fmt.Errorf("starting the control plane: %w", err)
	}
	config.QPS, config.Burst = 500, 1000
	l.Config = config
	l.Client, err = client.New(config, client.Options{})
	return err
}

func (l *Lab) writeKubeconfig(context.Context) (err error) {
	l.Kubeconfig, err = l.WriteKubeconfig("kubeconfig", l.Config.Host)
	return err
}

// WriteKubeconfig writes a kubeconfig of the cluster's administrator for a server at
// another address, and returns its path.
func (l *Lab) WriteKubeconfig(name, server string) (string, error) {
	path := filepath.Join(l.Dir, name)
	config := kubeconfig(l.Config, &clientcmdapi.AuthInfo{ClientCertificateData: l.Config.CertData, ClientKeyData: l.Config.KeyData})
	config.Clusters["lab"].Server = server
	return path, clientcmd.WriteToFile(*config, path)
}

func kubeconfig(config *rest.Config, user *clientcmdapi.AuthInfo) *clientcmdapi.Config {
	return &clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"lab": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"user": user},
		Contexts:       map[string]*clientcmdapi.Context{"lab": {Cluster: "lab", AuthInfo: "user"}},
		CurrentContext: "lab",
	}
}

// Kubectl runs kubectl as the administrator, with input, and returns what it said:
// stdout, stderr (warnings and refusals) and its error.
func (l *Lab) Kubectl(ctx context.Context, input string, args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	command := exec.CommandContext(ctx, filepath.Join(l.assets, "kubectl"), args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig)
	command.Dir = l.Repository
	command.Stdin = bytes.NewBufferString(input)
	command.Stdout, command.Stderr = &out, &errs
	err = command.Run()
	return out.String(), errs.String(), err
}

// Repository is the root of this repository's working tree.
func Repository() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("lab: the place of the sources is unknown")
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
		return root, nil
	}
	// Built with -trimpath: the tests and the demo run from inside the tree.
	directory, err := os.Getwd()
	for err == nil && directory != "/" {
		if _, found := os.Stat(filepath.Join(directory, "manifests")); found == nil {
			return directory, nil
		}
		directory = filepath.Dir(directory)
	}
	return "", errors.New("lab: run this from inside the repository")
}
