package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// validator collects the errors of one document. A field that could not be decoded
// has its error already and is not judged a second time.
type validator struct {
	root *field.Path
	errs field.ErrorList
	bad  map[string]bool
}

func (v *validator) fail(err *field.Error) {
	if !v.bad[err.Field] {
		v.errs = append(v.errs, err)
	}
}

// validate fills in the defaults and checks the document; decoded are the errors
// that decoding found.
func validate(
	name string, document v1alpha1.BucketAccessPolicy, root *field.Path, decoded field.ErrorList,
) (*Policy, field.ErrorList) {
	v := &validator{root: root, errs: decoded, bad: map[string]bool{}}
	for _, err := range decoded {
		v.bad[err.Field] = true
	}
	if v.bad[root.String()] {
		return nil, v.errs // nothing of the document could be read
	}
	doc := document.WithDefaults()
	v.header(doc)
	p := &Policy{
		Name: name, Env: doc.Env, Endpoints: doc.Endpoints, Prefix: doc.Prefix, Actions: doc.Actions,
		StaticCredentials: doc.StaticCredentials, InstanceMetadata: doc.InstanceMetadata, Reader: doc.Reader,
		TokenExpiration: doc.TokenExpirationSeconds, Subjects: NewSubjects(doc.Subjects),
	}
	p.Bucket = parsed(v, "bucket", doc.Bucket, true, iam.ParseBucketName)
	p.Region = parsed(v, "region", doc.Region, true, iam.ParseRegion)
	p.Role = parsed(v, "roleARN", doc.RoleARN, true, iam.ParseRoleARN)
	p.Audience = parsed(v, "audience", doc.Audience, false, iam.ParseAudience)
	p.KMSKeyARN = parsed(v, "kmsKeyARN", doc.KMSKeyARN, false, iam.ParseKMSKeyARN)
	p.Issuer = parsed(v, "issuer", doc.Issuer, false, iam.ParseIssuer)
	parsed(v, "endpoints.s3", doc.Endpoints.S3, false, iam.ParseEndpoint)
	parsed(v, "endpoints.sts", doc.Endpoints.STS, false, iam.ParseEndpoint)
	v.subjects(doc.Subjects)
	v.prefix("prefix", doc.Prefix)
	v.reader(doc)
	v.actions(doc.Actions)
	v.env(doc.Env)
	oneOf(v, "staticCredentials", doc.StaticCredentials, v1alpha1.StaticCredentialsDeny, v1alpha1.StaticCredentialsWarn)
	oneOf(v, "instanceMetadata", doc.InstanceMetadata, v1alpha1.InstanceMetadataDeny, v1alpha1.InstanceMetadataAllow)
	oneOf(v, "reader.gate", doc.Reader.Gate, v1alpha1.GateNone, v1alpha1.GateReadiness, v1alpha1.GateStartup)
	if len(v.errs) > 0 {
		return nil, v.errs
	}
	p.Hash = p.hash()
	return p, nil
}

// at turns a dotted name into a path.
func (v *validator) at(name string) *field.Path {
	path := v.root
	for part := range strings.SplitSeq(name, ".") {
		path = path.Child(part)
	}
	return path
}

func (v *validator) header(doc v1alpha1.BucketAccessPolicy) {
	for _, f := range []struct{ name, found, want string }{
		{"apiVersion", doc.APIVersion, v1alpha1.APIVersion}, {"kind", doc.Kind, v1alpha1.Kind},
	} {
		switch f.found {
		case f.want:
		case "":
			v.fail(field.Required(v.at(f.name), "write "+f.name+": "+f.want))
		default:
			v.fail(field.NotSupported(v.at(f.name), f.found, []string{f.want}))
		}
	}
}

func parsed[T any](v *validator, name, text string, required bool, parse func(string) (T, error)) T {
	var zero T
	if text == "" {
		if required {
			v.fail(field.Required(v.at(name), ""))
		}
		return zero
	}
	value, err := parse(text)
	if err != nil {
		v.fail(field.Invalid(v.at(name), text, err.Error()))
		return zero
	}
	return value
}

func oneOf[T ~string](v *validator, name string, found T, allowed ...T) {
	if !slices.Contains(allowed, found) {
		v.fail(field.NotSupported(v.at(name), found, allowed))
	}
}

var (
	namespacePattern      = regexp.MustCompile(`^[a-z0-9*?]([a-z0-9*?-]{0,61}[a-z0-9*?])?$`)
	serviceAccountPattern = regexp.MustCompile(`^[a-z0-9*?]([a-z0-9*?.-]{0,251}[a-z0-9*?])?$`)
	envPattern            = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
)

func (v *validator) subjects(list []v1alpha1.Subject) {
	at := v.at("subjects")
	if len(list) == 0 {
		v.fail(field.Required(at, "list at least one {namespace, serviceAccount}"))
	}
	seen := map[v1alpha1.Subject]bool{}
	for i, subject := range list {
		v.subjectPart(at.Index(i).Child("namespace"), subject.Namespace, namespacePattern)
		v.subjectPart(at.Index(i).Child("serviceAccount"), subject.ServiceAccount, serviceAccountPattern)
		if seen[subject] {
			v.fail(duplicate(at.Index(i), subject.Namespace+"/"+subject.ServiceAccount))
		}
		seen[subject] = true
	}
}

func (v *validator) subjectPart(at *field.Path, name string, form *regexp.Regexp) {
	switch {
	case name == "":
		v.fail(field.Required(at, "write a name; '*' is any"))
	case !form.MatchString(name):
		v.fail(field.Invalid(at, name, "is no Kubernetes name: lower-case letters, digits and hyphens; '*' and '?' as in IAM's StringLike"))
	}
}

// key checks an object's key, or its beginning.
func (v *validator) key(name, key string) {
	switch {
	case len(key) > 1024:
		v.fail(field.TooLong(v.at(name), "", 1024))
	case !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl):
		v.fail(field.Invalid(v.at(name), key, "must be UTF-8 without control characters"))
	}
}

// prefix checks a prefix that stands in IAM documents: '*', '?' and "${" would be taken
// as wildcards and variables there, and IAM takes no character beyond U+00FF
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
func (v *validator) prefix(name, prefix string) {
	v.key(name, prefix)
	switch {
	case strings.ContainsFunc(prefix, func(r rune) bool { return r > 0xff }):
		v.fail(field.Invalid(v.at(name), prefix, "has characters beyond U+00FF, which IAM takes in no policy document"))
	case strings.Contains(prefix, "$(") || strings.Contains(prefix, "$$"):
		v.fail(field.Invalid(v.at(name), prefix, "'$(' and '$$' would be filled in by Kubernetes in BUCKET_PREFIX; leave them out"))
	case strings.ContainsAny(prefix, "*?") || strings.Contains(prefix, "${"):
		v.fail(field.Invalid(v.at(name), prefix, "is literal: '*', '?' and '${' would be wildcards and variables in IAM; leave them out"))
	}
}

// reader checks that the demo reader can prove access with what the policy allows.
func (v *validator) reader(doc v1alpha1.BucketAccessPolicy) {
	key := doc.Reader.ProbeKey
	v.key("reader.probeKey", key)
	switch {
	case key != "" && !strings.HasPrefix(key, doc.Prefix):
		v.fail(field.Invalid(v.at("reader.probeKey"), key, fmt.Sprintf("is outside of the policy's prefix %q, so it can't be read", doc.Prefix)))
	case key == "" && doc.Reader.Inject && !slices.Contains(doc.Actions, "s3:ListBucket"):
		v.fail(field.Required(v.at("reader.probeKey"), "without s3:ListBucket in actions the reader proves access by an object: name one"))
	}
}

func (v *validator) actions(list []string) {
	at := v.at("actions")
	if len(list) == 0 {
		v.fail(field.Required(at, "list at least one action, or leave the key out for s3:GetObject and s3:ListBucket"))
	}
	seen := map[string]bool{}
	for i, action := range list {
		if _, known := iam.ActionLevel(action); !known {
			v.fail(field.NotSupported(at.Index(i), action, iam.Actions()))
		} else if seen[action] {
			v.fail(duplicate(at.Index(i), action))
		}
		seen[action] = true
	}
}

func duplicate(at *field.Path, value string) *field.Error {
	err := field.Duplicate(at, value)
	err.Detail = "list it once"
	return err
}

func (v *validator) env(names v1alpha1.EnvNames) {
	seen := map[string]string{}
	for _, f := range []struct{ key, name string }{
		{"env.bucketName", names.BucketName}, {"env.bucketRegion", names.BucketRegion}, {"env.bucketPrefix", names.BucketPrefix},
	} {
		at := v.at(f.key)
		switch {
		case !envPattern.MatchString(f.name):
			v.fail(field.Invalid(at, f.name, "is no variable's name: letters, digits and _, no digit first, 128 at most"))
		case strings.HasPrefix(f.name, "AWS_"):
			v.fail(field.Invalid(at, f.name, "names that begin with AWS_ belong to the SDKs"))
		case seen[f.name] != "":
			v.fail(field.Invalid(at, f.name, fmt.Sprintf("is the name of %s already", seen[f.name])))
		}
		seen[f.name] = f.key
	}
}
