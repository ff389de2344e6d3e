package reader

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// clients are the AWS SDK's, on its default chain: what works here works in any
// application of the Pod that uses an SDK.
type clients struct {
	s3          *s3.Client
	sts         *sts.Client
	credentials aws.CredentialsProvider // guarded: web identity or an error
	unguarded   aws.CredentialsProvider // whatever the default chain finds
}

// renewBefore is how long before its end a session is renewed, so that no request is
// signed with one that ends on the way. STS's shortest session has 15 minutes.
const renewBefore = time.Minute

func newClients(ctx context.Context, c *Config, transport http.RoundTripper) *clients {
	options := []func(*config.LoadOptions) error{
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
	}
	if transport != nil {
		options = append(options, config.WithHTTPClient(&http.Client{Transport: transport}))
	} else {
		options = append(options, config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			// As many idle connections as transfers: else each transfer dials anew.
			t.MaxIdleConns, t.MaxIdleConnsPerHost = c.MaxTransfers, c.MaxTransfers
			t.ResponseHeaderTimeout = c.IdleTimeout
		})))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		// A profile or a file in the way: the reader is there to say so.
		fault := fmt.Errorf("loading the AWS SDK's configuration: %w", err)
		loaded = aws.Config{Region: c.env(v1alpha1.EnvRegion), Credentials: aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, fault })}
	}
	unguarded := loaded.Credentials
	loaded.Credentials = &guard{CredentialsProvider: unguarded}
	return &clients{
		s3: s3.NewFromConfig(loaded, func(o *s3.Options) { o.DisableLogOutputChecksumValidationSkipped = true }),
		// GetCallerIdentity is asked of the same endpoint that gives the session.
		sts:         sts.NewFromConfig(loaded),
		credentials: loaded.Credentials, unguarded: unguarded,
	}
}

// guard lets no credentials through but those of web identity: what is proven here is
// the role's access, not a node's or a key's.
type guard struct {
	aws.CredentialsProvider

	mutex  sync.Mutex
	failed error
	until  time.Time
}

// failureHolds is how long a failure is given out again without asking: STS would hear of
// every single request otherwise, for which the SDK remembers nothing.
const failureHolds = time.Second

// Retrieve returns web identity's credentials, or an error that says whose it found.
func (g *guard) Retrieve(ctx context.Context) (aws.Credentials, error) {
	g.mutex.Lock()
	failed, until := g.failed, g.until
	g.mutex.Unlock()
	if failed != nil && time.Now().Before(until) {
		return aws.Credentials{}, failed
	}
	found, err := g.CredentialsProvider.Retrieve(ctx)
	if err == nil && found.Source != stscreds.WebIdentityProviderName {
		found, err = aws.Credentials{}, &foreignError{source: found.Source}
	}
	if ctx.Err() == nil { // else it says nothing of the credentials
		g.mutex.Lock()
		g.failed, g.until = err, time.Now().Add(failureHolds)
		g.mutex.Unlock()
	}
	return found, err
}

// foreignError are of another source than web identity.
type foreignError struct{ source string }

func (e *foreignError) Error() string {
	return "the AWS SDK's default chain found credentials of " + e.source + " instead of web identity"
}

// cause tells where they come from.
func (e *foreignError) cause() diagnosis.Cause {
	switch e.source {
	case ec2rolecreds.ProviderName:
		return diagnosis.NodeRole
	case endpointcreds.ProviderName:
		return diagnosis.ContainerCredentials
	}
	return diagnosis.StaticCredentials
}

func asForeign(err error) (*foreignError, bool) {
	var foreign *foreignError
	ok := errors.As(err, &foreign)
	return foreign, ok
}
