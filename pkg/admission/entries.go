package admission

// Entry is one entry of the webhook configurations, each with a path of its own:
// the entry that was called says what the API server saw.
type Entry string

// The entries.
const (
	Pods                Entry = "pods"
	NamespacedPods      Entry = "namespaced-pods"
	ServiceAccountPods  Entry = "serviceaccount-pods"
	EphemeralContainers Entry = "ephemeral-containers"
	ServiceAccounts     Entry = "serviceaccounts"
	Policies            Entry = "policies"
	Workloads           Entry = "workloads"
	NamespacedWorkloads Entry = "namespaced-workloads"
	Namespaces          Entry = "namespaces"
)

// Entries lists all of them, the closed set of the metric's label.
func Entries() []Entry {
	return []Entry{Pods, NamespacedPods, ServiceAccountPods, EphemeralContainers, ServiceAccounts, Policies, Workloads, NamespacedWorkloads, Namespaces}
}

// Path is the URL path that serves the entry.
func (e Entry) Path() string {
	switch e {
	case Policies, Workloads, NamespacedWorkloads, Namespaces:
		return "/validate/" + string(e)
	default:
		return "/mutate/" + string(e)
	}
}
