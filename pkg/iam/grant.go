package iam

import "strings"

// Grant is what a role may do with a bucket, whatever the role's trust says.
type Grant struct {
	Role      RoleARN
	Bucket    string
	Region    string
	Prefix    string   // key prefix; empty is the whole bucket
	Actions   []string // known ones, see ActionLevel
	KMSKeyARN string   // empty when objects are not encrypted with a customer key
}

// prefixActions are the bucket level actions that know the condition key s3:prefix.
// Source: the Service Authorization Reference for Amazon S3.
var prefixActions = map[string]bool{"s3:ListBucket": true, "s3:ListBucketVersions": true}

// writeActions need a new data key where the bucket encrypts with KMS.
var writeActions = map[string]bool{"s3:PutObject": true}

// PermissionPolicy is the role's own policy: bucket level actions on the bucket, object
// level actions on its objects. Objects and listings are limited to the prefix; other
// actions on the bucket know no prefix.
func PermissionPolicy(g Grant) Document {
	document := Document{Version: PolicyVersion, Statement: g.statements(nil)}
	if g.KMSKeyARN != "" {
		statement := g.kmsStatement()
		statement.Resource = Values{g.KMSKeyARN}
		document.Statement = append(document.Statement, statement)
	}
	return document
}

// BucketPolicy is the optional half on the bucket's side. It is needed only where
// the bucket is in another account than the role; inside one account the role's own
// policy is enough.
func BucketPolicy(g Grant) Document {
	return Document{Version: PolicyVersion, Statement: g.statements(Principal{"AWS": {g.Role.String()}})}
}

// KMSKeyStatement is the statement for the key policy of the customer managed key.
func KMSKeyStatement(g Grant) Statement {
	statement := g.kmsStatement()
	statement.Principal, statement.Resource = Principal{"AWS": {g.Role.String()}}, Values{"*"}
	return statement
}

func (g Grant) statements(principal Principal) Statements {
	bucket := "arn:" + g.Role.partition + ":s3:::" + g.Bucket
	var listing, bucketWide, objects Values
	for _, action := range g.Actions {
		level, _ := ActionLevel(action)
		switch {
		case level == ObjectLevel:
			objects = append(objects, action)
		case prefixActions[action]:
			listing = append(listing, action)
		default:
			bucketWide = append(bucketWide, action)
		}
	}
	var all Statements
	add := func(sid string, actions Values, resource string, condition Condition) {
		if len(actions) > 0 {
			all = append(all, Statement{
				Sid: sid, Effect: Allow, Principal: principal, Action: actions, Resource: Values{resource}, Condition: condition,
			})
		}
	}
	var underPrefix Condition
	if g.Prefix != "" {
		underPrefix = Condition{"StringLike": {"s3:prefix": {g.Prefix + "*"}}}
	}
	add("ListBucket", listing, bucket, underPrefix)
	add("Bucket", bucketWide, bucket, nil)
	add("Objects", objects, bucket+"/"+g.Prefix+"*", nil)
	return all
}

// kmsStatement allows the key only through S3 in the bucket's region.
func (g Grant) kmsStatement() Statement {
	actions := Values{"kms:Decrypt"}
	for _, action := range g.Actions {
		if writeActions[action] {
			actions = append(actions, "kms:GenerateDataKey")
		}
	}
	return Statement{
		Sid: "KMSKey", Effect: Allow, Action: actions,
		Condition: Condition{"StringEquals": {"kms:ViaService": {"s3." + g.Region + "." + dnsSuffix(g.Region)}}},
	}
}

// dnsSuffix is the domain of a region's endpoints.
func dnsSuffix(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}
