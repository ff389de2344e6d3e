package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// What the emulator of an AWS account fixes.
const (
	AccountBID     = "000000000000"
	AccountBRegion = "us-east-1" // it answers GetCallerIdentity for no other
)

// root signs the requests that set Account B up. Nothing in a Pod ever holds it.
var root = credentials.NewStaticCredentialsProvider("account-b-root", "account-b-root-secret", "")

// AccountB is a real S3, IAM and STS: versitygw, which checks signatures, web identity
// tokens against the issuer's live keys, trust policies and bucket policies. It is not
// AWS: its wordings differ, so what is said of AWS's answers is tested elsewhere.
type AccountB struct {
	S3URL, STSURL string // of the services; STS and IAM are one
	Data          string // directory of the buckets
	IAM           *awsiam.Client
	S3            *s3.Client

	lab      *Lab
	services map[string]*exec.Cmd
	ports    []int
}

// StartAccountB starts the services and lets them fetch the cluster's keys, as the
// owner of a cluster does by publishing its issuer's documents.
func (l *Lab) StartAccountB(ctx context.Context) (*AccountB, error) {
	l.options.Progress("starting Account B: S3, IAM and STS")
	ports, err := freePorts(l.host, 2)
	if err != nil {
		return nil, err
	}
	url := func(i int) string { return "http://" + net.JoinHostPort(l.host, strconv.Itoa(ports[i])) }
	b := &AccountB{
		lab: l, ports: ports, S3URL: url(0), STSURL: url(1), Data: filepath.Join(l.Dir, "account-b", "data"), services: map[string]*exec.Cmd{},
	}
	b.IAM = awsiam.New(awsiam.Options{Region: AccountBRegion, BaseEndpoint: &b.STSURL, Credentials: root})
	b.S3 = s3.New(s3.Options{Region: AccountBRegion, BaseEndpoint: &b.S3URL, Credentials: root, UsePathStyle: true,
		// As the SDK's default configuration has it: uploads get a checksum, downloads are checked.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported})
	l.accountB = b
	if err := l.publishIssuer(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{"iam", "s3"} {
		if err := b.Start(ctx, name); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Start starts one of the services, iam or s3, and waits until it answers.
func (b *AccountB) Start(ctx context.Context, name string) error {
	home := filepath.Dir(b.Data)
	for _, dir := range []string{b.Data, filepath.Join(home, "iam"), filepath.Join(home, "sidecar")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	socket, ca := filepath.Join(home, "iam.sock"), filepath.Join(home, "ca.pem")
	issuerCA := b.lab.options.IssuerCA
	if issuerCA == nil { // the API server is the issuer
		issuerCA = b.lab.Config.CAData
	}
	if err := os.WriteFile(ca, issuerCA, 0o600); err != nil {
		return err
	}
	address := func(i int) string { return net.JoinHostPort(b.lab.host, strconv.Itoa(b.ports[i])) }
	arguments, url := []string{"-p", address(0), "--iam-standalone-endpoint", socket, "--quiet", "--iam-cache-disable",
		"posix", "--sidecar", filepath.Join(home, "sidecar"), b.Data}, b.S3URL
	if name == "iam" {
		_ = os.Remove(socket)
		arguments, url = []string{"-p", address(1), "iam", "--quiet", "--dir", filepath.Join(home, "iam"), "--private-ports", socket}, b.STSURL
	}
	arguments = append([]string{"--health", "/healthz", "--region", AccountBRegion, "--keep-alive"}, arguments...)
	command := exec.Command(filepath.Join(b.lab.Repository, "bin", "versitygw"), arguments...)
	command.Env = []string{"ROOT_ACCESS_KEY=account-b-root", "ROOT_SECRET_KEY=account-b-root-secret", "SSL_CERT_FILE=" + ca}
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(b.lab.logDir(), "account-b-"+name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting Account B (built with make account-b?): %w", err)
	}
	b.services[name] = command
	return waitHealthy(ctx, url+"/healthz", log.Name())
}

// Kill ends a service at once, in the middle of whatever it does.
func (b *AccountB) Kill(name string) {
	if command := b.services[name]; command != nil {
		_ = command.Process.Kill()
		_ = command.Wait()
		delete(b.services, name)
	}
}

func waitHealthy(ctx context.Context, url, log string) error {
	for range 200 {
		if response, err := http.Get(url); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s did not answer in 10 s; the log is %s", url, log)
}

// publishIssuer lets everybody read the issuer's keys.
func (l *Lab) publishIssuer(ctx context.Context) error {
	return l.Client.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "publish-issuer"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:service-account-issuer-discovery"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:unauthenticated"}},
	})
}

// CreateProvider makes the IAM OIDC provider of the lab's cluster.
func (b *AccountB) CreateProvider(ctx context.Context, audiences ...string) error {
	_, err := b.IAM.CreateOpenIDConnectProvider(ctx, &awsiam.CreateOpenIDConnectProviderInput{Url: &b.lab.Issuer, ClientIDList: audiences})
	return wrap("creating the OIDC provider", err)
}

// CreateRole makes the policy's role with the documents that are generated from it.
func (b *AccountB) CreateRole(ctx context.Context, p *policy.Policy) error {
	trust, err := p.TrustPolicy(b.lab.Issuer)
	if err != nil {
		return err
	}
	name, document := p.Role.Name(), string(trust.JSON())
	_, err = b.IAM.CreateRole(ctx, &awsiam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &document})
	if err != nil {
		return wrap("creating the role", err)
	}
	return b.SetPermissions(ctx, p, iam.PermissionPolicy(p.Grant()))
}

// SetPermissions replaces the role's own policy.
func (b *AccountB) SetPermissions(ctx context.Context, p *policy.Policy, permissions iam.Document) error {
	name, inline, document := p.Role.Name(), p.RolePolicyName(), string(permissions.JSON())
	_, err := b.IAM.PutRolePolicy(ctx, &awsiam.PutRolePolicyInput{RoleName: &name, PolicyName: &inline, PolicyDocument: &document})
	return wrap("writing the role's policy", err)
}

// SetTrust replaces the role's trust policy.
func (b *AccountB) SetTrust(ctx context.Context, p *policy.Policy, trust iam.Document) error {
	name, document := p.Role.Name(), string(trust.JSON())
	_, err := b.IAM.UpdateAssumeRolePolicy(ctx, &awsiam.UpdateAssumeRolePolicyInput{RoleName: &name, PolicyDocument: &document})
	return wrap("writing the role's trust policy", err)
}

// CreateBucket makes a bucket with the objects.
func (b *AccountB) CreateBucket(ctx context.Context, bucket string, objects map[string]string) error {
	if _, err := b.S3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		return wrap("creating the bucket", err)
	}
	var errs []error
	for key, body := range objects {
		errs = append(errs, b.Put(ctx, bucket, key, "application/octet-stream", []byte(body)))
	}
	return errors.Join(errs...)
}

// Put writes one object.
func (b *AccountB) Put(ctx context.Context, bucket, key, contentType string, body []byte) error {
	_, err := b.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, ContentType: &contentType, Body: bytes.NewReader(body)})
	return wrap("writing "+key, err)
}

// SetBucketPolicy writes the bucket's policy; an empty document removes it.
func (b *AccountB) SetBucketPolicy(ctx context.Context, bucket string, document iam.Document) error {
	if len(document.Statement) == 0 {
		_, err := b.S3.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: &bucket})
		return wrap("removing the bucket's policy", err)
	}
	text := string(document.JSON())
	_, err := b.S3.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: &text})
	return wrap("writing the bucket's policy", err)
}

func (b *AccountB) stop() {
	for name := range b.services {
		b.Kill(name)
	}
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s in Account B: %w", what, err)
	}
	return nil
}
