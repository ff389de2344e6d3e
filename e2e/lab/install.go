package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// install applies manifests/ as they are and gives the webhook its ServiceAccount's own
// access: all that it does, its certificate included, it does by what they allow.
func (l *Lab) install(ctx context.Context) error {
	if err := l.EnsureDefaultAccount(ctx, "default"); err != nil || l.options.Manifests == None {
		return err
	}
	l.options.Progress("installing %s", l.Manifests())
	if _, stderr, err := l.Kubectl(ctx, "", "apply", "-k", l.Manifests()); err != nil {
		return fmt.Errorf("kubectl apply -k %s: %s", l.Manifests(), stderr)
	}
	return l.WebhookAccess(ctx)
}

// EnsureDefaultAccount makes a Namespace's default ServiceAccount, which in a whole
// cluster the controller-manager makes.
func (l *Lab) EnsureDefaultAccount(ctx context.Context, namespace string) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	return client.IgnoreAlreadyExists(l.Client.Create(ctx, account))
}

// WebhookAccess writes a kubeconfig with a token of the webhook's ServiceAccount, so
// that it can do what the installation allows it to, and nothing else.
func (l *Lab) WebhookAccess(ctx context.Context) error {
	clients, err := kubernetes.NewForConfig(l.Config)
	if err != nil {
		return err
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(86400))}}
	token, err := clients.CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, Name, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("a token for the webhook's ServiceAccount: %w", err)
	}
	l.webhook = filepath.Join(l.Dir, "webhook.kubeconfig")
	return clientcmd.WriteToFile(*kubeconfig(l.Config, &clientcmdapi.AuthInfo{Token: token.Status.Token}), l.webhook)
}

// flags are those that the installed Deployment gives to the webhook.
func (l *Lab) flags(ctx context.Context) ([]string, error) {
	var deployment appsv1.Deployment
	if err := l.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: Name}, &deployment); err != nil {
		return nil, fmt.Errorf("the webhook's Deployment: %w", err)
	}
	return deployment.Spec.Template.Spec.Containers[0].Args, nil
}

// Helm runs Helm of a major version as the administrator, and returns what it said.
func (l *Lab) Helm(ctx context.Context, major int, args ...string) (string, error) {
	binary := map[int]string{3: "helm3", 4: "helm"}[major]
	command := exec.CommandContext(ctx, filepath.Join(l.Repository, "bin", binary), args...)
	command.Dir = l.Repository
	command.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig, "HELM_CACHE_HOME="+l.Dir, "HELM_CONFIG_HOME="+l.Dir, "HELM_DATA_HOME="+l.Dir)
	said, err := command.CombinedOutput()
	if err != nil {
		return string(said), fmt.Errorf("helm %d (built with make helm?): %w: %s", major, err, said)
	}
	return string(said), nil
}
