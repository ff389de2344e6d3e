package lab

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Injection is what a Pod is to be injected with, beside a role and an audience that are
// the same for all that the tests make.
type Injection struct {
	Policy, Bucket, Region string
	// TokenExpiration in seconds; 0 is any.
	TokenExpiration int64
}

// LacksInjection returns how the Pod lacks injection, or nothing.
func LacksInjection(p *corev1.Pod, want Injection) string {
	var missing []string
	check := func(ok bool, what string) {
		if !ok {
			missing = append(missing, what)
		}
	}
	check(p.Labels["bucket-access.io/injected"] == want.Policy, "label injected")
	check(p.Annotations["bucket-access.io/status"] != "", "annotation status")
	volume := false
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.Name == "aws-iam-token" && v.Projected != nil {
			token := v.Projected.Sources[0].ServiceAccountToken
			volume = volume || token.Audience == "sts.amazonaws.com" && (want.TokenExpiration == 0 || *token.ExpirationSeconds == want.TokenExpiration)
		}
	}
	check(volume, "token volume")
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			check(Env(c, "AWS_ROLE_ARN") == "arn:aws:iam::222222222222:role/s3-reader-role", c.Name+" role")
			check(Env(c, "AWS_WEB_IDENTITY_TOKEN_FILE") == "/var/run/secrets/eks.amazonaws.com/serviceaccount/token", c.Name+" token file")
			check(Env(c, "BUCKET_NAME") == want.Bucket, c.Name+" bucket "+strconv.Quote(Env(c, "BUCKET_NAME")))
			check(Env(c, "AWS_REGION") == want.Region && Env(c, "AWS_DEFAULT_REGION") == want.Region, c.Name+" region")
			mounted := false
			for _, m := range c.VolumeMounts {
				mounted = mounted || m.Name == "aws-iam-token" && m.ReadOnly && m.MountPath == "/var/run/secrets/eks.amazonaws.com/serviceaccount"
			}
			check(mounted, c.Name+" mount")
		}
	}
	return strings.Join(missing, ", ")
}

// Env is the value of a container's variable; the last one counts.
func Env(c *corev1.Container, name string) (value string) {
	for i := range c.Env {
		if c.Env[i].Name == name {
			value = c.Env[i].Value
		}
	}
	return value
}
