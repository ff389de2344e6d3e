# The S3 actions that a policy may name, by what their resource is: the same table as
# pkg/iam/actions.go. Source: the Service Authorization Reference for Amazon S3.
locals {
  # Bucket level actions that know the condition key s3:prefix.
  listing_actions = ["s3:ListBucket", "s3:ListBucketVersions"]

  bucket_actions = concat(local.listing_actions, [
    "s3:GetBucketLocation", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketOwnershipControls", "s3:GetBucketTagging",
    "s3:GetBucketVersioning", "s3:GetEncryptionConfiguration", "s3:GetInventoryConfiguration", "s3:GetLifecycleConfiguration",
    "s3:ListBucketMultipartUploads",
  ])

  object_actions = [
    "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectTagging", "s3:DeleteObjectVersion", "s3:DeleteObjectVersionTagging",
    "s3:GetObject", "s3:GetObjectAcl", "s3:GetObjectAttributes", "s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectTagging",
    "s3:GetObjectVersion", "s3:GetObjectVersionAcl", "s3:GetObjectVersionAttributes", "s3:GetObjectVersionTagging",
    "s3:ListMultipartUploadParts", "s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectLegalHold", "s3:PutObjectRetention",
    "s3:PutObjectTagging", "s3:PutObjectVersionAcl", "s3:PutObjectVersionTagging", "s3:RestoreObject",
  ]

  known_actions = sort(concat(local.bucket_actions, local.object_actions))
}
