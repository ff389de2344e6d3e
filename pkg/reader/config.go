package reader

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// Config is what a reader works with.
type Config struct {
	Bucket, Prefix string
	// ProbeKey is read to prove access; empty proves it by a listing.
	ProbeKey string
	// Expect is what the policy says of the token; an empty field expects nothing.
	Expect diagnosis.Expect
	// AllowedHosts are names besides localhost and IP addresses that a request may be
	// addressed to.
	AllowedHosts []string

	ProbeInterval time.Duration // between two proofs while access is there
	ProbeTimeout  time.Duration // of one proof
	IdleTimeout   time.Duration // a transfer without a byte's progress for so long is ended
	ShutdownDelay time.Duration // for which it serves on without being ready, once it is told to end
	MaxTransfers  int           // at once

	// Environment looks up a variable, as os.LookupEnv does.
	Environment func(string) (string, bool)
}

// Default intervals and limits. 256 transfers with their buffers and connections stay
// below a memory limit of 64 MiB.
const (
	DefaultProbeInterval = 30 * time.Second
	DefaultProbeTimeout  = 15 * time.Second
	DefaultIdleTimeout   = 30 * time.Second
	DefaultMaxTransfers  = 256
)

// Validate says all that is wrong at once.
func (c *Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Bucket == "" {
		fault("no bucket: set $%s (the webhook does) or --bucket", v1alpha1.EnvBucketName)
	} else if _, err := iam.ParseBucketName(c.Bucket); err != nil {
		fault("--bucket %q %w", c.Bucket, err)
	}
	if c.ProbeKey != "" {
		if problem := c.checkKey(c.ProbeKey); problem != "" {
			fault("--probe-key %q: %s", c.ProbeKey, problem)
		}
	}
	for name, interval := range map[string]time.Duration{
		"--probe-interval": c.ProbeInterval, "--probe-timeout": c.ProbeTimeout, "--idle-timeout": c.IdleTimeout,
	} {
		if interval < time.Second || interval > time.Hour {
			fault("%s is %s; give 1s to 1h", name, interval)
		}
	}
	if c.ShutdownDelay < 0 {
		fault("--shutdown-delay is %s; it must not be negative", c.ShutdownDelay)
	}
	if c.MaxTransfers < 1 {
		fault("--max-transfers is %d; give 1 or more", c.MaxTransfers)
	}
	return errors.Join(errs...)
}

func (c *Config) env(name string) string {
	value, _ := c.Environment(name)
	return value
}

// facts are what sentences are made of.
func (c *Config) facts() diagnosis.Facts {
	return diagnosis.Facts{
		Role: c.env(v1alpha1.EnvRoleARN), Bucket: c.Bucket, Region: c.env(v1alpha1.EnvRegion), Prefix: c.Prefix,
		STSEndpoint: c.env(v1alpha1.EnvEndpointSTS), S3Endpoint: c.env(v1alpha1.EnvEndpointS3),
		TokenFile: c.env(v1alpha1.EnvTokenFile), Expect: c.Expect,
	}
}

// inPrefix says whether the policy's prefix covers a key or a listing's prefix.
func (c *Config) inPrefix(key string) bool { return strings.HasPrefix(key, c.Prefix) }
