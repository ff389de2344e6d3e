package diagnosis

import (
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestEveryCauseHasWholeSentences, with facts and without any.
func TestEveryCauseHasWholeSentences(t *testing.T) {
	titles := map[string]Cause{}
	for _, cause := range Causes() {
		for _, facts := range []Facts{{}, {
			Role: "arn:aws:iam::222222222222:role/x", Bucket: "b", Region: "eu-west-1", Prefix: "p/", Key: "p/k", TokenFile: "/t",
			Claims: &Claims{Issuer: "https://i", Subject: "s", Audiences: []string{"a"}},
		}} {
			d := Of(cause, facts, "")
			if d.Cause != cause || d.Title == "" || !strings.HasSuffix(d.Fix, ".") || strings.ContainsAny(d.Fix, "{}") ||
				strings.Contains(d.Fix, "  ") || strings.Contains(d.Fix, " .") || strings.Contains(d.Fix, " ,") {
				t.Errorf("%s: %+v", cause, d)
			}
		}
		title := Of(cause, Facts{}, "").Title
		if other, taken := titles[title]; taken {
			t.Errorf("%s and %s have one title", cause, other)
		}
		titles[title] = cause
	}
	if d := Of("NoSuchCause", Facts{}, "found"); d.Cause != Unexpected || d.Detail != "found" {
		t.Errorf("%+v", d)
	}
}

func TestMismatchExpectsOnlyWhatIsSaid(t *testing.T) {
	claims := &Claims{Issuer: "https://i", Subject: "system:serviceaccount:a:b", Audiences: []string{"x", "sts.amazonaws.com"}}
	for _, expect := range []Expect{
		{}, {Issuer: "https://i"}, {Audience: "sts.amazonaws.com"}, {Subjects: []string{"system:serviceaccount:*:c", "system:serviceaccount:a:?"}},
	} {
		if d := Mismatch(Facts{Claims: claims, Expect: expect}); d.Cause != "" {
			t.Errorf("%+v: %+v", expect, d)
		}
	}
	if d := Mismatch(Facts{Expect: Expect{Issuer: "https://i"}}); d.Cause != "" {
		t.Errorf("nothing is known of the token: %+v", d)
	}
}

// TestTheTokenSpeaksForSTS: a blank refusal is explained by the claim that is not as
// expected, and a refusal for another reason is not.
func TestTheTokenSpeaksForSTS(t *testing.T) {
	facts := Facts{Claims: &Claims{Subject: "system:serviceaccount:a:b", Audiences: []string{"x"}}, Expect: Expect{Subjects: []string{"system:serviceaccount:a:c"}}}
	for code, want := range map[string]Cause{
		"AccessDenied": WrongSubject, "InvalidIdentityToken": WrongSubject, "ExpiredTokenException": TokenExpired, "Throttling": Throttled,
	} {
		d := FromAnswer(Answer{Service: "STS", Operation: "AssumeRoleWithWebIdentity", Status: 400, Code: code}, facts)
		if d.Cause != want || d.Answer == nil || d.Answer.Code != code {
			t.Errorf("%s: %+v", code, d)
		}
	}
}

// FuzzAnswer: whatever AWS, or what stands for it, answers: one known cause, a bounded
// detail, and the answer as it came.
func FuzzAnswer(f *testing.F) {
	f.Add("STS", "AssumeRoleWithWebIdentity", 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	f.Add("S3", "GetObject", 301, "", "")
	f.Add("S3", "ListObjectsV2", 400, "AuthorizationHeaderMalformed", "the region 'x' is wrong; expecting 'eu-west-1'")
	f.Add("S3", "GetObject", 403, "AccessDenied", "with an explicit deny in a resource-based policy\xff")
	f.Fuzz(func(t *testing.T, service, operation string, status int, code, message string) {
		answer := Answer{Service: service, Operation: operation, Status: status, Code: code, Message: message}
		d := FromAnswer(answer, Facts{Claims: &Claims{Subject: message}, Expect: Expect{Subjects: []string{code}}})
		if _, known := sentences[d.Cause]; !known || d.Answer == nil || *d.Answer != answer {
			t.Fatalf("%+v", d)
		}
		if strings.HasPrefix(d.Detail, service+" says: ") && (len(d.Detail) > len(service)+520 || !utf8.ValidString(strings.TrimPrefix(d.Detail, service))) {
			t.Fatalf("%d bytes of detail", len(d.Detail))
		}
	})
}

// FuzzClaims: no text panics, and no claim is made up.
func FuzzClaims(f *testing.F) {
	encode := func(s string) string { return "h." + base64.RawURLEncoding.EncodeToString([]byte(s)) + ".s" }
	for _, payload := range []string{
		`{"iss":"i","sub":"s","aud":["a","b"],"exp":1e9,"kubernetes.io":{"pod":{"name":"p"}}}`, `{"aud":"a"}`, `{"aud":1}`, `{}`, `[]`, `{"exp":1e300,"aud":""}`,
	} {
		f.Add(encode(payload))
	}
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := ParseClaims(token)
		if err != nil {
			return
		}
		payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(strings.TrimSpace(token), ".")[1])
		if claims.Subject != "" && utf8.Valid(payload) && !strings.ContainsAny(string(payload), `\`) && !strings.Contains(string(payload), claims.Subject) {
			t.Fatalf("%q is not in %q", claims.Subject, payload)
		}
		Token(Facts{Claims: &claims}, 1_800_000_000)
	})
}

// TestTheExpectedRegionIsReadFromEitherQuotes: AWS's, and versitygw's.
func TestTheExpectedRegionIsReadFromEitherQuotes(t *testing.T) {
	for _, quote := range []string{"'", `"`} {
		message := strings.ReplaceAll("The authorization header is malformed; the region 'eu-west-1' is wrong; expecting 'ap-south-1'", "'", quote)
		d := FromAnswer(Answer{Service: "S3", Operation: "ListObjectsV2", Status: 400, Code: "AuthorizationHeaderMalformed", Message: message}, Facts{Region: "eu-west-1"})
		if d.Cause != WrongRegion || d.Detail != "the bucket is in ap-south-1, the policy says eu-west-1" {
			t.Errorf("%s: %+v", message, d)
		}
	}
}
