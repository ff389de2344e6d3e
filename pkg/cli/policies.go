package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/manifest"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// policyFlags say where policies come from.
type policyFlags struct {
	files       []string
	fromCluster bool
	namespace   string
}

// defaultSystem is the namespace that the chart installs to.
const defaultSystem = "bucket-access-system"

func (f *policyFlags) bind(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.files, "policies", nil, "file or directory with policies: ConfigMaps, or bare documents that are named like their file")
	flags.BoolVar(&f.fromCluster, "from-cluster", false, "read the cluster instead: policies, labels of Namespaces and ServiceAccounts, the token issuer")
	flags.StringVar(&f.namespace, flagOwn, defaultSystem, "namespace of the webhook, where --from-cluster finds policies")
}

// live says whether the policies are a cluster's.
func (f *policyFlags) live() bool { return f.fromCluster && len(f.files) == 0 }

// load reads the policies, and says which data keys define none.
func (f *policyFlags) load(ctx context.Context, e *environment) (*policy.Snapshot, error) {
	policies, err := f.snapshot(ctx, e)
	for _, problem := range policies.Problems() {
		source := problem.Source.Name
		if f.live() {
			source = "ConfigMap " + problem.Source.Namespace + "/" + source
		}
		fmt.Fprintf(e.ErrOut, "%s%s\n", e.terminal(e.ErrOut).mark(warn), oneLine(fmt.Sprintf(
			"%s: data key %q defines no policy: %v", source, problem.Key, problem.Errors.ToAggregate())))
	}
	return policies, err
}

func (f *policyFlags) snapshot(ctx context.Context, e *environment) (*policy.Snapshot, error) {
	switch {
	case len(f.files) > 0:
		return f.read(e)
	case f.fromCluster:
		reader, _, err := e.cluster()
		if err != nil {
			return nil, err
		}
		return watch.Read(ctx, reader, f.namespace, watch.LastGoodName)
	}
	return nil, errors.New("no policies: give --policies FILE, or --from-cluster")
}

func (f *policyFlags) read(e *environment) (*policy.Snapshot, error) {
	files, err := e.readFiles(f.files)
	if err != nil {
		return nil, err
	}
	var configMaps []policy.ConfigMap
	for _, file := range files {
		for _, document := range file.documents {
			found, err := configMapsOf(file.name, document)
			if err != nil {
				return nil, err
			}
			configMaps = append(configMaps, found...)
		}
	}
	if len(configMaps) == 0 {
		return nil, fmt.Errorf("%s: no policy: want ConfigMaps with the label %s: %q, or documents of kind %s",
			strings.Join(f.files, ", "), v1alpha1.LabelPolicies, v1alpha1.PoliciesTrue, v1alpha1.Kind)
	}
	snapshot := policy.Build(configMaps, nil, nil)
	return snapshot, unique(snapshot)
}

// unique refuses a name that stands twice: files have no age, by which the webhook would
// choose, so any choice could be the wrong one.
func unique(snapshot *policy.Snapshot) error {
	var errs []error
	for _, problem := range snapshot.Problems() {
		name, bad := policy.Name(problem.Key)
		if owner, taken := snapshot.Lookup(name); bad == nil && taken {
			errs = append(errs, fmt.Errorf("policy %q is defined more than once, in %s (%s) and in %s (%s): rename or remove one",
				name, owner.Source.Name, owner.Key, problem.Source.Name, problem.Key))
		}
	}
	return errors.Join(errs...)
}

// configMapsOf are the policies of one document; a bare one as if it stood in a ConfigMap.
func configMapsOf(file string, document manifest.Document) ([]policy.ConfigMap, error) {
	tree, err := document.Tree()
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, document.Line, err)
	}
	if tree == nil || foreign(tree, policyKind) {
		return nil, nil
	}
	text, err := document.JSON()
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, document.Line, err)
	}
	if isBarePolicy(text) {
		return []policy.ConfigMap{{Name: file, Data: map[string]string{bareKey(file): string(document.Body)}}}, nil
	}
	objects, err := objectsOf(text, "")
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, document.Line, err)
	}
	var configMaps []policy.ConfigMap
	for _, o := range objects {
		if o.Kind != "ConfigMap" || o.Metadata.Labels[v1alpha1.LabelPolicies] != v1alpha1.PoliciesTrue {
			continue
		}
		configMap, err := o.configMap()
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, document.Line, err)
		}
		configMaps = append(configMaps, configMap)
	}
	return configMaps, nil
}

// policyKind says whether objects of a kind are policies, or may hold some.
func policyKind(version, kind string) bool {
	return kind == v1alpha1.Kind || strings.HasPrefix(version, v1alpha1.Group+"/") || kind == "ConfigMap" || strings.HasSuffix(kind, "List")
}

// configMap is the object as policies are built from it.
func (o *object) configMap() (policy.ConfigMap, error) {
	var content struct {
		Data       map[string]string `json:"data"`
		BinaryData map[string]string `json:"binaryData"`
	}
	if err := yaml.Unmarshal(o.text, &content); err != nil {
		return policy.ConfigMap{}, fmt.Errorf("ConfigMap %s: %w", o.Metadata.Name, err)
	}
	return policy.ConfigMap{
		Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, UID: o.Metadata.Namespace + "/" + o.Metadata.Name,
		Data: content.Data, BinaryKeys: slices.Sorted(maps.Keys(content.BinaryData)),
	}, nil
}

// isBarePolicy says whether a document is a policy outside of any ConfigMap.
func isBarePolicy(text []byte) bool {
	var header struct{ Kind, APIVersion string }
	return yaml.Unmarshal(text, &header) == nil && (header.Kind == v1alpha1.Kind || strings.HasPrefix(header.APIVersion, v1alpha1.Group+"/"))
}

// bareKey is the data key that a bare document would stand under: its file's name.
func bareKey(file string) string { return strings.TrimSuffix(filepath.Base(file), ".json") }

// cluster makes clients for the cluster that kubectl would talk to.
func (e *environment) cluster() (client.Reader, kubernetes.Interface, error) {
	config, err := e.flags.ToRESTConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("no access to a cluster: %w", err)
	}
	config.UserAgent = "kubectl-bucket_access/" + e.version
	reader, err := client.New(config, client.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("no access to a cluster: %w", err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("no access to a cluster: %w", err)
	}
	return reader, clients, nil
}
