# Two clusters of Account A read the bucket orders-data of Account B. Apply it with
# credentials of Account B.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}

provider "aws" {
  region              = "eu-west-1"
  allowed_account_ids = ["222222222222"] # Account B
}

module "orders" {
  source = "../.."

  bucket    = "orders-data"
  region    = "eu-west-1"
  role_name = "s3-reader-role"

  issuers = [
    "https://oidc.eks.eu-west-1.amazonaws.com/id/11111111111111111111111111111111",
    "https://oidc.eks.eu-central-1.amazonaws.com/id/22222222222222222222222222222222",
  ]

  # The second cluster's provider is there already: another role uses it.
  existing_issuers = ["https://oidc.eks.eu-central-1.amazonaws.com/id/22222222222222222222222222222222"]

  subjects = [
    { namespace = "default", service_account = "api-sa" },
    { namespace = "shop", service_account = "*" },
  ]
}

output "role_arn" {
  description = "The roleARN of the policy in both clusters."
  value       = module.orders.role_arn
}
