package iam

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

var (
	bucketPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	regionPattern   = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
	audiencePattern = regexp.MustCompile(`^[!-~]{1,255}$`)
)

// ParseBucketName checks the name of a general purpose bucket.
// Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html.
func ParseBucketName(s string) (string, error) {
	if !bucketPattern.MatchString(s) {
		return "", errors.New("is no bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends")
	}
	if strings.Contains(s, "..") {
		return "", errors.New("is no bucket name: two dots stand together")
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return "", errors.New("is no bucket name: it has the form of an IP address")
	}
	for _, prefix := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(s, prefix) {
			return "", fmt.Errorf("is no bucket name: S3 reserves the prefix %s", prefix)
		}
	}
	for _, suffix := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(s, suffix) {
			return "", fmt.Errorf("is no general purpose bucket: S3 reserves the suffix %s", suffix)
		}
	}
	return s, nil
}

// ParseRegion checks the form of a region's name; that it exists is for AWS to say.
func ParseRegion(s string) (string, error) {
	if !regionPattern.MatchString(s) {
		return "", errors.New("is no region's name; one is like eu-west-1")
	}
	return s, nil
}

// ParseAudience checks a token's audience: IAM keeps client IDs of 1 to 255 characters.
func ParseAudience(s string) (string, error) {
	if !audiencePattern.MatchString(s) || strings.Contains(s, "${") { // which IAM would fill in
		return "", errors.New("is no audience: 1 to 255 printable ASCII characters without spaces")
	}
	return s, nil
}

// ParseIssuer checks a token issuer: an https URL without query, fragment or user.
func ParseIssuer(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https":
		return "", errors.New("is no issuer: an https URL, as the cluster's /.well-known/openid-configuration gives it")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return "", errors.New("is no issuer: it may have no user, query or fragment")
	}
	return s, nil
}

// ParseEndpoint checks a service endpoint: an http or https URL with a host and no
// user, query or fragment.
func ParseEndpoint(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", errors.New("is no endpoint: an http or https URL with a host and without user, query and fragment")
	}
	return s, nil
}

// RegionOfIssuer is the region inside an EKS issuer
// (https://oidc.eks.<region>.amazonaws.com/id/…, .com.cn in China), or empty.
func RegionOfIssuer(issuer string) string {
	rest, ok := strings.CutPrefix(issuer, "https://oidc.eks.")
	if !ok {
		return ""
	}
	region, rest, ok := strings.Cut(rest, ".")
	if !ok || !regionPattern.MatchString(region) || !strings.HasPrefix(rest, "amazonaws.com") {
		return ""
	}
	return region
}
