output "trust_policy" {
  description = "The role's trust policy, JSON."
  value       = jsonencode(local.trust_policy)

  # There is no white space in it, so its length is what IAM counts.
  precondition {
    condition = length(jsonencode(local.trust_policy)) <= var.trust_policy_quota
    error_message = format(
      "The trust policy has %d characters and the quota is %d: use fewer subjects or a wildcard, split the issuers over several roles, %s",
      length(jsonencode(local.trust_policy)), var.trust_policy_quota, "or have the account's quota raised and set trust_policy_quota.",
    )
  }
}

output "permission_policy" {
  description = "The role's permission policy, JSON."
  value = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.statements, [for arn in [var.kms_key_arn] : merge(local.kms_statement, { Resource = arn }) if arn != ""])
  })
}

output "bucket_policy" {
  description = "The optional half on the bucket's side, JSON."
  value = jsonencode({
    Version   = "2012-10-17"
    Statement = [for statement in local.statements : merge(statement, local.role_principal)]
  })
}

output "kms_key_statement" {
  description = "The statement for the key policy of the customer managed key, JSON; null without a key."
  value       = var.kms_key_arn == "" ? null : jsonencode(merge(local.kms_statement, local.role_principal, { Resource = "*" }))
}
