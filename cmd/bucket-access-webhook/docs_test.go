package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
)

// TestTheReadmeIsInStep: its tables name every flag, reason, entry, variable and metric.
func TestTheReadmeIsInStep(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	has := func(kind, name string) {
		if !bytes.Contains(text, []byte("`"+name+"`")) {
			t.Errorf("README names no %s %s", kind, name)
		}
	}
	set := flag.NewFlagSet("", flag.ContinueOnError)
	for _, g := range (&options{}).groups() {
		g.bind(set)
	}
	set.VisitAll(func(f *flag.Flag) { has("flag", "--"+f.Name) })
	checks := flag.NewFlagSet("", flag.ContinueOnError)
	(&checkOptions{}).bind(checks)
	checks.VisitAll(func(f *flag.Flag) { has("flag of check", "--"+f.Name) })
	for _, reason := range decide.Reasons() {
		has("reason", string(reason))
	}
	for _, reason := range inject.WarningReasons() {
		has("warning", string(reason))
	}
	for _, entry := range admission.Entries() {
		has("entry", string(entry))
	}
	for _, name := range v1alpha1.InjectedEnv() {
		has("variable", name)
	}
	registry := prometheus.NewRegistry()
	metrics.New(registry)
	families, err := registry.Gather()
	if err != nil || len(families) == 0 {
		t.Fatal(families, err)
	}
	for _, family := range families {
		has("metric", family.GetName())
	}
}

func TestTheCommandLine(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"help":                {[]string{"--help"}, 0, "Availability:"},
		"version":             {[]string{"--version"}, 0, ""},
		"an unknown flag":     {[]string{"--colour"}, 2, "flag provided but not defined: -colour"},
		"no namespace":        {[]string{"--namespace="}, 2, "--namespace is missing"},
		"an argument":         {[]string{"--namespace=x", "serve"}, 2, `unexpected argument "serve"`},
		"an old TLS version":  {[]string{"--namespace=x", "--tls-min-version=1.0"}, 2, "must be 1.2 or 1.3"},
		"limits that clash":   {[]string{"--namespace=x", "--max-in-flight-bytes=1"}, 2, "must not be less than --max-request-bytes"},
		"a lease that ends":   {[]string{"--namespace=x", "--leader-election-lease-duration=1s"}, 2, "must be more than"},
		"no quantity":         {[]string{"--namespace=x", "--reader-memory-limit=much"}, 2, `--reader-memory-limit is "much"; it must be a positive quantity`},
		"a request too large": {[]string{"--namespace=x", "--reader-memory-request=1Gi"}, 2, "must not be more than --reader-memory-limit"},
		"no such source":      {[]string{"--namespace=x", "--certificates=magic"}, 2, `--certificates is "magic"; it must be files or managed`},
		"a CA for a CA":       {[]string{"--namespace=x", "--certificates=managed", "--ca-name=ca.crt"}, 2, "it is for --certificates=files only"},
		"a short certificate": {[]string{"--namespace=x", "--certificate-duration=10s"}, 2, "must be at least six times --certificate-settle"},
		"a short CA":          {[]string{"--namespace=x", "--ca-duration=24h"}, 2, "must be at least three times --certificate-duration"},
		"no kubeconfig there": {[]string{"--namespace=x", "--kubeconfig=/nowhere"}, 1, "no access to a cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := run(t.Context(), test.args, io.Discard, &stderr); code != test.code || !strings.Contains(stderr.String(), test.want) {
				t.Fatalf("code %d: %s", code, stderr.String())
			}
		})
	}
}

// TestEveryRightStandsInTheSecurityDocument, and no other.
func TestEveryRightStandsInTheSecurityDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	code := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || cells[1] != " `ClusterRole` " && cells[1] != " `Role` " {
			continue
		}
		for _, verb := range code.FindAllStringSubmatch(cells[3], -1) {
			documented = append(documented, strings.Trim(cells[1], " `")+" "+strings.Trim(cells[2], " `")+" "+verb[1])
		}
	}
	manifest, err := os.ReadFile("../../manifests/default/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var given []string
	for _, document := range strings.Split(string(manifest), "\n---\n") {
		var role rbacv1.ClusterRole // a Role has the same rules
		if err := yaml.Unmarshal([]byte(document), &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				for _, url := range rule.NonResourceURLs {
					given = append(given, role.Kind+" "+url+" "+verb)
				}
				for _, resource := range rule.Resources {
					if len(rule.ResourceNames) == 1 && role.Kind == "Role" {
						resource += "/" + rule.ResourceNames[0]
					}
					given = append(given, role.Kind+" "+resource+" "+verb)
				}
			}
		}
	}
	slices.Sort(documented)
	slices.Sort(given)
	if len(given) < 20 {
		t.Fatalf("only %d rights were read", len(given))
	}
	if diff := cmp.Diff(given, documented); diff != "" {
		t.Errorf("rights that are given (-) and documented (+):\n%s", diff)
	}
}
