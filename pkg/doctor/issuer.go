package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// issuer compares the cluster's with the policy's, and reads what STS will read.
func (d *Doctor) issuer(ctx context.Context) result {
	if d.facts == nil {
		return skipped("the policies could not be read")
	}
	issuer, err := d.clusterIssuer(ctx)
	if err != nil {
		if apierrors.IsForbidden(err) {
			return skipped("no right to get /.well-known/openid-configuration (ClusterRole system:service-account-issuer-discovery)")
		}
		return unread(err, "get /.well-known/openid-configuration")
	}
	if d.policy != nil && d.policy.Issuer != "" && d.policy.Issuer != issuer {
		edit := ""
		if entry, known := d.facts.Policies.Lookup(d.policy.Name); known {
			edit = d.editConfigMap(entry.Source)
		}
		return failed(fmt.Sprintf("policy %s says %s, the cluster's tokens are of %s", d.policy.Name, d.policy.Issuer, issuer),
			"set the policy's issuer to the cluster's, or remove it", edit)
	}
	if err := iam.CheckProviderURL(issuer); err != nil {
		return warned(err.Error(), "start the API server with another --service-account-issuer, that AWS can use", "")
	}
	published, err := d.published(ctx, issuer)
	switch {
	case err != nil:
		return warned(fmt.Sprintf("%s can't be read from here: %s. STS must read it over the Internet", issuer, err),
			"publish the issuer's documents, or try from where the Internet is reached", "").looking("curl -sS " + issuer + "/.well-known/openid-configuration")
	case published != issuer:
		return failed(fmt.Sprintf("%s publishes another issuer, %s", issuer, published), "publish the documents of this cluster there", "")
	}
	return fine("%s, and it is published", issuer)
}

// published is the issuer that is named where AWS looks for it.
func (d *Doctor) published(ctx context.Context, issuer string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/openid-configuration", http.NoBody)
	if err != nil {
		return "", err
	}
	asker := d.HTTP
	if asker == nil {
		asker = http.DefaultClient
	}
	answer, err := asker.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP %d", answer.StatusCode)
	}
	var document struct {
		Issuer string `json:"issuer"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&document); err != nil {
		return "", fmt.Errorf("no JSON: %w", err)
	}
	return document.Issuer, nil
}
