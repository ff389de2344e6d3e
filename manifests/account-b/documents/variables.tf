# The same rules as pkg/iam and pkg/policy have. Nothing has a default: the module
# above gives everything.

variable "partition" {
  description = "The account's partition: aws, aws-cn, aws-us-gov, …"
  type        = string
  nullable    = false

  validation {
    condition = contains(["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"], var.partition)
    error_message = format(
      "partition: %q is none of aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f, aws-eusc.", var.partition,
    )
  }
}

variable "account_id" {
  description = "The 12 digits of the role's account."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = format("account_id: %q is not 12 digits.", var.account_id)
  }
}

variable "role_name" {
  description = "The role's name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,64}$", var.role_name))
    error_message = format("role_name: %q is not 1 to 64 of letters, digits and _+=,.@-.", var.role_name)
  }
}

variable "role_path" {
  description = "The role's path: /, or parts between slashes."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^/([!-.0-~]+/)*$", var.role_path)) && length(var.role_path) <= 512
    error_message = format("role_path: %q is not made of parts between slashes, like /teams/orders/, 512 characters at most.", var.role_path)
  }
}

variable "issuers" {
  description = "The token issuers, one https URL for each cluster."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.issuers) > 0
    error_message = "issuers: the list is empty; give the cluster's, as its /.well-known/openid-configuration says."
  }
  validation {
    condition = alltrue([for issuer in var.issuers : can(regex("^https://[^/?#@]+(/[^?#]*)?$", issuer))])
    error_message = format("issuers: %s is no issuer: an https URL without user, query and fragment.",
      join(", ", [for issuer in var.issuers : issuer if !can(regex("^https://[^/?#@]+(/[^?#]*)?$", issuer))]),
    )
  }
  validation {
    condition = alltrue([for issuer in var.issuers : !can(regex("^https://[^/?#@]*:", issuer))])
    error_message = format("issuers: %s has a port, and IAM takes none: serve the issuer's documents on 443.",
      join(", ", [for issuer in var.issuers : issuer if can(regex("^https://[^/?#@]*:", issuer))]),
    )
  }
  validation {
    condition     = alltrue([for issuer in var.issuers : can(regex("^([!-$&-~]|%[0-9A-Fa-f]{2})*$", issuer))])
    error_message = "issuers: there is a character that stands in no URL; write printable ASCII, and all else as %XX."
  }
  validation {
    condition = alltrue([for issuer in var.issuers : length(issuer) <= 255])
    error_message = format("issuers: %s has more than the 255 characters that IAM takes.",
      join(", ", [for issuer in var.issuers : "${substr(issuer, 0, 60)}…" if length(issuer) > 255]),
    )
  }
}

variable "audience" {
  description = "The audience of the projected token."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[!-~]{1,255}$", var.audience)) && !can(regex("\\$[{]", var.audience))
    error_message = format("audience: %q is no audience: 1 to 255 printable ASCII characters without spaces.", var.audience)
  }
}

variable "subjects" {
  description = "The ServiceAccounts; '*' and '?' as in IAM's StringLike."
  type        = list(object({ namespace = string, service_account = string }))
  nullable    = false

  validation {
    condition     = length(var.subjects) > 0
    error_message = "subjects: the list is empty; list at least one {namespace, service_account}."
  }
  validation {
    condition = alltrue([for subject in var.subjects : can(regex("^[a-z0-9*?]([a-z0-9*?-]{0,61}[a-z0-9*?])?$", subject.namespace))])
    error_message = format("subjects: namespace %s is no Kubernetes name: %s",
      join(", ", [for subject in var.subjects : format("%q", subject.namespace)
      if !can(regex("^[a-z0-9*?]([a-z0-9*?-]{0,61}[a-z0-9*?])?$", subject.namespace))]),
      "lower-case letters, digits and hyphens; '*' and '?' as in IAM's StringLike.",
    )
  }
  validation {
    condition = alltrue([for subject in var.subjects : can(regex("^[a-z0-9*?]([a-z0-9*?.-]{0,251}[a-z0-9*?])?$", subject.service_account))])
    error_message = format("subjects: service_account %s is no Kubernetes name: %s",
      join(", ", [for subject in var.subjects : format("%q", subject.service_account)
      if !can(regex("^[a-z0-9*?]([a-z0-9*?.-]{0,251}[a-z0-9*?])?$", subject.service_account))]),
      "lower-case letters, digits, dots and hyphens; '*' and '?' as in IAM's StringLike.",
    )
  }
}

variable "bucket" {
  description = "The bucket's name."
  type        = string
  nullable    = false

  validation {
    condition = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = format("bucket: %q is no bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, %s",
      var.bucket, "with a letter or digit at both ends.",
    )
  }
  validation {
    condition     = !strcontains(var.bucket, "..") && !can(regex("^[0-9]+(\\.[0-9]+){3}$", var.bucket))
    error_message = format("bucket: %q is no bucket name: two dots stand together, or it has the form of an IP address.", var.bucket)
  }
  validation {
    condition = !can(regex("^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|\\.mrap|--x-s3|--table-s3)$", var.bucket))
    error_message = format("bucket: %q begins or ends with what S3 reserves: %s %s.", var.bucket,
      "xn--, sthree- and amzn-s3-demo- at the beginning,", "-s3alias, --ol-s3, .mrap, --x-s3 and --table-s3 at the end",
    )
  }
}

variable "region" {
  description = "The bucket's region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", var.region))
    error_message = format("region: %q is no region's name; one is like eu-west-1.", var.region)
  }
}

variable "prefix" {
  description = "The key prefix that the access is limited to; empty is the whole bucket."
  type        = string
  nullable    = false

  # urlencode shows bytes: S3 counts them, length counts characters.
  validation {
    condition     = length(replace(urlencode(var.prefix), "/%[0-9A-F]{2}/", "x")) <= 1024
    error_message = "prefix: there are more than the 1024 bytes that an object's key has."
  }
  validation {
    condition     = !can(regex("\\p{Cc}", var.prefix))
    error_message = format("prefix: %q has a control character.", var.prefix)
  }
  validation {
    condition     = !can(regex("[^\\x{00}-\\x{ff}]", var.prefix))
    error_message = format("prefix: %q has characters beyond U+00FF, which IAM takes in no policy document.", var.prefix)
  }
  validation {
    condition     = !can(regex("\\$[$(]", var.prefix))
    error_message = format("prefix: %q has '$(' or '$$', which Kubernetes would fill in in BUCKET_PREFIX; leave them out.", var.prefix)
  }
  validation {
    condition     = !can(regex("[*?]|\\$[{]", var.prefix))
    error_message = format("prefix: %q is literal: '*', '?' and '$${' would be wildcards and variables in IAM; leave them out.", var.prefix)
  }
}

variable "actions" {
  description = "The S3 actions that the role may do."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.actions) > 0
    error_message = "actions: the list is empty; list at least one action."
  }
  validation {
    condition = alltrue([for action in var.actions : contains(local.known_actions, action)])
    error_message = format("actions: %s is none of %s.",
      join(", ", [for action in var.actions : action if !contains(local.known_actions, action)]), join(", ", local.known_actions),
    )
  }
  validation {
    condition     = length(distinct(var.actions)) == length(var.actions)
    error_message = format("actions: an action stands twice in %s; list it once.", join(", ", var.actions))
  }
}

variable "kms_key_arn" {
  description = "The customer managed key that encrypts the objects; empty is S3's own."
  type        = string
  nullable    = false

  validation {
    condition = var.kms_key_arn == "" || can(regex(join("", [
      "^arn:(aws|aws-cn|aws-us-gov|aws-iso|aws-iso-b|aws-iso-e|aws-iso-f|aws-eusc):kms:",
      "[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}:[0-9]{12}:key/[A-Za-z0-9-]{1,128}$",
    ]), var.kms_key_arn))
    error_message = format("kms_key_arn: %q is no ARN of a KMS key (an alias does not do); it is like %s.",
      var.kms_key_arn, "arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    )
  }
}

variable "trust_policy_quota" {
  description = "The account's quota for the length of a trust policy, in characters."
  type        = number
  nullable    = false

  validation {
    condition     = var.trust_policy_quota >= 2048 && floor(var.trust_policy_quota) == var.trust_policy_quota
    error_message = "trust_policy_quota: ${var.trust_policy_quota} is not a whole number of at least 2048, which every account has."
  }
}
