package diagnosis

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// Claims are what a ServiceAccount's token says of itself. Times are Unix seconds.
type Claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audiences []string `json:"aud"`
	IssuedAt  int64    `json:"iat,omitempty"`
	NotBefore int64    `json:"nbf,omitempty"`
	Expires   int64    `json:"exp,omitempty"`
	Pod       string   `json:"pod,omitempty"` // kubernetes.io.pod.name
}

// Expect is what the policy wants the claims to be. An empty field expects nothing.
type Expect struct {
	Issuer   string   `json:"iss,omitempty"`
	Audience string   `json:"aud,omitempty"`
	Subjects []string `json:"sub,omitempty"` // of the token's own Namespace; '*' and '?' as in IAM's StringLike
}

// maxToken bounds what is parsed; tokens have about 1 KB.
const maxToken = 64 << 10

// ParseClaims reads the claims of a JWT without checking its signature: STS does that.
func ParseClaims(token string) (Claims, error) {
	token = strings.TrimSpace(token)
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return Claims{}, errors.New("is no JWT: it has not three parts separated by dots")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Claims{}, errors.New("is no JWT: its second part is not base64url")
	}
	var raw struct {
		Issuer     string          `json:"iss"`
		Subject    string          `json:"sub"`
		Audience   json.RawMessage `json:"aud"`
		IssuedAt   float64         `json:"iat"`
		NotBefore  float64         `json:"nbf"`
		Expires    float64         `json:"exp"`
		Kubernetes struct {
			Pod struct{ Name string }
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(payload, &raw); err != nil {
		return Claims{}, errors.New("is no JWT: its claims are no JSON object of the known form")
	}
	claims := Claims{
		Issuer: raw.Issuer, Subject: raw.Subject, Pod: raw.Kubernetes.Pod.Name,
		IssuedAt: int64(raw.IssuedAt), NotBefore: int64(raw.NotBefore), Expires: int64(raw.Expires),
	}
	var one string
	if json.Unmarshal(raw.Audience, &one) == nil {
		claims.Audiences = []string{one}
	} else if err := json.Unmarshal(raw.Audience, &claims.Audiences); err != nil {
		return Claims{}, errors.New("has no audience")
	}
	return claims, nil
}

// skew is how far clocks may differ, in seconds, before it is worth a word: AWS allows
// five minutes.
const skew = 300

// Token judges a token's claims at the Unix time now, by themselves and by what is
// expected. The first thing wrong is returned, in the order in which STS would notice.
func Token(f Facts, now int64) Diagnosis {
	c := f.Claims
	switch {
	case c.NotBefore > now+skew || c.IssuedAt > now+skew:
		return Of(ClockSkew, f, fmt.Sprintf("the token was issued %d s in the future by this node's clock", max(c.NotBefore, c.IssuedAt)-now))
	case c.Expires != 0 && c.Expires <= now:
		return Of(TokenExpired, f, fmt.Sprintf("the token expired %d s ago", now-c.Expires))
	}
	return Mismatch(f)
}

// Mismatch compares a token's claims with what is expected of them.
func Mismatch(f Facts) Diagnosis {
	c := f.Claims
	if c == nil {
		return Diagnosis{}
	}
	switch {
	case f.Expect.Issuer != "" && f.Expect.Issuer != c.Issuer:
		return Of(WrongIssuer, f, fmt.Sprintf("the token is of %q, the policy expects %q", c.Issuer, f.Expect.Issuer))
	case f.Expect.Audience != "" && !slices.Contains(c.Audiences, f.Expect.Audience):
		return Of(WrongAudience, f, fmt.Sprintf("the token is for %s, the policy expects %q", list(c.Audiences), f.Expect.Audience))
	case len(f.Expect.Subjects) > 0 && !slices.ContainsFunc(f.Expect.Subjects, func(p string) bool { return iam.Like(p, c.Subject) }):
		return Of(WrongSubject, f, fmt.Sprintf("the token is of %q, the policy lists %s", c.Subject, list(f.Expect.Subjects)))
	}
	return Diagnosis{}
}

func list(texts []string) string {
	if len(texts) == 0 {
		return "nobody"
	}
	return iam.Quoted(texts, ", ")
}
