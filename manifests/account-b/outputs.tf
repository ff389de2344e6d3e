output "role_arn" {
  description = "The roleARN of the policy in Account A."
  value       = aws_iam_role.this.arn
}

output "bucket" {
  description = "The bucket's name, once it is there."
  value       = var.create_bucket ? aws_s3_bucket.this[0].bucket : var.bucket
}

output "provider_arns" {
  description = "The OIDC provider of each issuer."
  value = merge(
    { for issuer, provider in aws_iam_openid_connect_provider.cluster : issuer => provider.arn },
    { for issuer, provider in data.aws_iam_openid_connect_provider.existing : issuer => provider.arn },
  )
}

output "trust_policy" {
  description = "The role's trust policy, JSON."
  value       = module.documents.trust_policy
}

output "permission_policy" {
  description = "The role's permission policy, JSON."
  value       = module.documents.permission_policy
}

output "bucket_policy" {
  description = "A bucket policy that lets the role in, JSON. Needed only where the bucket is in another account than the role; not attached."
  value       = module.documents.bucket_policy
}

output "kms_key_statement" {
  description = "A statement for the key policy of the customer managed key, JSON; null without a key. Not attached."
  value       = module.documents.kms_key_statement
}
