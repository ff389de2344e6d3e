package inject

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// selection says which containers of a Pod are injected.
type selection struct {
	skip, include []string
	onlyIncluded  bool
}

// selectContainers reads the three annotations. EKS's own webhook reads its list
// as one CSV record without trimming and skips nothing where that fails; so do we,
// because a container that one of the two skips and the other injects is the worst
// result, and say what looks like a slip.
func selectContainers(pod *PodView) (selection, []Warning) {
	var s selection
	var warnings []Warning
	read := func(annotation, text string) []string {
		if text == "" {
			return nil
		}
		names, err := csv.NewReader(strings.NewReader(text)).Read()
		if err != nil {
			warnings = append(warnings, Warning{WarnContainerNames, fmt.Sprintf(
				"annotation %s is no CSV and is ignored; write container names separated by commas", annotation)})
			return nil
		}
		if unknown := unknownNames(pod, names); len(unknown) > 0 {
			warnings = append(warnings, Warning{WarnContainerNames, fmt.Sprintf(
				"annotation %s: no container is named %s; names are separated by commas without spaces", annotation, strings.Join(unknown, ", "))})
		}
		return names
	}
	s.skip = append(read(v1alpha1.EKSAnnotationSkipContainers, pod.EKSSkipContainers),
		read(v1alpha1.AnnotationSkipContainers, pod.SkipContainers)...)
	if pod.IncludeContainers.Set {
		s.onlyIncluded = true
		s.include = read(v1alpha1.AnnotationIncludeContainers, pod.IncludeContainers.Value)
	}
	return s, warnings
}

func (s selection) selects(name string) bool {
	if slices.Contains(s.skip, name) {
		return false
	}
	return !s.onlyIncluded || slices.Contains(s.include, name)
}

// unknownNames returns, quoted, the names that no container has. At most three:
// the list is the user's own and may be long.
func unknownNames(pod *PodView, names []string) []string {
	var unknown []string
	for _, name := range names {
		known := func(c Container) bool { return c.Name == name }
		if !slices.ContainsFunc(pod.Containers, known) && !slices.ContainsFunc(pod.InitContainers, known) &&
			!slices.ContainsFunc(pod.EphemeralContainers, known) {
			unknown = append(unknown, fmt.Sprintf("%.70q", name))
		}
	}
	if len(unknown) > 3 {
		unknown = append(unknown[:3], fmt.Sprintf("and %d more", len(unknown)-3))
	}
	return unknown
}
