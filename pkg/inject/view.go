package inject

import (
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// PodView is what is read of a Pod: the fields that decide or are written, and
// where in its lists they stand. Everything else of the Pod is never looked at.
type PodView struct {
	Name, Namespace, ServiceAccount string

	Policy, Injected, PodIdentity decide.Label // labels
	Mark                          decide.Label // label: the API server's hint
	HasLabels, HasAnnotations     bool
	MirrorPod                     bool

	Status            string // annotation; empty when absent
	HasStatus         bool
	SkipContainers    string // annotations; an empty value skips nothing
	EKSSkipContainers string
	IncludeContainers decide.Label
	TokenExpiration   decide.Label
	Reader            decide.Label // annotation: "true" or "false"

	OSName, NodeOS, NodeOSBeta string // spec.os.name and the two nodeSelector keys

	HostNetwork bool
	HasVolumes  bool
	Volumes     []Volume

	InitContainers, Containers, EphemeralContainers []Container
}

// Windows says whether the Pod runs on Windows.
func (p *PodView) Windows() bool {
	const windows = "windows"
	return p.OSName == windows || p.NodeOS == windows || p.NodeOSBeta == windows
}

// Volume is one volume by its place in the list.
type Volume struct {
	Name string
	// Token is set when the volume is projected and a ServiceAccount token is its
	// only source.
	Token *TokenSource
}

// TokenSource is a projected ServiceAccount token.
type TokenSource struct {
	Audience, Path string
	Expiration     int64 // seconds; 0 when absent
}

// Container is one container by its place in its list.
type Container struct {
	Name      string
	HasEnv    bool
	Env       []EnvVar
	HasMounts bool
	Mounts    []Mount
	// The JSON of what may name a port; looked into only where the reader is added.
	Ports, Liveness, Readiness, Startup, Lifecycle string
}

// EnvVar is one entry of a container's env by its place in the list.
type EnvVar struct {
	Name  string
	Value EnvValue
}

// EnvValue is a literal, a field of the Pod, or anything else as it was written.
type EnvValue struct {
	Text      string
	FieldPath string // valueFrom.fieldRef.fieldPath
	From      string // the JSON of any other valueFrom
}

// Empty says that the value says nothing; SDKs read it like an absent one.
func (v EnvValue) Empty() bool { return v == EnvValue{} }

func (v EnvValue) literal() bool { return v.FieldPath == "" && v.From == "" }

// appendFrom appends the JSON of valueFrom as the API server would write it.
func (v EnvValue) appendFrom(dst []byte) []byte {
	if v.From != "" {
		return append(dst, v.From...)
	}
	dst = append(dst, `{"fieldRef":{"apiVersion":"v1","fieldPath":`...)
	dst = patch.AppendString(dst, v.FieldPath)
	return append(dst, "}}"...)
}

// Mount is one volume mount.
type Mount struct {
	Name, Path string
	SubPath    bool
}

// last returns the index of the last entry of that name, which is the one that
// counts in the container, or -1.
func (c *Container) last(name string) int {
	for i := len(c.Env) - 1; i >= 0; i-- {
		if c.Env[i].Name == name {
			return i
		}
	}
	return -1
}

// ServiceAccountView is what is read of a ServiceAccount.
type ServiceAccountView struct {
	Name, Namespace string
	Policy          decide.Label
	HasAnnotations  bool
	// Annotations holds EKS's four and bucket-access.io/managed, where present.
	Annotations map[string]string
}

// userExpiration is the token lifetime that a user wrote on the ServiceAccount;
// one that we wrote there is the policy's and says nothing of its own.
func (s ServiceAccountView) userExpiration() decide.Label {
	const key = v1alpha1.EKSAnnotationTokenExpiration
	value, ok := s.Annotations[key]
	if !ok {
		return decide.Label{}
	}
	if ours, recorded := s.managed()[key]; recorded && ours == value {
		return decide.Label{}
	}
	return decide.Label{Value: value, Set: true}
}

// Surroundings is what of the cluster matters to a Pod besides its policy.
type Surroundings struct {
	ServiceAccount ServiceAccountView
	Cluster        decide.Cluster
	// EKSAudience is the audience of EKS's own webhook where a ServiceAccount
	// names none (its flag --token-audience).
	EKSAudience string
	Reader      ReaderSettings
}
