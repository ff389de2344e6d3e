terraform {
  required_version = ">= 1.9" # conditions of variables refer to other values

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0" # resources have an argument region
    }
  }
}
