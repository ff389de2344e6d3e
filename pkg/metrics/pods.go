package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// PodState is how a running Pod stands to a policy.
type PodState string

// The states of a running Pod.
const (
	PodsCurrent    PodState = "current"    // has what the policy says
	PodsOutdated   PodState = "outdated"   // has what the policy said before
	PodsUninjected PodState = "uninjected" // would be injected if it were created now
	PodsRevoked    PodState = "revoked"    // its subject is no longer listed, or the policy is gone
)

// PodStates lists every state.
func PodStates() []PodState {
	return []PodState{PodsCurrent, PodsOutdated, PodsUninjected, PodsRevoked}
}

// PodCounts are numbers of Pods by policy and state. Policies that are gone are counted
// together as none, which is no policy's name: so there are no more than there are policies.
type PodCounts map[string]map[PodState]int

// Add counts more Pods.
func (c PodCounts) Add(policy string, state PodState, pods int) {
	if c[policy] == nil {
		c[policy] = map[PodState]int{}
	}
	c[policy][state] += pods
}

// pods keeps the gauge, and knows of which policies it has values.
type pods struct {
	mu    sync.Mutex
	gauge *prometheus.GaugeVec
	told  map[string]bool
}

func newPods() *pods {
	p := &pods{told: map[string]bool{}, gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "pods",
		Help: "Pods that have not ended, by policy (none for all that are gone) and how they stand to it; told by the leader.",
	}, []string{"policy", "state"})}
	p.gauge.WithLabelValues(v1alpha1.PolicyNone, string(PodsRevoked))
	return p
}

// Pods sets the numbers of Pods. A policy that has none any more is forgotten.
func (r *Recorder) Pods(counts PodCounts) {
	p := r.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	for policy := range p.told {
		if _, still := counts[policy]; !still {
			p.gauge.DeletePartialMatch(prometheus.Labels{"policy": policy})
			delete(p.told, policy)
		}
	}
	for policy, states := range counts {
		p.told[policy] = true
		for _, state := range PodStates() {
			if policy != v1alpha1.PolicyNone || state == PodsRevoked {
				p.gauge.WithLabelValues(policy, string(state)).Set(float64(states[state]))
			}
		}
	}
	p.gauge.WithLabelValues(v1alpha1.PolicyNone, string(PodsRevoked)).Set(float64(counts[v1alpha1.PolicyNone][PodsRevoked]))
}
