# The IAM documents as plain expressions: no provider, so they can be evaluated anywhere.
# They say the same as pkg/iam; e2e/terraform holds them equal.

locals {
  role_arn   = "arn:${var.partition}:iam::${var.account_id}:role${var.role_path}${var.role_name}"
  bucket_arn = "arn:${var.partition}:s3:::${var.bucket}"

  # All subjects stand under StringLike as soon as one has a wildcard: two operators in
  # one Condition are ANDed, so exact subjects beside patterns would match nothing.
  subjects         = sort(distinct([for subject in var.subjects : "system:serviceaccount:${subject.namespace}:${subject.service_account}"]))
  subject_operator = anytrue([for subject in local.subjects : can(regex("[*?]", subject))]) ? "StringLike" : "StringEquals"
  claims = {
    aud = { operator = "StringEquals", values = var.audience }
    # One subject is a plain text: two characters less for the quota.
    sub = { operator = local.subject_operator, values = jsondecode(length(local.subjects) == 1 ? jsonencode(local.subjects[0]) : jsonencode(local.subjects)) }
  }

  # One statement for each issuer: its condition keys are the issuer's own.
  trust_policy = {
    Version = "2012-10-17"
    Statement = [
      for host in [for issuer in sort(distinct(var.issuers)) : trimprefix(issuer, "https://")] : {
        Effect    = "Allow"
        Principal = { Federated = "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${host}" }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          for operator in distinct(["StringEquals", local.subject_operator]) : operator => {
            for name, claim in local.claims : "${host}:${name}" => claim.values if claim.operator == operator
          }
        }
      }
    ]
  }

  # Bucket level actions on the bucket, object level actions on its objects, both
  # limited to the prefix.
  statements = [
    for statement in [
      merge(
        { Sid = "ListBucket", Effect = "Allow", Resource = local.bucket_arn },
        { Action = [for action in var.actions : action if contains(local.listing_actions, action)] },
        { for pattern in ["${var.prefix}*"] : "Condition" => { StringLike = { "s3:prefix" = pattern } } if var.prefix != "" },
      ),
      {
        Sid = "Bucket", Effect = "Allow", Resource = local.bucket_arn
        Action = [
          for action in var.actions : action if contains(local.bucket_actions, action) && !contains(local.listing_actions, action)
        ]
      },
      {
        Sid    = "Objects", Effect = "Allow", Resource = "${local.bucket_arn}/${var.prefix}*"
        Action = [for action in var.actions : action if contains(local.object_actions, action)]
      },
    ] : statement if length(statement.Action) > 0
  ]

  # The key only through S3 in the bucket's region; writing needs a new data key.
  kms_statement = {
    Sid       = "KMSKey"
    Effect    = "Allow"
    Action    = [for action in ["kms:Decrypt", "kms:GenerateDataKey"] : action if action == "kms:Decrypt" || contains(var.actions, "s3:PutObject")]
    Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.${startswith(var.region, "cn-") ? "amazonaws.com.cn" : "amazonaws.com"}" } }
  }

  role_principal = { Principal = { AWS = local.role_arn } }
}
