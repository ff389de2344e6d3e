package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// completionTimeout is how long a shell's completion waits for a cluster.
const completionTimeout = 2 * time.Second

// completionLimit is how many names of a kind are offered.
const completionLimit = 500

var (
	// fileFlags take names of files or directories, which shells complete.
	fileFlags = []string{
		"filename", "policies", "service-account", "check", "verdicts", "kubeconfig", "certificate-authority", "client-certificate", "client-key", "cache-dir",
	}
	// targets are what doctor looks at besides policies.
	targets = map[string]string{"pod/": "Pod", "sa/": "ServiceAccount", "ns/": "Namespace"}
)

// complete says what a shell may offer, and that names of files are no guess where none is
// asked for. What a command has registered itself counts.
func (e *environment) complete(root *cobra.Command) {
	register := func(command *cobra.Command) func(*pflag.Flag) {
		return func(f *pflag.Flag) {
			if _, taken := command.GetFlagCompletionFunc(f.Name); !taken && !slices.Contains(fileFlags, f.Name) {
				_ = command.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // the flag is there
			}
		}
	}
	root.PersistentFlags().VisitAll(register(root))
	for _, command := range root.Commands() {
		command.LocalNonPersistentFlags().VisitAll(register(command))
		switch {
		case command.ValidArgsFunction != nil || command.HasSubCommands():
		case slices.Contains([]string{"status", "trust-policy", "doctor"}, command.Name()):
			command.ValidArgsFunction = e.names
		default:
			command.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
}

// names offers policies, and for doctor what else it looks at.
func (e *environment) names(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, directive
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionTimeout)
	defer cancel()
	prefix, _, inside := strings.Cut(typed, "/")
	if kind := targets[prefix+"/"]; inside && command.Name() == "doctor" && kind != "" {
		return e.objects(ctx, prefix+"/", kind), directive
	}
	var offered []string
	if command.Name() == "doctor" {
		offered, directive = []string{"pod/", "sa/", "ns/"}, directive|cobra.ShellCompDirectiveNoSpace
	}
	for _, entry := range e.policiesOf(ctx, command).Entries() {
		offered = append(offered, entry.Name)
	}
	return offered, directive
}

// policiesOf reads the policies that a command line names, else the cluster's; nil where
// there are none to be had.
func (e *environment) policiesOf(ctx context.Context, command *cobra.Command) *policy.Snapshot {
	flags := policyFlags{namespace: defaultSystem}
	for _, name := range []string{"policy-namespace", "webhook-namespace"} {
		if f := command.Flags().Lookup(name); f != nil {
			flags.namespace = f.Value.String()
		}
	}
	flags.files, _ = command.Flags().GetStringSlice("policies") // none is none
	if len(flags.files) > 0 {
		found, _ := flags.read(e) // a shell has no place for errors
		return found
	}
	reader, err := e.quick()
	if err != nil {
		return nil
	}
	found, _ := watch.Read(ctx, reader, flags.namespace, watch.LastGoodName)
	return found
}

// objects offers the names of a kind.
func (e *environment) objects(ctx context.Context, prefix, kind string) []string {
	reader, err := e.quick()
	if err != nil {
		return nil
	}
	options := []client.ListOption{client.Limit(completionLimit)}
	if kind != "Namespace" {
		namespace, _, err := e.flags.ToRawKubeConfigLoader().Namespace()
		if err != nil {
			return nil
		}
		options = append(options, client.InNamespace(namespace))
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind + "List"))
	if reader.List(ctx, list, options...) != nil {
		return nil
	}
	var offered []string
	for i := range list.Items {
		offered = append(offered, prefix+list.Items[i].Name)
	}
	return offered
}

// quick is a client that gives up soon, and asks for nothing but what is offered: it knows
// the kinds without discovery.
func (e *environment) quick() (client.Reader, error) {
	config, err := e.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = completionTimeout
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion})
	for kind, scope := range map[string]meta.RESTScope{
		"ConfigMap": meta.RESTScopeNamespace, "Pod": meta.RESTScopeNamespace, "ServiceAccount": meta.RESTScopeNamespace, "Namespace": meta.RESTScopeRoot,
	} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind(kind), scope)
	}
	return client.New(config, client.Options{Mapper: mapper})
}
