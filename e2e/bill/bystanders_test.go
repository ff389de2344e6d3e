package bill

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkBystanders tells what a Pod that asks for nothing costs in mode Policy, beside a cluster
// without us: in a namespace where no ServiceAccount is labelled, and where some are, as API servers
// compare a Pod with each of these. What is to be seen is a tenth, and two things are larger: the
// machine's own noise, which comes and goes, and that API servers collect garbage now and then, for
// as much as 50 Pods cost. So the two take turns from Pod to Pod, many times (BYSTANDER_ROUNDS).
func BenchmarkBystanders(b *testing.B) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("BYSTANDER_ROUNDS"), "20"))
	must(b, err)
	sites := map[string]*site{"without": newSite(b, "without"), "default": newSite(b, "default")}
	labelled := []int{0, 1, 10, mostLabelled}
	for _, s := range sites {
		for _, n := range labelled {
			s.namespace(b, n)
		}
	}
	atRest(b, sites)
	for _, containers := range []int{1, 3, 20} {
		for _, n := range labelled {
			b.Run(fmt.Sprintf("%d-containers/%d-labelled", containers, n), func(b *testing.B) {
				w := way{namespace: namespaceOf(n), account: "api-sa", containers: containers, pods: 900 / (2 + containers)}
				w.name = fmt.Sprintf("%d containers, %d labelled ServiceAccounts", containers, n)
				w.turns(b, sites["without"], sites["default"], rounds)
			})
		}
	}
}

const mostLabelled = 100

func namespaceOf(labelled int) string { return fmt.Sprintf("with-%d", labelled) }

// namespace makes one with so many labelled ServiceAccounts beside the one that Pods have.
func (s *site) namespace(tb testing.TB, labelled int) {
	tb.Helper()
	name := namespaceOf(labelled)
	_, err := s.clients.CoreV1().Namespaces().Create(tb.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(tb, err)
	accounts := []metav1.ObjectMeta{{Name: "api-sa"}}
	for i := range labelled {
		accounts = append(accounts, metav1.ObjectMeta{Name: fmt.Sprintf("labelled-%d", i), Labels: map[string]string{labelPolicy: "orders"}})
	}
	for _, meta := range accounts {
		_, err := s.clients.CoreV1().ServiceAccounts(name).Create(tb.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
		must(tb, err)
	}
}

// turns creates Pods in the one and the other cluster by turns, and compares what that cost.
func (w way) turns(b *testing.B, without, with *site, rounds int) {
	b.Helper()
	var total [2]cost
	var ratios []float64
	for round := range rounds + 1 {
		costs := w.measureBoth(b, [2]*site{without, with}, strconv.Itoa(round))
		if round == 0 { // warms caches up
			continue
		}
		for i := range total {
			total[i] = total[i].plus(costs[i])
		}
		ratios = append(ratios, float64(costs[1].server+costs[1].webhook)/float64(costs[0].server))
	}
	mean := func(d time.Duration) time.Duration { return (d / time.Duration(rounds)).Round(time.Microsecond) }
	slices.Sort(ratios)
	ratio, low, high := middle(ratios)
	b.ReportMetric(ratio, "times")
	tell("%s, %d Pods each: %s of CPU each without us; with us %s, and %s of the webhook's: %.2f times (median of %d rounds; 95 %%: %.2f to %.2f)",
		w.name, rounds*w.pods, mean(total[0].server), mean(total[1].server), mean(total[1].webhook), ratio, rounds, low, high)
}

func (w way) measureBoth(tb testing.TB, sites [2]*site, id string) (costs [2]cost) {
	tb.Helper()
	time.Sleep(settles)
	var used [2]func() cost
	for i, s := range sites {
		server, webhook := s.server.since(tb), s.webhook.since(tb)
		used[i] = func() cost {
			return cost{server: server() / time.Duration(w.pods), webhook: webhook() / time.Duration(w.pods)}
		}
	}
	for i := range w.pods {
		for turn := range sites {
			made, err := sites[(i+turn)%2].clients.CoreV1().Pods(w.namespace).Create(tb.Context(), w.pod(fmt.Sprintf("%s-%d", id, i)), metav1.CreateOptions{})
			must(tb, err)
			if _, injected := made.Labels["bucket-access.io/injected"]; injected {
				tb.Fatalf("%s: it is no bystander", w.name)
			}
		}
	}
	time.Sleep(settles)
	for i := range sites {
		costs[i] = used[i]()
	}
	for _, s := range sites {
		w.remove(tb, s)
	}
	return costs
}

// middle of sorted values is their median, and between which two of them the median of all that
// could be measured lies, 95 times of 100, however they are distributed: a round in which the machine
// stood still, or an API server compacted, moves neither much.
func middle(sorted []float64) (median, low, high float64) {
	n := len(sorted)
	median = (sorted[(n-1)/2] + sorted[n/2]) / 2
	rank := (float64(n) - 1.96*math.Sqrt(float64(n))) / 2 // by the binomial distribution's normal one
	at := max(int(math.Floor(rank)), 0)
	return median, sorted[at], sorted[n-1-at]
}
