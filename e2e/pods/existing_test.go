package pods

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/cluster"
)

// TestTheSuiteRunsOnAnyCluster runs some of itself as on a cluster of somebody else's: all
// that it is told is in the environment.
func TestTheSuiteRunsOnAnyCluster(t *testing.T) {
	if c.Provider == cluster.Existing {
		t.Skip("it does, right now")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	itself := exec.CommandContext(ctx, "/proc/self/exe", "-test.v",
		"-test.run=^(TestTheLabelWherePeopleSetIt|TestTheReaderServesTheObject|TestTheReadersGatesHoldBackWhatTheySay)$")
	itself.Env = append(os.Environ(), "PROVIDER="+cluster.Existing, "KUBECONFIG="+c.Kubeconfig,
		"E2E_WEBHOOK_IMAGE="+c.Images.Webhook, "E2E_READER_IMAGE="+c.Images.Reader, "E2E_APP_IMAGE="+c.Images.App,
		"E2E_BUCKET="+c.Bucket.Name, "E2E_REGION="+c.Bucket.Region, "E2E_ROLE_ARN="+c.Bucket.RoleARN,
		"E2E_KEY="+c.Bucket.Key, "E2E_CONTENT="+c.Bucket.Content, "E2E_ENDPOINT_S3="+c.Bucket.S3, "E2E_ENDPOINT_STS="+c.Bucket.STS)
	said, err := itself.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{"--- PASS: TestTheLabelWherePeopleSetIt", "--- PASS: TestTheReaderServesTheObject",
		"--- SKIP: TestTheReadersGatesHoldBackWhatTheySay", "belongs to somebody else"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("there is no %q in:\n%s", want, said)
		}
	}
	// And what is missing is named.
	itself = exec.CommandContext(ctx, "/proc/self/exe")
	itself.Env = append(os.Environ(), "PROVIDER="+cluster.Existing, "KUBECONFIG="+c.Kubeconfig)
	if said, err := itself.CombinedOutput(); err == nil || !strings.Contains(string(said), "E2E_WEBHOOK_IMAGE") {
		t.Errorf("without images it says: %v %s", err, said)
	}
}
