package suite

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// debianAWS is where make awscli installs it: whatever else is called aws on the PATH is
// not what the suite was tried with.
const debianAWS = "/usr/bin/aws"

// awsWrapper sends the AWS CLI to Account B. Versions before 2.13, Debian 12's among them,
// do not know AWS_ENDPOINT_URL_IAM and the like, so each service is told its endpoint.
// Versions from before April 2024 ask for a thumbprint, which AWS has not needed since:
// like AWS, Account B does not look at it where it trusts the issuer's CA.
const awsWrapper = `#!/bin/sh
case "$1" in
iam|sts) endpoint='%s' ;;
s3api) endpoint='%s' ;;
*) echo "Account B has no service $1" >&2; exit 2 ;;
esac
if [ "$2" = create-open-id-connect-provider ]; then set -- "$@" --thumbprint-list 0000000000000000000000000000000000000000; fi
exec ` + debianAWS + ` --endpoint-url "$endpoint" "$@"
`

// shell runs what the plugin prints as a person of Account B does who has copied it: with
// the real AWS CLI, and the plugin as kubectl's. It returns what they read.
func shell(t *testing.T, b *lab.AccountB, script string) string {
	t.Helper()
	if _, err := os.Stat(debianAWS); err != nil {
		t.Fatalf("%v; install it with: make awscli", err)
	}
	directory := t.TempDir()
	must(t, os.WriteFile(filepath.Join(directory, "aws"), fmt.Appendf(nil, awsWrapper, b.STSURL, b.S3URL), 0o700))
	command := exec.CommandContext(testContext(t), "bash", "-o", "pipefail", "-euc", script)
	command.Env = []string{
		"PATH=" + strings.Join([]string{directory, cluster.Assets(), filepath.Join(cluster.Repository, "bin"), "/usr/bin", "/bin"}, ":"), "HOME=" + directory,
		"KUBECONFIG=" + cluster.Kubeconfig, "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=account-b-root", "AWS_SECRET_ACCESS_KEY=account-b-root-secret", "AWS_REGION=" + lab.AccountBRegion,
	}
	said, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, said)
	}
	return string(said)
}

// byAWSCLI carries out the command of the AWS CLI that doctor prints.
func byAWSCLI(t *testing.T, a *access, command string) {
	t.Helper()
	if !strings.HasPrefix(command, "aws ") {
		t.Fatalf("no command of the AWS CLI: %q", command)
	}
	shell(t, a.b, command)
}
