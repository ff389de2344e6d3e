package lab

import (
	"context"
	"fmt"
	"path/filepath"

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
	l.options.Progress("installing manifests/%s", l.options.Manifests)
	if err := l.EnsureDefaultAccount(ctx, "default"); err != nil {
		return err
	}
	if _, stderr, err := l.Kubectl(ctx, "", "apply", "-k", "manifests/"+l.options.Manifests); err != nil {
		return fmt.Errorf("kubectl apply -k manifests/%s: %s", l.options.Manifests, stderr)
	}
	return l.webhookAccess(ctx)
}

// EnsureDefaultAccount makes a Namespace's default ServiceAccount, which in a whole
// cluster the controller-manager makes.
func (l *Lab) EnsureDefaultAccount(ctx context.Context, namespace string) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	return client.IgnoreAlreadyExists(l.Client.Create(ctx, account))
}

// webhookAccess writes a kubeconfig with a token of the webhook's ServiceAccount, so
// that it can do what manifests/ allow it to, and nothing else.
func (l *Lab) webhookAccess(ctx context.Context) error {
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
