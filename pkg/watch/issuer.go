package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// Issuer keeps the cluster's own token issuer known: what its API server says at
// /.well-known/openid-configuration, which every ServiceAccount may read.
type Issuer struct {
	Cluster *Cluster
	Client  rest.Interface
	Log     logr.Logger
	// Region is where EKS's webhook says the cluster is, when that is configured;
	// else the region inside an EKS issuer counts.
	Region string
	// Changed is called when the answer is another one than before.
	Changed func()
}

// An issuer changes when an API server is started with another one, so rarely;
// one that could not be read yet is asked for again soon.
const (
	issuerPeriod = 5 * time.Minute
	issuerRetry  = 5 * time.Second
)

// Start runs until ctx ends.
func (i *Issuer) Start(ctx context.Context) error {
	for {
		wait := issuerPeriod
		if err := i.refresh(ctx); err != nil {
			i.Log.Info("The cluster's token issuer could not be read; policies are not judged by it", "cause", err.Error())
			wait = issuerRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// NeedLeaderElection is false: every replica judges.
func (*Issuer) NeedLeaderElection() bool { return false }

func (i *Issuer) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, issuerRetry)
	defer cancel()
	issuer, err := ReadIssuer(ctx, i.Client)
	if err != nil {
		return err
	}
	if i.Cluster.Facts().Issuer == issuer {
		return nil
	}
	next := decide.Cluster{Issuer: issuer, Region: i.Region}
	if next.Region == "" {
		next.Region = iam.RegionOfIssuer(issuer)
	}
	i.Cluster.facts.Store(&next)
	i.Log.Info("The cluster's token issuer is known", "issuer", next.Issuer, "region", next.Region)
	i.Changed()
	return nil
}

// ReadIssuer asks the API server for the issuer of its tokens.
func ReadIssuer(ctx context.Context, from rest.Interface) (string, error) {
	body, err := from.Get().AbsPath("/.well-known/openid-configuration").DoRaw(ctx)
	if err != nil {
		return "", fmt.Errorf("/.well-known/openid-configuration: %w", err)
	}
	var document struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return "", fmt.Errorf("/.well-known/openid-configuration: %w", err)
	}
	if document.Issuer == "" {
		return "", errors.New("/.well-known/openid-configuration names no issuer")
	}
	return document.Issuer, nil
}
