package inject

import (
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// selection says which containers of a Pod are injected.
type selection struct {
	skip, include map[string]bool
	onlyIncluded  bool
}

// selectContainers reads the three annotations. EKS's own webhook reads its list
// as one CSV record without trimming and skips nothing where that fails; so do we,
// because a container that one of the two skips and the other injects is the worst
// result, and say what looks like a slip.
func selectContainers(pod *PodView) (selection, []Warning) {
	s := selection{skip: map[string]bool{}, include: map[string]bool{}, onlyIncluded: pod.IncludeContainers.Set}
	var warnings []Warning
	for _, list := range []struct {
		annotation, text string
		into             map[string]bool
	}{
		{v1alpha1.EKSAnnotationSkipContainers, pod.EKSSkipContainers, s.skip},
		{v1alpha1.AnnotationSkipContainers, pod.SkipContainers, s.skip},
		{v1alpha1.AnnotationIncludeContainers, pod.IncludeContainers.Value, s.include},
	} {
		if list.text == "" {
			continue
		}
		names, err := csv.NewReader(strings.NewReader(list.text)).Read()
		if err != nil {
			warnings = append(warnings, Warning{WarnContainerNames, fmt.Sprintf(
				"annotation %s is no CSV and is ignored; write container names separated by commas", list.annotation)})
			continue
		}
		for _, name := range names {
			list.into[name] = true
		}
		if unknown := unknownNames(pod, names); unknown != "" {
			warnings = append(warnings, Warning{WarnContainerNames, fmt.Sprintf(
				"annotation %s: no container is named %s; names are separated by commas without spaces", list.annotation, unknown)})
		}
	}
	return s, warnings
}

func (s selection) selects(name string) bool {
	return !s.skip[name] && (!s.onlyIncluded || s.include[name])
}

// unknownNames joins, quoted, the names that no container has. At most three: the
// list is the user's own and may be long.
func unknownNames(pod *PodView, names []string) string {
	known := map[string]bool{}
	for _, list := range [][]Container{pod.InitContainers, pod.Containers, pod.EphemeralContainers} {
		for i := range list {
			known[list[i].Name] = true
		}
	}
	var unknown []string
	for _, name := range names {
		if !known[name] {
			unknown = append(unknown, fmt.Sprintf("%.70q", name))
		}
	}
	if len(unknown) > 3 {
		unknown = append(unknown[:3], fmt.Sprintf("and %d more", len(unknown)-3))
	}
	return strings.Join(unknown, ", ")
}
