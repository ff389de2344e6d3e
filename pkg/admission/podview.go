package admission

import (
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// ReadPod reads one Pod as JSON.
func ReadPod(document []byte) (*inject.PodView, error) {
	pod := &inject.PodView{}
	err := read(document, func(r *reader) error {
		_, err := readPod(r, pod)
		return err
	})
	return pod, err
}

func readPod(r *reader, pod *inject.PodView) (bool, error) {
	return r.object(func(key string) (err error) {
		switch key {
		case "metadata":
			err = readPodMetadata(r, pod)
		case "spec":
			err = readPodSpec(r, pod)
		default:
			err = r.skip()
		}
		return err
	})
}

func readPodMetadata(r *reader, pod *inject.PodView) error {
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "name":
			pod.Name, err = r.str()
		case "namespace":
			pod.Namespace, err = r.str()
		case "labels":
			pod.HasLabels, err = r.object(func(key string) error { return readPodLabel(r, pod, key) })
		case "annotations":
			pod.HasAnnotations, err = r.object(func(key string) error { return readPodAnnotation(r, pod, key) })
		default:
			err = r.skip()
		}
		return err
	})
	return err
}

// label reads the value of a key that is there.
func (r *reader) label(into *decide.Label) (err error) {
	into.Set = true
	into.Value, err = r.name(maxLabel)
	return err
}

// Longest values of labels and names in Kubernetes; a longer one can't be right and
// is cut behind its first wrong character, so that no sentence repeats all of it.
const (
	maxLabel = 63
	maxName  = 253
)

func (r *reader) name(longest int) (string, error) {
	s, err := r.str()
	return s[:min(len(s), longest+1)], err
}

func readPodLabel(r *reader, pod *inject.PodView, key string) error {
	switch key {
	case v1alpha1.LabelPolicy:
		return r.label(&pod.Policy)
	case v1alpha1.LabelInjected:
		return r.label(&pod.Injected)
	case v1alpha1.LabelServiceAccountPolicy:
		return r.label(&pod.Mark)
	case v1alpha1.EKSLabelPodIdentity:
		return r.label(&pod.PodIdentity)
	}
	return r.skip()
}

// mirrorPod is what the kubelet writes on the API server's image of a static Pod.
const mirrorPod = "kubernetes.io/config.mirror"

func readPodAnnotation(r *reader, pod *inject.PodView, key string) (err error) {
	switch key {
	case mirrorPod:
		pod.MirrorPod = true
		err = r.skip()
	case v1alpha1.AnnotationStatus:
		pod.HasStatus = true
		pod.Status, err = r.str()
	case v1alpha1.AnnotationSkipContainers:
		pod.SkipContainers, err = r.str()
	case v1alpha1.EKSAnnotationSkipContainers:
		pod.EKSSkipContainers, err = r.str()
	case v1alpha1.AnnotationIncludeContainers:
		pod.IncludeContainers.Set = true
		pod.IncludeContainers.Value, err = r.str()
	case v1alpha1.AnnotationReader:
		err = r.label(&pod.Reader)
	case v1alpha1.EKSAnnotationTokenExpiration:
		err = r.label(&pod.TokenExpiration)
	default:
		err = r.skip()
	}
	return err
}

func readPodSpec(r *reader, pod *inject.PodView) error {
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "serviceAccountName":
			pod.ServiceAccount, err = r.name(maxName)
		case "os":
			err = readFields(r, map[string]*string{"name": &pod.OSName})
		case "nodeSelector":
			err = readFields(r, map[string]*string{"kubernetes.io/os": &pod.NodeOS, "beta.kubernetes.io/os": &pod.NodeOSBeta})
		case "hostNetwork":
			pod.HostNetwork, err = r.boolean()
		case "volumes":
			pod.HasVolumes, err = r.list(func() error { return readVolume(r, pod) })
		case "initContainers":
			pod.InitContainers, err = readContainers(r)
		case "containers":
			pod.Containers, err = readContainers(r)
		case "ephemeralContainers":
			pod.EphemeralContainers, err = readContainers(r)
		default:
			err = r.skip()
		}
		return err
	})
	return err
}

// readFields reads the named strings of an object.
func readFields(r *reader, fields map[string]*string) error {
	_, err := r.object(func(key string) (err error) {
		if into, ok := fields[key]; ok {
			*into, err = r.str()
			return err
		}
		return r.skip()
	})
	return err
}

func readVolume(r *reader, pod *inject.PodView) error {
	var volume inject.Volume
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "name":
			volume.Name, err = r.str()
		case "projected":
			volume.Token, err = readProjected(r)
		default:
			err = r.skip()
		}
		return err
	})
	pod.Volumes = append(pod.Volumes, volume)
	return err
}

// readProjected returns the token source of a projected volume that has no other.
func readProjected(r *reader) (*inject.TokenSource, error) {
	var token *inject.TokenSource
	sources := 0
	_, err := r.object(func(key string) error {
		if key != "sources" {
			return r.skip()
		}
		_, err := r.list(func() error {
			sources++
			_, err := r.object(func(key string) (err error) {
				if key != "serviceAccountToken" {
					return r.skip()
				}
				token, err = readToken(r)
				return err
			})
			return err
		})
		return err
	})
	if sources != 1 {
		token = nil
	}
	return token, err
}

func readToken(r *reader) (*inject.TokenSource, error) {
	token := &inject.TokenSource{}
	exists, err := r.object(func(key string) (err error) {
		switch key {
		case "audience":
			token.Audience, err = r.str()
		case "expirationSeconds":
			token.Expiration, err = r.number()
		case "path":
			token.Path, err = r.str()
		default:
			err = r.skip()
		}
		return err
	})
	if !exists {
		return nil, err
	}
	return token, err
}
