package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// renderOptions are the flags of render.
type renderOptions struct {
	files, accounts      []string
	policies             policyFlags
	labels               map[string]string
	excluded             []string
	output               string
	issuer, region       string
	eksAudience          string
	image                string
	imageKnown           bool // the webhook's own Deployment says it
	cpu, memory, ceiling string
	strictNamespace      bool
	verdicts             string
}

const renderExamples = `  # what the webhook would make of a Pod
  kubectl bucket-access render -f pod.yaml --policies policies.yaml

  # a chart, as a check in CI: exit code 1 when a Pod would be refused
  helm template shop ./chart | kubectl bucket-access render -n shop -f - --policies policies/ -o diff

  # against the cluster's policies, in a Namespace as it is labelled there
  kubectl bucket-access render -n shop -f deployment.yaml --from-cluster -o patch`

const renderLong = `render does to manifests what the webhook would do, by the same code: to Pods, to ServiceAccounts, and to the Pod templates of ` +
	`Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs and CronJobs. Everything else goes through as it is, byte for byte. ` +
	`The verdicts go to stderr.

Without --from-cluster no cluster is asked. With it the policies, the labels of Namespaces and ServiceAccounts, the token issuer, the namespaces ` +
	`that the webhook leaves alone and the flags of its Deployment are read; what could not be read is said, and flags that are given count first.

Exit code 1: something would be refused. Exit code 2: something could not be judged.`

func newRender(e *environment) *cobra.Command { return (&renderOptions{}).command(e) }

func (o *renderOptions) command(e *environment) *cobra.Command {
	command := &cobra.Command{
		Use: "render -f FILE", Short: "Show what the webhook would do to Pods and ServiceAccounts", Args: cobra.NoArgs,
		Long:    renderLong,
		Example: renderExamples,
		RunE: func(command *cobra.Command, _ []string) error {
			return o.run(command.Context(), e, command.Flags())
		},
	}
	f := command.Flags()
	f.StringSliceVarP(&o.files, "filename", "f", nil, "file or directory of manifests; - is the standard input")
	o.policies.bind(f)
	f.StringToStringVar(&o.labels, "namespace-labels", nil, "labels of the Namespaces that no manifest describes, like "+v1alpha1.LabelPolicy+"=orders")
	f.StringSliceVar(&o.accounts, "service-account", nil, "file of ServiceAccounts (and Namespaces) that the Pods meet, besides those of --filename")
	f.StringSliceVar(&o.excluded, "exclude-namespaces", []string{"kube-system", "kube-node-lease"}, "namespaces that the webhook leaves alone, besides its own")
	f.StringVarP(&o.output, "output", "o", outputYAML, "yaml, json, patch (RFC 6902 and the verdicts) or diff")
	f.StringVar(&o.verdicts, "verdicts", "", "file that the verdicts are written to, too: Helm keeps a post-renderer's stderr to itself")
	f.BoolVar(&o.strictNamespace, "require-namespace", false, "fail where neither the manifest nor --namespace says the namespace, instead of assuming one")
	f.StringVar(&o.issuer, "issuer", "", "the cluster's token issuer; without one no policy is judged by it")
	f.StringVar(&o.region, "cluster-region", "", "as the webhook's flag; empty is the region inside an EKS token issuer")
	f.StringVar(&o.eksAudience, "eks-audience", v1alpha1.DefaultAudience, "as the webhook's flag")
	f.StringVar(&o.image, "reader-image", "", "as the webhook's flag; without an image no demo reader is added")
	f.StringVar(&o.cpu, "reader-cpu-request", "10m", "as the webhook's flag")
	f.StringVar(&o.memory, "reader-memory-request", "32Mi", "as the webhook's flag")
	f.StringVar(&o.ceiling, "reader-memory-limit", "64Mi", "as the webhook's flag")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(renderOutputs, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return command
}

func (o *renderOptions) run(ctx context.Context, e *environment, flags *pflag.FlagSet) error {
	switch {
	case len(o.files) == 0:
		return required("filename", "-f pod.yaml")
	case !slices.Contains(renderOutputs, o.output):
		return fmt.Errorf("--output is %q; it must be one of %v", o.output, renderOutputs)
	}
	done, err := o.render(ctx, e, flags)
	if err == nil {
		err = e.write(done, o.output)
	}
	said := e.verdicts(done, e.terminal(e.ErrOut))
	if _, failed := io.WriteString(e.ErrOut, said); failed != nil {
		return failed
	}
	if o.verdicts != "" {
		text := e.verdicts(done, terminal{})
		if err != nil {
			text += fmt.Sprintln("error:", printable(err.Error()))
		}
		if failed := os.WriteFile(o.verdicts, []byte(text), 0o600); failed != nil {
			return fmt.Errorf("--verdicts: %w", errors.Join(failed, err))
		}
	}
	if err != nil {
		return err
	}
	return verdictOf(done)
}

// verdictOf is the exit code: what could not be judged weighs more than what is refused.
func verdictOf(done []renderedFile) error {
	var err error
	for _, file := range done {
		for _, document := range file.documents {
			if len(document.faults) > 0 {
				return errUnread
			}
			for _, result := range document.results {
				if result.Kind == decide.Deny {
					err = errFindings
				}
			}
		}
	}
	return err
}

// render judges all files.
func (o *renderOptions) render(ctx context.Context, e *environment, flags *pflag.FlagSet) ([]renderedFile, error) {
	service, around, err := o.service(ctx, e, flags)
	if err != nil {
		return nil, err
	}
	files, err := e.readFiles(o.files)
	if err != nil {
		return nil, err
	}
	if err := o.describe(ctx, e, service, around, files); err != nil {
		return nil, err
	}
	var done []renderedFile
	for _, file := range files {
		one := renderedFile{file: file}
		for _, document := range file.documents {
			one.documents = append(one.documents, o.document(ctx, e, service, document))
		}
		done = append(done, one)
	}
	return done, nil
}

// service is the webhook's own, over policies and surroundings that are given.
func (o *renderOptions) service(ctx context.Context, e *environment, flags *pflag.FlagSet) (*admission.Service, *surroundings, error) {
	policies, err := o.policies.load(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	around := &surroundings{
		facts:    decide.Cluster{Issuer: o.issuer, Region: o.region},
		accounts: map[string]inject.ServiceAccountView{}, namespaces: map[string]decide.Label{}, label: labelOf(o.labels), labelled: len(o.labels) > 0,
	}
	if o.policies.fromCluster {
		reader, err := around.ask(ctx, e)
		if err != nil {
			return nil, nil, err
		}
		o.settle(ctx, e, reader, flags)
		around.facts.Region = o.region
	}
	if !flags.Changed("cluster-region") {
		around.facts.Region = iam.RegionOfIssuer(around.facts.Issuer) // as the webhook does
	}
	reader, err := o.reader()
	if err != nil {
		return nil, nil, err
	}
	return &admission.Service{
		Cluster: around, Policies: snapshot{policies}, Namespace: o.policies.namespace, EKSAudience: o.eksAudience, Reader: reader,
	}, around, nil
}

func (o *renderOptions) reader() (inject.ReaderSettings, error) {
	quantities := map[string]resource.Quantity{}
	for name, text := range map[string]string{"reader-cpu-request": o.cpu, "reader-memory-request": o.memory, "reader-memory-limit": o.ceiling} {
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			return inject.ReaderSettings{}, fmt.Errorf("--%s is %q; it must be a quantity like 10m or 64Mi", name, text)
		}
		quantities[name] = quantity
	}
	limit := quantities["reader-memory-limit"]
	resources, err := json.Marshal(map[string]map[string]resource.Quantity{
		"requests": {"cpu": quantities["reader-cpu-request"], "memory": quantities["reader-memory-request"]}, "limits": {"memory": limit},
	})
	return inject.ReaderSettings{Image: o.image, Resources: resources, MemoryLimit: limit.Value()}, err
}
