package watch

import (
	"context"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// LastGoodName is the name of the ConfigMap of last good documents, unless a flag says another.
const LastGoodName = "bucket-access-webhook-last-good"

// Read reads the policies once, as a replica that has just started would have them in
// force: for what is no replica.
func Read(ctx context.Context, from client.Reader, namespace, lastGoodName string) (*policy.Snapshot, error) {
	p := &Policies{Namespace: namespace, LastGoodName: lastGoodName, Log: logr.Discard()}
	configMaps, lastGood, err := p.list(ctx, from)
	if err != nil {
		return nil, err
	}
	return policy.Build(configMaps, p.records(lastGood), nil), nil
}
