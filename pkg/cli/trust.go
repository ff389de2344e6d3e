package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// Parts of what Account B needs, besides the trust policy itself.
const (
	partProvider    = "provider"
	partRole        = "role"
	partPermissions = "permissions"
	partBucket      = "bucket-policy"
)

var (
	trustParts   = []string{partProvider, partRole, partPermissions, partBucket}
	trustOutputs = []string{outputJSON, outputTerraform, outputAWS}
)

const trustExamples = `  # the trust policy of the role in the bucket's account, for one cluster
  kubectl bucket-access trust-policy orders --policies policies.yaml --issuer https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2

  # all that the account needs, for two clusters: this one and another
  kubectl bucket-access trust-policy orders --from-cluster --issuer https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2 \
    -o terraform --with provider,role,permissions,bucket-policy

  # why does STS refuse the Pods' tokens? The role's trust policy as it is now
  kubectl bucket-access trust-policy orders --from-cluster --live
  aws iam get-role --role-name s3-reader-role --query Role.AssumeRolePolicyDocument | \
    kubectl bucket-access trust-policy orders --from-cluster --check -`

// trustOptions are the flags of trust-policy.
type trustOptions struct {
	name     string
	policies policyFlags
	issuers  []string
	output   string
	with     []string
	check    string
	live     bool
}

// account is what Account B is made from: a policy and the clusters' issuers.
type account struct {
	*policy.Policy

	issuers []string
	trust   iam.Document
	with    []string
	sharing []*policy.Policy // the other policies with the same role
}

func (a *account) has(part string) bool { return slices.Contains(a.with, part) }

func newTrustPolicy(e *environment) *cobra.Command {
	o := &trustOptions{}
	command := &cobra.Command{
		Use: "trust-policy POLICY", Short: "Generate what the bucket's account needs, or check what it has", Args: exactlyOnePolicy,
		Long: "trust-policy prints the trust policy of the policy's role for the clusters whose token issuers are given, and with --with all else\n" +
			"that the bucket's account needs: OIDC provider, role, its permissions, and the bucket's policy (which is needed only where the bucket\n" +
			"is in another account than the role). With --check or --live it judges a trust policy that is there, as IAM does, and explains each\n" +
			"difference. Exit code 1: that trust policy is wrong.",
		Example: trustExamples,
		RunE: func(command *cobra.Command, args []string) error {
			o.name = args[0]
			return o.run(command.Context(), e)
		},
	}
	f := command.Flags()
	o.policies.bind(f)
	f.StringSliceVar(&o.issuers, "issuer", nil, "token issuer of a cluster; may be repeated. Without one the policy's own, or with --from-cluster the cluster's")
	f.StringVarP(&o.output, "output", "o", "", "json (the default), terraform or aws-cli; of --check and --live table (the default), json or yaml")
	f.StringSliceVar(&o.with, "with", nil, "what to print besides: "+strings.Join(trustParts, ",")+" (all but the last where terraform or aws-cli is printed)")
	f.StringVar(&o.check, "check", "", "file of a trust policy to check; - is the standard input")
	f.BoolVar(&o.live, "live", false, "check the role's trust policy as iam:GetRole gives it; credentials come from the AWS SDK's default chain")
	command.MarkFlagsMutuallyExclusive("check", "live")
	command.MarkFlagsMutuallyExclusive("check", "with")
	command.MarkFlagsMutuallyExclusive("live", "with")
	for name, choices := range map[string][]string{"output": append(slices.Clone(trustOutputs), outputTable, outputYAML), "with": trustParts} {
		_ = command.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	}
	return command
}

// exactlyOnePolicy says what is to be given.
func exactlyOnePolicy(command *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give the name of one policy, like: %s orders; found %d arguments", command.CommandPath(), len(args))
	}
	return nil
}

func (o *trustOptions) run(ctx context.Context, e *environment) error {
	if err := o.settle(); err != nil {
		return err
	}
	a, err := o.account(ctx, e)
	if err != nil {
		return err
	}
	switch {
	case o.live:
		text, where, err := a.live(ctx)
		if err != nil {
			return err
		}
		return e.judge(a, where, text, o.output)
	case o.check != "":
		files, err := e.readFiles([]string{o.check})
		if err != nil {
			return err
		}
		if len(files) != 1 {
			return fmt.Errorf("--check takes one file, and %s is a directory", o.check)
		}
		return e.judge(a, files[0].name, files[0].text, o.output)
	case o.output == outputTerraform:
		_, err = e.Out.Write(a.terraform())
	case o.output == outputAWS:
		_, err = e.Out.Write(a.awsCLI())
	default:
		err = a.writeJSON(e)
	}
	if size := a.trust.Size(); err == nil && size > iam.TrustPolicyQuota {
		fmt.Fprintf(e.ErrOut, "%sthe trust policy has %d characters without white space, and IAM's default quota is %d: let a pattern stand for several subjects, "+
			"use a second role, or ask AWS to raise the quota\n", e.terminal(e.ErrOut).mark(warn), size, iam.TrustPolicyQuota)
	}
	return err
}

// settle fills in what follows from the other flags, and refuses what does not go together.
func (o *trustOptions) settle() error {
	allowed := trustOutputs
	if o.live || o.check != "" {
		allowed = findingOutputs
	}
	if o.output == "" {
		o.output = allowed[0]
	}
	if !slices.Contains(allowed, o.output) {
		return fmt.Errorf("--output is %q; it must be one of %v here", o.output, allowed)
	}
	for _, part := range o.with {
		if !slices.Contains(trustParts, part) {
			return fmt.Errorf("--with holds %q; it takes %v", part, trustParts)
		}
	}
	if len(o.with) == 0 && o.output != outputJSON {
		o.with = []string{partProvider, partRole, partPermissions}
	}
	if o.output == outputTerraform && !slices.Contains(o.with, partRole) {
		return errors.New("-o terraform needs the role in --with: the trust policy is a part of it")
	}
	return nil
}

func (o *trustOptions) account(ctx context.Context, e *environment) (*account, error) {
	snapshot, err := o.policies.load(ctx, e)
	if err != nil {
		return nil, err
	}
	entry, known := snapshot.Lookup(o.name)
	switch {
	case !known:
		var names []string
		for _, entry := range snapshot.Entries() {
			names = append(names, entry.Name)
		}
		return nil, fmt.Errorf("there is no policy %q; there are: %s", o.name, strings.Join(names, ", "))
	case entry.Policy == nil:
		return nil, fmt.Errorf("policy %q is invalid; see all errors with kubectl bucket-access validate:\n%w", o.name, entry.Errors.ToAggregate())
	case entry.LastGood():
		fmt.Fprintf(e.ErrOut, "%spolicy %q is invalid as it stands; this is its last good version, which is in force\n", e.terminal(e.ErrOut).mark(warn), o.name)
	}
	a := &account{Policy: entry.Policy, issuers: o.issuers, with: o.with, sharing: snapshot.OfRole(entry.Policy.Role)}
	a.sharing = slices.DeleteFunc(a.sharing, func(p *policy.Policy) bool { return p.Name == a.Name })
	a.warnShared(e)
	if o.policies.fromCluster {
		_, clients, err := e.cluster()
		if err != nil {
			return nil, err
		}
		own, err := watch.ReadIssuer(ctx, clients.CoreV1().RESTClient())
		if err != nil {
			return nil, err
		}
		a.issuers = append(a.issuers, own)
	}
	if len(a.issuers) == 0 && a.Issuer != "" {
		a.issuers = []string{a.Issuer}
	}
	if len(a.issuers) == 0 {
		return nil, errors.New("no issuer: give --issuer URL (as the cluster's /.well-known/openid-configuration says), or --from-cluster")
	}
	slices.Sort(a.issuers)
	a.issuers = slices.Compact(a.issuers)
	a.trust, err = a.TrustPolicy(a.issuers...)
	return a, err
}
