package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/bucket-access/bucket-access-webhook/pkg/installation"
)

// checkCommand is the first argument that asks for the check instead of the webhook.
const checkCommand = "check"

// checkOptions are the flags of the check.
type checkOptions struct {
	kubeconfig, namespace, configuration, policies string
	backstops                                      bool
	timeout                                        time.Duration
}

func (o *checkOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig; empty is $KUBECONFIG, else the Pod's own access")
	f.StringVar(&o.namespace, "namespace", "default", "namespace in which Pods are tried, by server-side dry run; one that the webhook does not leave alone")
	f.StringVar(&o.configuration, "webhook-configuration", name, "name of the webhook configurations and the backstops")
	f.StringVar(&o.policies, "policies", "", "policies that must be in force, with commas between")
	f.BoolVar(&o.backstops, "backstops", false, "whether the policies inside the API server that refuse uninjected Pods must be there")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "time until what is wrong is taken for wrong: an installation takes a moment until it works")
}

const (
	checkRetry = time.Second // between two tries
	// checkCall is more than an API server waits for a webhook, which is 30 s at most.
	checkCall = 35 * time.Second
)

// check tells whether the API server calls the webhook and is answered: 0 when all is
// well, 1 when something is not, 2 when the command line can't be understood. Nothing
// is left behind: Pods are tried by server-side dry run.
func check(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseCheck(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	// What bounds the calls is the time-out, not a rate.
	config, err := restConfig(clusterOptions{kubeconfig: o.kubeconfig, qps: 20, burst: 40})
	if err != nil {
		fmt.Fprintln(stderr, "bucket-access-webhook check:", err)
		return 1
	}
	config.Timeout = checkCall
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		fmt.Fprintln(stderr, "bucket-access-webhook check:", err)
		return 1
	}
	findings := untilWell(ctx, &checker{checkOptions: *o, client: clients})
	return report(stdout, findings)
}

func parseCheck(args []string, stderr io.Writer) (*checkOptions, error) {
	o := &checkOptions{}
	set := flag.NewFlagSet("bucket-access-webhook check", flag.ContinueOnError)
	set.SetOutput(stderr)
	o.bind(set)
	set.Usage = func() {
		fmt.Fprintln(stderr, "bucket-access-webhook check tells whether the API server calls the webhook and is answered. Nothing is left behind.")
		set.PrintDefaults()
	}
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	for _, fault := range []struct {
		is   bool
		text string
	}{
		{set.NArg() > 0, fmt.Sprintf("unexpected argument %q; everything is a flag, see check --help", strings.Join(set.Args(), " "))},
		{o.namespace == "" || o.configuration == "", "--namespace and --webhook-configuration must not be empty"},
		{o.timeout < 0, "--timeout must not be negative; 0 is one try"},
	} {
		if fault.is {
			fmt.Fprintln(stderr, "bucket-access-webhook check: "+fault.text)
			return nil, errUsage
		}
	}
	return o, nil
}

// checker looks at an installation from outside, as a client of the API server.
type checker struct {
	checkOptions
	client kubernetes.Interface
}

// all looks once at everything, in the order in which one thing rests on another.
func (c *checker) all(ctx context.Context) []installation.Finding {
	i := &installation.Installation{Client: c.client, Namespace: c.namespace, Configuration: c.configuration}
	findings := []installation.Finding{i.Mutating(ctx), i.Validating(ctx), i.Call(ctx)}
	answers := !findings[len(findings)-1].Failed()
	for policy := range strings.SplitSeq(c.policies, ",") {
		if policy != "" && answers { // else each would wait for an answer in vain
			findings = append(findings, i.Policy(ctx, policy))
		}
	}
	if c.backstops {
		for _, suffix := range installation.Backstops() {
			findings = append(findings, i.Backstop(ctx, c.configuration+"-"+suffix))
		}
	}
	return findings
}

// untilWell tries until all is well or the time is over.
func untilWell(ctx context.Context, c *checker) []installation.Finding {
	deadline := time.Now().Add(c.timeout)
	for {
		findings := c.all(ctx)
		if !slices.ContainsFunc(findings, installation.Finding.Failed) || time.Now().After(deadline) {
			return findings
		}
		select {
		case <-ctx.Done():
			return findings
		case <-time.After(checkRetry):
		}
	}
}

// report prints the findings line by line, and says what to do about those that failed.
func report(w io.Writer, findings []installation.Finding) int {
	failed := 0
	for _, f := range findings {
		if !f.Failed() {
			fmt.Fprintln(w, "OK   ", f.What)
			continue
		}
		failed++
		fmt.Fprintf(w, "FAIL  %s: %s\n      what to do: %s\n", f.What, f.Why, f.Fix)
	}
	if failed > 0 {
		fmt.Fprintf(w, "%d of %d checks failed.\n", failed, len(findings))
		return 1
	}
	fmt.Fprintf(w, "All %d checks passed.\n", len(findings))
	return 0
}
