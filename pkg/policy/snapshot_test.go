package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	broken = strings.Replace(minimal, "orders-data", "Orders_Data", 1)
	second = strings.Replace(minimal, "orders-data", "orders-second", 1)
	epoch  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// at is one ConfigMap with the policy orders at a version.
func at(version uint64, document string) []ConfigMap {
	return []ConfigMap{{Namespace: "ns", Name: "policies", UID: "uid-1", Created: epoch, Version: version, Data: map[string]string{"orders": document}}}
}

func bucketOf(t *testing.T, s *Snapshot, name string) string {
	t.Helper()
	entry, known := s.Lookup(name)
	switch {
	case !known:
		return "unknown"
	case entry.Policy == nil:
		return "invalid"
	}
	return entry.Policy.Bucket
}

func TestABrokenEntryKeepsItsLastGoodVersion(t *testing.T) {
	first := Build(at(1, minimal), nil, nil)
	next := Build(at(2, broken), nil, first)
	if got := bucketOf(t, next, "orders"); got != "orders-data" {
		t.Fatalf("in force: %s", got)
	}
	if entry, _ := next.Lookup("orders"); !entry.LastGood() || len(entry.Errors) == 0 {
		t.Fatal("the errors are not reported")
	}
	again := Build(at(3, broken+"# still\n"), nil, next)
	if got := bucketOf(t, again, "orders"); got != "orders-data" {
		t.Fatalf("in force after a second bad edit: %s", got)
	}
	mended := Build(at(4, second), nil, again)
	if got := bucketOf(t, mended, "orders"); got != "orders-second" || len(mended.Records()) > 0 {
		t.Fatalf("in force after mending: %s, records %v", got, mended.Records())
	}
}

func TestARestartedReplicaReadsTheLastGoodVersion(t *testing.T) {
	veteran := Build(at(2, broken), nil, Build(at(1, minimal), nil, nil))
	records := veteran.Records()
	restarted := Build(at(2, broken), records, nil)
	if got := bucketOf(t, restarted, "orders"); got != "orders-data" {
		t.Fatalf("in force: %s", got)
	}
	if without := Build(at(2, broken), nil, nil); bucketOf(t, without, "orders") != "invalid" {
		t.Fatal("a bad entry that was never good is in force")
	}
}

func TestTheYoungerGoodVersionCounts(t *testing.T) {
	// The cluster still remembers the version before the last: its record is stale.
	stale := Build(at(2, broken), nil, Build(at(1, minimal), nil, nil)).Records()
	now := Build(at(4, broken), stale, Build(at(3, second), stale, nil))
	if got := bucketOf(t, now, "orders"); got != "orders-second" {
		t.Fatalf("in force: %s", got)
	}
	// And the other way round: this replica missed the version that the cluster knows.
	fresh := now.Records()
	missed := Build(at(4, broken), fresh, Build(at(1, minimal), nil, nil))
	if got := bucketOf(t, missed, "orders"); got != "orders-second" {
		t.Fatalf("in force where a version was missed: %s", got)
	}
}

func TestADeletedPolicyIsGone(t *testing.T) {
	first := Build(at(1, minimal), nil, nil)
	if got := bucketOf(t, Build(nil, nil, first), "orders"); got != "unknown" {
		t.Fatalf("in force: %s", got)
	}
	records := Build(at(2, broken), nil, first).Records()
	recreated := at(5, broken)
	recreated[0].UID = "uid-2"
	if got := bucketOf(t, Build(recreated, records, first), "orders"); got != "invalid" {
		t.Fatalf("another ConfigMap of that name inherited: %s", got)
	}
}

func TestABadEntryHarmsNoOther(t *testing.T) {
	configMap := at(1, minimal)
	configMap[0].Data["bad"], configMap[0].Data["none"] = "[", minimal
	configMap[0].BinaryKeys = []string{"binary"}
	s := Build(configMap, nil, nil)
	if bucketOf(t, s, "orders") != "orders-data" || bucketOf(t, s, "bad") != "invalid" || len(s.Problems()) != 2 {
		t.Fatalf("%v", s.Problems())
	}
}

func TestOfTwoThatDefineANameTheOlderWins(t *testing.T) {
	older := ConfigMap{Name: "z", UID: "old", Created: epoch, Data: map[string]string{"orders": minimal}}
	younger := ConfigMap{Name: "a", UID: "young", Created: epoch.Add(time.Second), Data: map[string]string{"orders.yaml": second}}
	for _, order := range [][]ConfigMap{{older, younger}, {younger, older}} {
		s := Build(order, nil, nil)
		if bucketOf(t, s, "orders") != "orders-data" || len(s.Problems()) != 1 || !s.Problems()[0].Duplicate || s.Problems()[0].Source.Name != "a" {
			t.Fatalf("%v", s.Problems())
		}
	}
	// Breaking the older one does not hand the name over: its last good version counts.
	bad := older
	bad.Data = map[string]string{"orders": broken}
	good := Build([]ConfigMap{older, younger}, nil, nil)
	if got := bucketOf(t, Build([]ConfigMap{bad, younger}, nil, good), "orders"); got != "orders-data" {
		t.Fatalf("in force: %s", got)
	}
	// One that was never good does not take a name away from one that is.
	for _, before := range []*Snapshot{nil, Build([]ConfigMap{younger}, nil, nil)} {
		s := Build([]ConfigMap{bad, younger}, nil, before)
		if got := bucketOf(t, s, "orders"); got != "orders-second" || len(s.Problems()) != 1 || s.Problems()[0].Source.Name != "z" {
			t.Fatalf("in force: %s, %v", got, s.Problems())
		}
	}
}

func TestUnchangedPoliciesAreNotParsedAgain(t *testing.T) {
	first := Build(at(1, minimal), nil, nil)
	next := Build(at(2, minimal), nil, first)
	a, _ := first.Lookup("orders")
	b, _ := next.Lookup("orders")
	if a.Policy != b.Policy {
		t.Fatal("parsed again")
	}
}

// many are n policies in ConfigMaps of 500, as their 1 MiB allows.
func many(n int) []ConfigMap {
	var configMaps []ConfigMap
	for i := range n {
		if i%500 == 0 {
			name := fmt.Sprintf("policies-%d", i/500)
			configMaps = append(configMaps, ConfigMap{Name: name, UID: name, Created: epoch, Version: 1, Data: map[string]string{}})
		}
		configMaps[len(configMaps)-1].Data[fmt.Sprintf("policy-%d.yaml", i)] = minimal
	}
	return configMaps
}

func TestTenThousandPoliciesAreAllInForce(t *testing.T) {
	if s := Build(many(10_000), nil, nil); len(s.Entries()) != 10_000 || bucketOf(t, s, "policy-9999") != "orders-data" {
		t.Fatalf("%d entries", len(s.Entries()))
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, errs := Parse("orders", minimal); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}

func BenchmarkLoad10000(b *testing.B) {
	configMaps := many(10_000)
	for b.Loop() {
		Build(configMaps, nil, nil)
	}
}

// BenchmarkChangeOneOf10000 is what an edit costs: one document is parsed.
func BenchmarkChangeOneOf10000(b *testing.B) {
	configMaps := many(10_000)
	before := Build(configMaps, nil, nil)
	for i := 0; b.Loop(); i++ {
		configMaps[3].Data["policy-1500.yaml"] = fmt.Sprintf("%s# %d\n", minimal, i)
		before = Build(configMaps, nil, before)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := Build(many(n), nil, nil)
			for b.Loop() {
				if _, known := s.Lookup("policy-7"); !known {
					b.Fatal("not found")
				}
			}
		})
	}
}
