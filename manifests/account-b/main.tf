# What Account B needs, so that Pods of other accounts' clusters can use its bucket.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

module "documents" {
  source = "./documents"

  partition          = data.aws_partition.current.partition
  account_id         = data.aws_caller_identity.current.account_id
  role_name          = var.role_name
  role_path          = var.role_path
  issuers            = var.issuers
  audience           = var.audience
  subjects           = var.subjects
  bucket             = var.bucket
  region             = var.region
  prefix             = var.prefix
  actions            = var.actions
  kms_key_arn        = var.kms_key_arn
  trust_policy_quota = var.trust_policy_quota
}

# An account has one provider for an issuer, whatever the number of roles that use it.
# Thumbprints are left to AWS: it needs one only where no public CA signed the issuer's
# certificate, and fetches it itself.
resource "aws_iam_openid_connect_provider" "cluster" {
  for_each = setsubtract(var.issuers, var.existing_issuers)

  url            = each.value
  client_id_list = [var.audience]
  tags           = var.tags
}

data "aws_iam_openid_connect_provider" "existing" {
  for_each = toset(var.existing_issuers)

  url = each.value

  lifecycle {
    postcondition {
      condition     = contains(self.client_id_list, var.audience)
      error_message = "The OIDC provider of ${each.value} does not list the audience ${var.audience}: add it to its client IDs."
    }
  }
}

resource "aws_iam_role" "this" {
  name                 = var.role_name
  path                 = var.role_path
  description          = "Pods of other accounts' clusters use the bucket ${var.bucket}."
  assume_role_policy   = module.documents.trust_policy
  max_session_duration = var.max_session_duration
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags

  # A role without its providers would trust what does not exist.
  depends_on = [aws_iam_openid_connect_provider.cluster, data.aws_iam_openid_connect_provider.existing]
}

resource "aws_iam_role_policy" "this" {
  name   = var.policy_name == "" ? "bucket-access" : "bucket-access-${var.policy_name}"
  role   = aws_iam_role.this.name
  policy = module.documents.permission_policy
}

resource "aws_s3_bucket" "this" {
  count = var.create_bucket ? 1 : 0

  region = var.region
  bucket = var.bucket
  tags   = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  count = var.create_bucket ? 1 : 0

  region                  = var.region
  bucket                  = aws_s3_bucket.this[0].bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# No ACLs: every object is the bucket owner's, and only policies decide.
resource "aws_s3_bucket_ownership_controls" "this" {
  count = var.create_bucket ? 1 : 0

  region = var.region
  bucket = aws_s3_bucket.this[0].bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  count = var.create_bucket ? 1 : 0

  region = var.region
  bucket = aws_s3_bucket.this[0].bucket

  rule {
    bucket_key_enabled = var.kms_key_arn != ""

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn == "" ? null : var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  count = var.create_bucket ? 1 : 0

  region = var.region
  bucket = aws_s3_bucket.this[0].bucket

  versioning_configuration {
    status = "Enabled"
  }
}
