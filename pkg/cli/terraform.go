package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// terraform is what Account B needs as resources of Terraform or OpenTofu. The module
// manifests/account-b does more (it can make the bucket); this stands alone.
func (a *account) terraform() []byte {
	file := hclwrite.NewEmptyFile()
	in, body := a.input(), file.Body()
	comment(body, fmt.Sprintf("What account %s needs for policy %q.", a.Role.Account(), a.Name))
	own := identifier(a.Name)
	var providers []hclwrite.Tokens
	for i, provider := range in.Providers {
		name := own
		if len(in.Providers) > 1 {
			name = fmt.Sprintf("%s_%d", own, i+1)
		}
		body.AppendNewline()
		if i == 0 {
			comment(body, "An account has one provider for an issuer: where another policy's file makes it, leave provider out of --with.")
		}
		resource := body.AppendNewBlock("resource", []string{"aws_iam_openid_connect_provider", name}).Body()
		set(resource, "url", cty.StringVal(provider.URL))
		set(resource, "client_id_list", cty.ListVal([]cty.Value{cty.StringVal(a.Audience)}))
		providers = append(providers, reference("aws_iam_openid_connect_provider."+name))
	}
	role := block(body, "aws_iam_role", own)
	set(role, "name", cty.StringVal(in.Role.RoleName))
	set(role, "path", cty.StringVal(in.Role.Path))
	set(role, "description", cty.StringVal(in.Role.Description))
	setDocument(role, "assume_role_policy", a.trust)
	if len(providers) > 0 {
		role.AppendNewline()
		comment(role, "A role without its providers would trust what does not exist.")
		role.SetAttributeRaw("depends_on", hclwrite.TokensForTuple(providers))
	}
	if in.RolePolicy != nil {
		resource := block(body, "aws_iam_role_policy", own)
		set(resource, "name", cty.StringVal(in.RolePolicy.PolicyName))
		resource.SetAttributeRaw("role", reference("aws_iam_role."+own+".name"))
		setDocument(resource, "policy", in.RolePolicy.PolicyDocument)
	}
	if in.BucketPolicy != nil {
		body.AppendNewline()
		comment(body, "Needed only where the bucket is in another account than the role; it is the bucket's whole policy.")
		resource := body.AppendNewBlock("resource", []string{"aws_s3_bucket_policy", own}).Body()
		set(resource, "region", cty.StringVal(a.Region))
		set(resource, "bucket", cty.StringVal(a.Bucket))
		setDocument(resource, "policy", in.BucketPolicy.Policy)
	}
	if in.KeyStatement != nil {
		body.AppendNewline()
		comment(body, "Add this statement to the policy of the key "+a.KMSKeyARN+".")
		output := body.AppendNewBlock("output", []string{own + "_kms_key_statement"}).Body()
		statement := iam.Document{Version: iam.PolicyVersion, Statement: iam.Statements{*in.KeyStatement}}
		setDocument(output, "value", statement)
	}
	return hclwrite.Format(file.Bytes())
}

// identifier is a policy's name as Terraform takes it for resources: without dots, and
// with no digit at its beginning. So several policies stand in one directory.
func identifier(name string) string {
	name = strings.ReplaceAll(name, ".", "_")
	if name[0] >= '0' && name[0] <= '9' {
		return "policy_" + name
	}
	return name
}

func block(body *hclwrite.Body, kind, name string) *hclwrite.Body {
	body.AppendNewline()
	return body.AppendNewBlock("resource", []string{kind, name}).Body()
}

func set(body *hclwrite.Body, name string, value cty.Value) { body.SetAttributeValue(name, value) }

// setDocument writes a document as a call of jsonencode, as people write them.
func setDocument(body *hclwrite.Body, name string, document iam.Document) {
	text, err := json.Marshal(document)
	if err != nil {
		panic("cli: documents always marshal: " + err.Error())
	}
	kind, err := ctyjson.ImpliedType(text)
	if err != nil {
		panic("cli: documents are JSON: " + err.Error())
	}
	value, err := ctyjson.Unmarshal(text, kind)
	if err != nil {
		panic("cli: documents are JSON: " + err.Error())
	}
	body.SetAttributeRaw(name, hclwrite.TokensForFunctionCall("jsonencode", hclwrite.TokensForValue(value)))
}

func comment(body *hclwrite.Body, text string) {
	body.AppendUnstructuredTokens(hclwrite.Tokens{{Type: hclsyntax.TokenComment, Bytes: []byte("# " + strings.ReplaceAll(text, "\n", " ") + "\n")}})
}

// reference is a name as it stands in HCL.
func reference(name string) hclwrite.Tokens {
	return hclwrite.Tokens{{Type: hclsyntax.TokenIdent, Bytes: []byte(name)}}
}
