package inject

import (
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// WarningReason is the short form of an admission warning: a closed set.
type WarningReason string

// The reasons of warnings.
const (
	WarnKeptPreference    WarningReason = "KeptPreference"
	WarnContainerNames    WarningReason = "ContainerNames"
	WarnNoContainer       WarningReason = "NoContainer"
	WarnPodIdentity       WarningReason = "PodIdentity"
	WarnStaticCredentials WarningReason = "StaticCredentials"
	WarnDebugContainer    WarningReason = "DebugContainer"
	WarnRequestUnmet      WarningReason = "RequestUnmet"
	WarnPolicy            WarningReason = "Policy"
	WarnReader            WarningReason = "Reader"
	WarnMisplacedLabel    WarningReason = "MisplacedLabel"
	WarnPodsPredate       WarningReason = "PodsPredate"
)

// WarningReasons lists every reason, the closed set of the metric's label.
func WarningReasons() []WarningReason {
	return []WarningReason{
		WarnKeptPreference, WarnContainerNames, WarnNoContainer, WarnPodIdentity, WarnStaticCredentials, WarnDebugContainer,
		WarnRequestUnmet, WarnPolicy, WarnReader, WarnMisplacedLabel, WarnPodsPredate,
	}
}

// Warning is one sentence for the person whose request goes through.
type Warning struct {
	Reason WarningReason
	Text   string
}

// conflict is a reason why a policy can't be put in force.
type conflict struct {
	reason decide.Reason
	text   string
}

// findings collects what was noticed on the way. All conflicts are found, not only
// the first, in the order of the Pod's lists.
type findings struct {
	conflicts []conflict
	warnings  []Warning
}

func (f *findings) conflict(reason decide.Reason, text string) {
	f.conflicts = append(f.conflicts, conflict{reason, text})
}

func (f *findings) warn(reason WarningReason, text string) {
	f.warnings = append(f.warnings, Warning{reason, text})
}

// maxConflicts bounds the sentence: a Pod may have hundreds of containers.
const maxConflicts = 8

// refusal is the reason of the first conflict and the sentence of all.
func (f *findings) refusal() (decide.Reason, string) {
	texts := make([]string, 0, len(f.conflicts))
	for i, c := range f.conflicts {
		if i == maxConflicts {
			texts = append(texts, "and more of the same")
			break
		}
		texts = append(texts, c.text)
	}
	return f.conflicts[0].reason, strings.Join(texts, "; ")
}
