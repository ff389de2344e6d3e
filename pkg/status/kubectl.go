package status

import (
	"regexp"
	"slices"
	"strings"
)

// Kubectl makes the commands that are printed. They go to the cluster and to the
// installation that were looked at; the zero value is for the kubeconfig's own context.
type Kubectl struct {
	Flags  []string // of the connection, like --context=prod
	Plugin []string // of kubectl bucket-access besides, like --webhook-namespace=other
}

// Command is one of kubectl. Flags become words of a shell; the rest are as they are.
func (k Kubectl) Command(words ...string) string {
	return strings.Join(slices.Concat([]string{"kubectl"}, shell(k.Flags), words), " ")
}

// In is a command in a namespace.
func (k Kubectl) In(namespace string, words ...string) string {
	return k.Command(slices.Concat([]string{"-n", namespace}, words)...)
}

// BucketAccess is one of the plugin: kubectl takes no flags before a plugin's name.
func (k Kubectl) BucketAccess(words ...string) string {
	return strings.Join(slices.Concat([]string{"kubectl bucket-access"}, words, shell(k.Flags), shell(k.Plugin)), " ")
}

// plain is a word that no shell reads otherwise.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// shell quotes the words that need it.
func shell(words []string) []string {
	quoted := slices.Clone(words)
	for i, word := range quoted {
		if !plain.MatchString(word) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return quoted
}
