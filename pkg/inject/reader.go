package inject

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// ReaderSettings are what the webhook's own flags say of the demo reader's sidecar.
type ReaderSettings struct {
	Image string // empty: none is ever injected
	// Resources is the JSON of the container's resources, MemoryLimit their limit of
	// memory in bytes; 0 is none.
	Resources   []byte
	MemoryLimit int64
}

// ReaderRecord is the sidecar in the status annotation: a container of that name is
// ours, and as it should be while the hash is the same.
type ReaderRecord struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

// ReaderEdit is what happens to the sidecar: an existing one is removed (Index), a new
// one is appended. Either may be absent.
type ReaderEdit struct {
	Remove    bool
	Index     int // of the init container to remove
	Container []byte
}

// reader wants the sidecar or not, and compares it with the one that the record names.
func (p *planner) reader() (edit ReaderEdit, record *ReaderRecord) {
	at := p.readerAt()
	container, record := p.wantedReader()
	switch {
	case record == nil && at < 0:
		return ReaderEdit{}, nil
	case record == nil:
		return ReaderEdit{Remove: true, Index: at}, nil
	case at < 0:
		return ReaderEdit{Container: container}, record
	case *record == *p.owner.status.Reader && at == len(p.pod.InitContainers)-1:
		return ReaderEdit{}, record
	}
	// Another policy, another image, a port that is taken by now, or a later init
	// container, which a gate must not hold back.
	return ReaderEdit{Remove: true, Index: at, Container: container}, record
}

// readerAt is the index of our sidecar among the init containers, or -1. The record may
// be forged or copied: a container of any other name than ours is never taken for ours.
func (p *planner) readerAt() int { return recordedReader(p.pod, p.owner.status.Reader) }

func recordedReader(pod *PodView, record *ReaderRecord) int {
	if record == nil || !strings.HasPrefix(record.Name, v1alpha1.ReaderContainer) {
		return -1
	}
	return slices.IndexFunc(pod.InitContainers, func(c Container) bool { return c.Name == record.Name })
}

// NoReaderImage is why a reader is not added where the webhook was not given an image.
const NoReaderImage = "the webhook runs without --reader-image"

// wantedReader is the container that should be there; nil when none should.
func (p *planner) wantedReader() ([]byte, *ReaderRecord) {
	asked, where := p.policy.Reader.Inject, "the policy"
	switch annotation := p.pod.Reader; {
	case !annotation.Set:
	case annotation.Value == "true", annotation.Value == "false":
		asked, where = annotation.Value == "true", "the annotation "+v1alpha1.AnnotationReader
	default:
		p.found.warn(WarnReader, fmt.Sprintf("annotation %s is %.40q and is ignored; write \"true\" or \"false\"", v1alpha1.AnnotationReader, annotation.Value))
	}
	if !asked {
		return nil, nil
	}
	why := ""
	switch {
	case p.settings.Image == "":
		why = NoReaderImage
	case p.pod.Windows():
		why = "it runs on Linux only"
	case p.pod.HostNetwork:
		why = "with hostNetwork it would listen on the node"
	}
	if why != "" {
		p.found.warn(WarnReader, fmt.Sprintf("the reader that %s asks for is not added: %s", where, why))
		return nil, nil
	}
	name, port := p.readerName(), p.readerPort()
	container := p.readerContainer(name, port)
	sum := sha256.Sum256(container)
	return container, &ReaderRecord{Name: name, Hash: hex.EncodeToString(sum[:8])}
}

// readerName is the first name that no other container has.
func (p *planner) readerName() string {
	ours := p.readerAt()
	name := v1alpha1.ReaderContainer
	for n := 2; p.pod.hasContainer(name, ours); n++ {
		name = v1alpha1.ReaderContainer + "-" + strconv.Itoa(n)
	}
	return name
}

func (p *PodView) hasContainer(name string, exceptInit int) bool {
	is := func(c Container) bool { return c.Name == name }
	for i := range p.InitContainers {
		if i != exceptInit && is(p.InitContainers[i]) {
			return true
		}
	}
	return slices.ContainsFunc(p.Containers, is)
}

// readerPort is the first port from ReaderPort on that no other container says it uses,
// in its ports or its probes. What listens without saying so can't be seen.
func (p *planner) readerPort() int {
	taken, ours := map[int]bool{}, p.readerAt()
	for i := range p.pod.InitContainers {
		if i != ours {
			p.pod.InitContainers[i].usedPorts(taken)
		}
	}
	for i := range p.pod.Containers {
		p.pod.Containers[i].usedPorts(taken)
	}
	port := v1alpha1.ReaderPort
	for taken[port] {
		port++
	}
	return port
}

// usedPorts notes every number that stands for a port in a container's ports, probes and
// lifecycle.
func (c *Container) usedPorts(taken map[int]bool) {
	for _, text := range []string{c.Ports, c.Liveness, c.Readiness, c.Startup, c.Lifecycle} {
		var value any
		if text == "" || json.Unmarshal([]byte(text), &value) != nil {
			continue
		}
		portsIn(value, taken)
	}
}

func portsIn(value any, taken map[int]bool) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			portsIn(item, taken)
		}
	case map[string]any:
		for key, item := range v {
			if number, ok := item.(float64); ok && (key == "port" || key == "containerPort" || key == "hostPort") {
				taken[int(number)] = true
			}
			portsIn(item, taken)
		}
	}
}

// readerContainer is the sidecar's JSON. A native sidecar, so that Jobs still end; its
// gates are exec probes, because the kubelet's HTTP probes go to the Pod's address, where
// it does not listen.
func (p *planner) readerContainer(name string, port int) []byte {
	address := "127.0.0.1:" + strconv.Itoa(port)
	args := []string{"--listen=" + address, "--bucket=" + p.policy.Bucket, "--expect-audience=" + p.policy.Audience,
		"--expect-subject=" + iam.SubjectClaim(v1alpha1.Subject{Namespace: p.pod.Namespace, ServiceAccount: p.pod.ServiceAccount})}
	for _, optional := range []struct{ flag, value string }{
		{"--prefix=", p.policy.Prefix}, {"--probe-key=", p.policy.Reader.ProbeKey}, {"--expect-issuer=", cmp.Or(p.policy.Issuer, p.owner.around.Cluster.Issuer)},
	} {
		if optional.value != "" {
			args = append(args, optional.flag+optional.value)
		}
	}
	out := append([]byte(nil), `{"name":`...)
	out = patch.AppendString(out, name)
	out = append(out, `,"image":`...)
	out = patch.AppendString(out, p.settings.Image)
	out = append(out, `,"command":["`+v1alpha1.ReaderCommand+`"],"args":[`...)
	for i, arg := range args {
		out = append(out, separator(i)...)
		// Kubernetes fills in $(NAME) and makes $$ one; the policy's values are literal.
		out = patch.AppendString(out, strings.ReplaceAll(arg, "$", "$$"))
	}
	out = fmt.Appendf(out, `],"ports":[{"name":"bucket-reader","containerPort":%d,"protocol":"TCP"}],"env":[`, port)
	for i, edit := range p.want.fresh {
		out = append(append(out, separator(i)...), edit.entry...)
	}
	if p.settings.MemoryLimit > 0 {
		const share = 75 // percent; the rest is for the program itself, which Go does not count
		out = appendEntry(append(out, ','), "GOMEMLIMIT", EnvValue{Text: strconv.FormatInt(p.settings.MemoryLimit/100*share, 10)})
	}
	out = append(out, `],"resources":`...)
	out = append(out, p.settings.Resources...)
	out = append(out, `,"volumeMounts":[`...)
	out = append(append(out, tokenMount...), ']')
	out = append(out, gate(p.policy.Reader.Gate, address)...)
	return append(out, `,"terminationMessagePolicy":"FallbackToLogsOnError","restartPolicy":"Always","securityContext":{`+
		`"runAsNonRoot":true,"runAsUser":65532,"runAsGroup":65532,"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,`+
		`"capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}}`...)
}

// gate is the probe that holds back what the policy says. A startup probe that gives up
// would restart the container, so it never does: 2147483647 tries take 200 years.
func gate(gate v1alpha1.Gate, address string) string {
	const form = `,%q:{"exec":{"command":["` + v1alpha1.ReaderCommand + `","check","--address=%s"]},` +
		`"periodSeconds":3,"timeoutSeconds":6,"failureThreshold":%d}`
	switch gate {
	case v1alpha1.GateStartup:
		return fmt.Sprintf(form, "startupProbe", address, 1<<31-1)
	case v1alpha1.GateReadiness:
		return fmt.Sprintf(form, "readinessProbe", address, 3)
	case v1alpha1.GateNone:
	}
	return ""
}

func (e ReaderEdit) operations(operations []patch.Operation, view *PodView) []patch.Operation {
	at := patch.Pointer("/spec/initContainers")
	if e.Remove {
		operations = append(operations, patch.Remove(at.Index(e.Index)))
	}
	if e.Container != nil {
		// A list that is emptied stays there.
		operations = appendToList(operations, at, len(view.InitContainers) > 0, e.Container)
	}
	return operations
}
