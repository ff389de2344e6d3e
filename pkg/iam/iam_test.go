package iam

import (
	"path"
	"strings"
	"testing"
)

func TestRoleARNs(t *testing.T) {
	for _, good := range []string{
		"arn:aws:iam::222222222222:role/s3-reader-role", "arn:aws-cn:iam::222222222222:role/a/b/Name+=,.@-_",
		"arn:aws-us-gov:iam::000000000000:role/x",
	} {
		role, err := ParseRoleARN(good)
		if err != nil || role.String() != good {
			t.Errorf("%s: %v, %v", good, role, err)
		}
	}
	for bad, want := range map[string]string{
		"": "is no ARN", "s3-reader-role": "is no ARN", "arn:aws:iam::2:role/x": "12 digits", "arn:aws:sts::222222222222:role/x": `service is "sts"`,
		"arn:aws:iam::222222222222:role/": "role name", "arn:aws:iam::222222222222:user/x": "not a role",
		"arn:aws:iam::222222222222:role/a b": "role name", "arn:aws:iam::222222222222:role//x": "role path",
		"arn:aws:iam::222222222222:role/" + strings.Repeat("x", 65): "role name",
	} {
		if _, err := ParseRoleARN(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		}
	}
}

func TestRegionOfIssuer(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://oidc.eks.eu-west-1.amazonaws.com/id/X": "eu-west-1", "https://oidc.eks.cn-north-1.amazonaws.com.cn/id/X": "cn-north-1",
		"https://oidc.example.com": "", "https://oidc.eks.": "", "https://oidc.eks.not-a-region.amazonaws.com/x": "",
		"https://oidc.eks.eu-west-1.example.com/id/X": "",
	} {
		if got := RegionOfIssuer(issuer); got != want {
			t.Errorf("%s: %q", issuer, got)
		}
	}
}

func TestLike(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"*", "anything", true}, {"a*c", "abbc", true}, {"a*c", "abcd", false}, {"a?c", "abc", true},
		{"?", "", false}, {"**a", "ba", true}, {"a*b*c", "a-b-b-c", true}, {"[a]", "a", false}, {"[a]", "[a]", true},
	} {
		if got := Like(test.pattern, test.s); got != test.want {
			t.Errorf("Like(%q, %q) = %t", test.pattern, test.s, got)
		}
	}
}

// FuzzLike holds Like equal to path.Match, which has the same '*' and '?' where
// neither '/' nor its own special characters occur.
func FuzzLike(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("*?*", "x")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := Like(pattern, s)
		for _, r := range pattern + s {
			if r >= 0x80 || strings.ContainsRune(`/[]\^-`, r) {
				return
			}
		}
		if want, err := path.Match(pattern, s); err == nil && got != want {
			t.Fatalf("Like(%q, %q) = %t", pattern, s, got)
		}
	})
}

func TestActionsHaveALevel(t *testing.T) {
	for action, want := range map[string]Level{"s3:GetObject": ObjectLevel, "s3:ListBucket": BucketLevel} {
		if level, known := ActionLevel(action); !known || level != want {
			t.Errorf("%s: %s", action, level)
		}
	}
	if _, known := ActionLevel("s3:*"); known {
		t.Error("a wildcard is no known action")
	}
}
