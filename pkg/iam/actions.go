package iam

import (
	"maps"
	"slices"
)

// Level is what an S3 action's resource is: the bucket, or the objects in it.
type Level string

// The levels of S3 actions.
const (
	BucketLevel Level = "bucket"
	ObjectLevel Level = "object"
)

// actions is the table of S3 actions that a policy may name. Source: the Service
// Authorization Reference for Amazon S3; administration of buckets is left out on
// purpose, this is access to data.
func actions() map[string]Level {
	table := map[string]Level{}
	for _, name := range []string{
		"GetBucketLocation", "GetBucketObjectLockConfiguration", "GetBucketOwnershipControls", "GetBucketTagging",
		"GetBucketVersioning", "GetEncryptionConfiguration", "GetInventoryConfiguration", "GetLifecycleConfiguration",
		"ListBucket", "ListBucketMultipartUploads", "ListBucketVersions",
	} {
		table["s3:"+name] = BucketLevel
	}
	for _, name := range []string{
		"AbortMultipartUpload", "DeleteObject", "DeleteObjectTagging", "DeleteObjectVersion", "DeleteObjectVersionTagging",
		"GetObject", "GetObjectAcl", "GetObjectAttributes", "GetObjectLegalHold", "GetObjectRetention", "GetObjectTagging",
		"GetObjectVersion", "GetObjectVersionAcl", "GetObjectVersionAttributes", "GetObjectVersionTagging",
		"ListMultipartUploadParts", "PutObject", "PutObjectAcl", "PutObjectLegalHold", "PutObjectRetention",
		"PutObjectTagging", "PutObjectVersionAcl", "PutObjectVersionTagging", "RestoreObject",
	} {
		table["s3:"+name] = ObjectLevel
	}
	return table
}

var actionTable = actions()

// ActionLevel returns the level of a known action, written as IAM writes it (s3:GetObject).
func ActionLevel(action string) (Level, bool) {
	level, ok := actionTable[action]
	return level, ok
}

// Actions lists the known actions in order.
func Actions() []string { return slices.Sorted(maps.Keys(actionTable)) }
