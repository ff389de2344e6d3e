// Package kind tries what the provider kind of e2e/cluster gives to kind with kind's own
// packages, as far as they go without a container engine.
package kind

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

// TestConfiguration reads the cluster's configuration as kind does: strictly, into its own
// types, with its own defaults. e2e/cluster has the kind command itself read it.
func TestConfiguration(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "cluster", "kind.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(document string) (*v1alpha4.Cluster, error) {
		decoder := yaml.NewDecoder(bytes.NewReader([]byte(document)))
		decoder.KnownFields(true)
		cluster := &v1alpha4.Cluster{}
		return cluster, decoder.Decode(cluster)
	}
	cluster, err := read(string(document))
	if err != nil {
		t.Fatal(err)
	}
	v1alpha4.SetDefaultsCluster(cluster)
	if cluster.APIVersion != "kind.x-k8s.io/v1alpha4" || cluster.Kind != "Cluster" {
		t.Errorf("it is a %s of %s", cluster.Kind, cluster.APIVersion)
	}
	roles := []v1alpha4.NodeRole{v1alpha4.ControlPlaneRole}
	if got := rolesOf(cluster); !slices.Equal(got, roles) {
		t.Errorf("nodes are %v, want %v", got, roles)
	}
	if image := cluster.Nodes[0].Image; image != defaults.Image || !strings.HasPrefix(image, "kindest/node:v1.37.") {
		t.Errorf("the node image is %s; kind's own is %s", image, defaults.Image)
	}
	if len(cluster.KubeadmConfigPatches) != 1 || !strings.Contains(cluster.KubeadmConfigPatches[0], "service-account-issuer: https://203.0.113.1\n") {
		t.Errorf("kubeadm's patches are %q", cluster.KubeadmConfigPatches)
	}
	if _, err := read(string(document) + "nodez: []\n"); err == nil {
		t.Error("an unknown field was taken")
	}
}

func rolesOf(cluster *v1alpha4.Cluster) (roles []v1alpha4.NodeRole) {
	for i := range cluster.Nodes {
		roles = append(roles, cluster.Nodes[i].Role)
	}
	return roles
}
