# What the documents are made from is checked once, in documents/variables.tf.

variable "bucket" {
  description = "The bucket's name."
  type        = string
  nullable    = false
}

variable "region" {
  description = "The bucket's region, like eu-west-1."
  type        = string
  nullable    = false
}

variable "create_bucket" {
  description = "false: the bucket is there already, and this module leaves it alone."
  type        = bool
  nullable    = false
  default     = true
}

variable "role_name" {
  description = "The role's name; its ARN is the roleARN of the policy in Account A."
  type        = string
  nullable    = false
}

variable "role_path" {
  description = "The role's path; part of its ARN."
  type        = string
  nullable    = false
  default     = "/"
}

variable "policy_name" {
  description = "The name of the policy in Account A. It ends the name of the role's inline policy, as kubectl bucket-access names it."
  type        = string
  nullable    = false
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$", var.policy_name))
    error_message = "policy_name: ${var.policy_name} is no policy's name: up to 63 letters, digits and _.-, with a letter or a digit at both ends."
  }
}

variable "issuers" {
  description = "The token issuers of the clusters, https URLs as each cluster's /.well-known/openid-configuration gives them."
  type        = list(string)
  nullable    = false
}

variable "existing_issuers" {
  description = "Those of issuers whose OIDC provider is in the account already: it is looked up instead of made."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition = alltrue([for issuer in var.existing_issuers : contains(var.issuers, issuer)])
    error_message = format("existing_issuers: %s is none of issuers: %s.",
      join(", ", [for issuer in var.existing_issuers : issuer if !contains(var.issuers, issuer)]), join(", ", var.issuers),
    )
  }
}

variable "subjects" {
  description = "The ServiceAccounts that may take the role; '*' and '?' as in IAM's StringLike."
  type        = list(object({ namespace = string, service_account = string }))
  nullable    = false
}

variable "audience" {
  description = "The audience of the projected token."
  type        = string
  nullable    = false
  default     = "sts.amazonaws.com"
}

variable "prefix" {
  description = "The key prefix that the access is limited to; empty is the whole bucket."
  type        = string
  nullable    = false
  default     = ""
}

variable "actions" {
  description = "The S3 actions that the role may do."
  type        = list(string)
  nullable    = false
  default     = ["s3:GetObject", "s3:ListBucket"]
}

variable "kms_key_arn" {
  description = "The customer managed key that encrypts the objects; empty is S3's own (AES256)."
  type        = string
  nullable    = false
  default     = ""
}

variable "max_session_duration" {
  description = "The longest session of the role, in seconds: 3600 to 43200."
  type        = number
  nullable    = false
  default     = 3600

  validation {
    condition = (
      var.max_session_duration >= 3600 && var.max_session_duration <= 43200 && floor(var.max_session_duration) == var.max_session_duration
    )
    error_message = "max_session_duration: ${var.max_session_duration} is not a whole number of seconds from 3600 to 43200."
  }
}

variable "permissions_boundary" {
  description = "The ARN of a managed policy that bounds the role; null is none."
  type        = string
  default     = null

  validation {
    condition = (
      var.permissions_boundary == null ? true : can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[!-~]{1,512}$", var.permissions_boundary))
    )
    error_message = format(
      "permissions_boundary: %q is no ARN of a managed policy; it is like arn:aws:iam::222222222222:policy/boundary.",
      var.permissions_boundary == null ? "" : var.permissions_boundary,
    )
  }
}

variable "trust_policy_quota" {
  description = "The account's quota for the length of a trust policy, in characters; AWS's default is 2048, and an account can have it raised."
  type        = number
  nullable    = false
  default     = 2048
}

variable "tags" {
  description = "Tags of the bucket, the role and the providers."
  type        = map(string)
  nullable    = false
  default     = {}
}
